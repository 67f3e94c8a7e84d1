"""What a page asks, as JSON, and what it is answered: an object of JSON, or a file to save."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from starlette.responses import Response
from torch import Tensor

from pgvae.checks import require, require_choice
from pgvae.explore import shown
from pgvae.explore.explorer import Explorer
from pgvae.explore.points import (
    MOST_FRAMES,
    MOST_POINTS,
    Point,
    entry,
    read_point,
    read_points,
    whole,
)
from pgvae.pictures import check_animation

_SIDE = 1024  # px of a picture, at most
_MOST_AT = 2**40
_KINDS = {
    "png": "image/png",
    "gif": "image/gif",
    "mp4": "video/mp4",
    "npz": "application/octet-stream",
}

Asked = Mapping[str, Any]


class Answers:
    """A method for each name that may be asked for. InputError for what cannot be answered."""

    NAMES: ClassVar = (
        *("about", "look", "reconstruction", "originals"),
        *("between", "walk", "ends", "nearest", "save"),
    )

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer

    def about(self, _: Asked) -> dict[str, Any]:
        """The model, and what there is to look at."""
        return self._explorer.about()

    def look(self, asked: Asked) -> dict[str, Any]:
        """Pictures of `points`, at most `side` px; how sure each attribute is of each."""
        points = read_points(asked, "points", 1, MOST_POINTS)
        found = self._explorer.look(points, _at(asked))
        sure = None if found.sure is None else found.sure.tolist()
        return {"images": _small(asked, found.images), "sure": sure}

    def reconstruction(self, asked: Asked) -> dict[str, Any]:
        """The image of `point`, what comes back, where they differ, and by how much."""
        found = self._explorer.reconstruction(read_point(asked.get("point")), _at(asked))
        original, again = shown.addresses(found.image), shown.addresses(found.again)
        return {
            "original": original[0],
            "again": again[0],
            "error": shown.error_address(found.image, found.again),
            "psnr": min(found.psnr, 999.0),  # JSON has no infinity
            "rmse": found.rmse,
        }

    def originals(self, asked: Asked) -> dict[str, Any]:
        """The images that `points` are of, as they are."""
        points = read_points(asked, "points", 1, MOST_POINTS)
        require(all(p.kind != "seed" for p in points), "a sample is no image")
        return {"images": _small(asked, self._explorer.images(points))}

    def upload(self, data: bytes) -> dict[str, Any]:
        """An image that was sent: its id, and how the model sees it."""
        key = self._explorer.uploads.add(data)
        [picture] = shown.addresses(self._explorer.images([Point("image", key)]))
        return {"image": key, "picture": picture}

    def between(self, asked: Asked) -> dict[str, Any]:
        """The line or square between `corners`, and how many pictures a row has."""
        corners, images, columns = self._between(asked)
        return {"images": _small(asked, images), "columns": columns, "corners": len(corners)}

    def walk(self, asked: Asked) -> dict[str, Any]:
        """The frames of a walk through `corners` and back."""
        return {"images": _small(asked, self._walk(asked)[1])}

    def ends(self, _: Asked) -> dict[str, Any]:
        """For each attribute and each component four pictures, from one end to the other."""
        found = self._explorer.ends()
        pictures = {part: [shown.addresses(row) for row in rows] for part, rows in found.items()}
        components = self._explorer.components()
        of = "training images" if self._explorer.store else "samples"
        return {**pictures, "shares": components.shares.tolist(), "of": of}

    def nearest(self, asked: Asked) -> dict[str, Any]:
        """The training images nearest to what `point` shows, and how far they are."""
        found = self._explorer.nearest(read_point(asked.get("point")), _at(asked))
        return {
            "images": _small(asked, found.images),
            "names": found.names,
            "distances": found.distances,
        }

    def save(self, asked: Asked) -> Response:
        """A file: "picture" of `points` or "latents" of them, "between" or "walk" of `corners`."""
        ways: dict[str, Callable[[Asked], tuple[list[Point], bytes, str]]] = {
            "picture": self._save_picture,
            "latents": self._save_latents,
            "between": self._save_between,
            "walk": self._save_walk,
        }
        what = entry(asked, "what", str)
        require_choice("what", what, tuple(ways))
        content, name = ways[what](asked)
        disposition = f'attachment; filename="{name}"'
        kind = _KINDS[name.rpartition(".")[2]]
        return Response(content, media_type=kind, headers={"Content-Disposition": disposition})

    def _save_picture(self, asked: Asked) -> tuple[bytes, str]:
        points = read_points(asked, "points", 1, MOST_POINTS)
        images = self._explorer.look(points, _at(asked)).images
        return shown.png(images), f"{_name_of(points)}.png"

    def _save_latents(self, asked: Asked) -> tuple[bytes, str]:
        points = read_points(asked, "points", 1, MOST_POINTS)
        words = [point.words() for point in points]
        latents = self._explorer.latents(points)
        return shown.archive(latents, words, self._explorer.said()), f"{_name_of(points)}.npz"

    def _save_between(self, asked: Asked) -> tuple[bytes, str]:
        _, images, columns = self._between(asked)
        return shown.png(images, columns), "between.png"

    def _save_walk(self, asked: Asked) -> tuple[bytes, str]:
        ending = entry(asked, "ending", str)
        check_animation(ending)
        fps = whole(asked, "fps", 1, 60)
        return shown.animation(self._walk(asked)[1], ending, fps), f"walk.{ending}"

    def _between(self, asked: Asked) -> tuple[list[Point], Tensor, int]:
        corners = read_points(asked, "corners", 2, 4)
        steps = whole(asked, "steps", 2, 16)
        return corners, self._explorer.between(corners, steps, _at(asked)), steps

    def _walk(self, asked: Asked) -> tuple[list[Point], Tensor]:
        corners = read_points(asked, "corners", 2, 4)
        steps = whole(asked, "steps", 1, MOST_FRAMES // len(corners))
        return corners, self._explorer.walk(corners, steps, _at(asked))


def _at(asked: Asked) -> int | None:
    """After how many images the snapshot was made that draws; None: the newest."""
    return None if asked.get("at") is None else whole(asked, "at", 0, _MOST_AT)


def _small(asked: Asked, images: Tensor) -> list[str]:
    return shown.addresses(shown.reduced(images, whole(asked, "side", 8, _SIDE, _SIDE)))


def _name_of(points: list[Point]) -> str:
    """Of a file: what the first one is, and how many there are."""
    first = f"{points[0].kind}-{points[0].key}"
    return first if len(points) == 1 else f"{first}-and-{len(points) - 1}-more"
