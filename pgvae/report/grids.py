"""The pictures of a run: what it makes now, and how that came about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgvae.errors import InputError
from pgvae.report.collect import Picture, Run, evenly, last_stage
from pgvae.report.embed import Embedded, embed
from pgvae.report.markup import Html, tag
from pgvae.report.numbers import kimg

_LARGE, _THUMB = 512, 256  # pixels a side in a wide window
_ROWS = "a row as they are, below it as they come back"
_SAME = {
    "fakes": "Drawn from the same latents each time.",
    "reconstructions": f"The same images each time: {_ROWS}.",
}


@dataclass(frozen=True)
class Interpolation:
    """A picture of the way between images, as the bytes of a PNG, and what its corners are."""

    png: bytes
    about: str


class Album:
    """Embeds the pictures of one run, each once.

    notes:   what could not be read.
    changed: whether the page has fewer pixels, or others, than a file.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._used: dict[str, int] = {}  # grids up to the one that `newest` shows
        self.notes: list[str] = []
        self.changed = False

    def newest(self, interpolation: Interpolation | None) -> list[Html]:
        """Samples, real images, reconstructions and an interpolation, as far as there are any."""
        run = self._run
        parts = [self._last("fakes", "Samples", "")]
        if run.reals:
            parts.append(self._large(run.reals, "Real images", "of the training data"))
        parts.append(self._last("reconstructions", "Reconstructions", f"; {_ROWS}"))
        if interpolation:
            parts.append(self._large(interpolation.png, "Interpolation", interpolation.about))
        elif run.interpolation:
            parts.append(self._large(run.interpolation, "Interpolation", run.interpolation.name))
        return [part for part in parts if part]

    def earlier(self, kind: str, title: str, count: int) -> Html | None:
        """A strip of `count` - 1 grids, evenly chosen, without the one that `newest` shows."""
        pictures: Sequence[Picture] = getattr(self._run, kind)
        shown = evenly(pictures[: self._used.get(kind, 0)], count)[:-1]
        figures = [self._thumb(picture, title) for picture in shown]
        if not any(figures):
            return None
        some = f"{len(shown) + 1} of {len(pictures)}, the newest above. "
        said = _SAME[kind] if len(pictures) <= count else some + _SAME[kind]
        return tag(
            "section",
            tag("h3", title, tag("span", said, class_="unit")),
            tag("div", figures, class_="strip"),
        )

    def _last(self, kind: str, title: str, more: str) -> Html | None:
        """The newest grid that can be read."""
        pictures: Sequence[Picture] = getattr(self._run, kind)
        for used in range(len(pictures), 0, -1):
            picture = pictures[used - 1]
            shown = self._large(picture.path, title, self._when(picture) + more)
            if shown:
                self._used[kind] = used
                return shown
        return None

    def _large(self, source: Path | bytes, title: str, about: str) -> Html | None:
        name = source.name if isinstance(source, Path) else "the interpolation"
        caption = [title, tag("span", about)]
        return self._figure(source, name, caption, f"{title}: {about}", _LARGE)

    def _thumb(self, picture: Picture, title: str) -> Html | None:
        when = self._when(picture)
        return self._figure(picture.path, picture.path.name, [when], f"{title}: {when}", _THUMB)

    def _figure(
        self, source: Path | bytes, name: str, caption: list[object], alt: str, side: int
    ) -> Html | None:
        try:
            picture = embed(source, name)
        except InputError as error:
            self.notes.append(f"{error}.")
            return None
        self.changed |= not picture.exact
        image = _zoomable(picture, alt, side)
        return tag("figure", tag("figcaption", caption), image, class_="picture")

    def _when(self, picture: Picture) -> str:
        """After how many images, and in which stage."""
        text = f"{kimg(picture.images_seen)} kimg"
        if self._run.schedule is None:
            return text
        stage = last_stage(self._run.schedule, picture.images_seen)
        fading = f", alpha {stage.alpha:.2f}" if stage.alpha < 0.995 else ""
        return f"{text}, {stage.resolution} px{fading}"


def _zoomable(picture: Embedded, alt: str, side: int) -> Html:
    """A picture that fills the window while its checkbox is on; needs no script."""
    # Enlarged pixels stay squares; fewer pixels than there are would come out uneven.
    smooth = "fine" if picture.width > side else "half" if picture.width > side / 2 else None
    return tag(
        "label",
        tag("input", type="checkbox", aria_label=f"Enlarge: {alt}"),
        tag(
            "img",
            src=picture.uri,
            width=picture.width,
            height=picture.height,
            alt=alt,
            class_=smooth,
        ),
    )
