"""The pictures of a run for a page that is one file: small, and as data: URIs."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pgvae.data.images import decode
from pgvae.files import content_of
from pgvae.report.collect import Run
from pgvae.report.looks import Look

_MAX_SIDE = 1024  # pixels of a picture in the page
_LOSSLESS_SIDE = 512  # up to which the page has every pixel; above, WebP may lose what none sees
_KINDS = (
    ("fakes", "Samples", "Drawn from the same noise each time."),
    ("reconstructions", "Reconstructions", "Of the same images each time."),
)


def album(
    run: Run, count: int, interpolation: tuple[bytes, str] | None, looks: Sequence[Look] = ()
) -> tuple[list, list]:
    """The newest pictures of a run, and for each kind of grid title, text and earlier ones.

    A picture is (title, text, data: URI). Of earlier grids there are at most `count` - 1, evenly
    chosen; what cannot be read is left out, and the notes of the run say so. looks: come last.
    """
    newest, strips = [], []
    for kind, title, same in _KINDS:
        grids, shown = list(run.grids.get(kind, ())), None
        while grids and not shown:
            images, path = grids.pop()
            shown = _picture(run, path, title, _when(run, images))
        newest.append(shown)
        places = np.linspace(0, len(grids), min(count, len(grids) + 1)).round().astype(int)[:-1]
        title = f"Earlier {title.lower()}"
        found = [_picture(run, p, title, _when(run, i)) for i, p in (grids[k] for k in places)]
        if any(found):
            some = f"{len(places) + 1} of {len(grids) + 1}, the newest above. "
            strips.append((title, some * (len(grids) >= count) + same, list(filter(None, found))))
    if (run.path / "reals.png").is_file():
        reals = _picture(run, run.path / "reals.png", "Real images", "of the training data")
        newest.insert(1, reals)
    there = filter(Path.is_file, run.path.glob("interpolation*.png"))
    own = sorted(there, key=lambda p: (p.stat().st_mtime, p.name))
    if interpolation or own:
        png, about = interpolation or (own[-1], own[-1].name)
        newest.append(_picture(run, png, "Interpolation", about))
    newest += [_picture(run, look.png, look.title, look.about) for look in looks]
    return list(filter(None, newest)), strips


def kimg(images: float) -> str:
    """Images in thousands: 6, 8.512, 1,250."""
    return f"{round(images) / 1000:,.3f}".rstrip("0").rstrip(".")


def _picture(run: Run, source: Path | bytes, title: str, about: str) -> tuple | None:
    """Title, text and a data: URI of WebP; None, and a note, for what is no picture."""
    with run.noting(f"{getattr(source, 'name', f'the picture {title!r}')} could not be read"):
        image = decode(source if isinstance(source, bytes) else content_of(source)).image
        image.thumbnail((_MAX_SIDE, _MAX_SIDE))
        file = io.BytesIO()
        image.save(file, "WEBP", lossless=max(image.size) <= _LOSSLESS_SIDE, quality=90)
        return title, about, f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return None


def _when(run: Run, images: int) -> str:
    """After how many images, and in which stage by the log."""
    at = {n: v for n in ("resolution", "alpha") for i, v in run.series.get(n, ()) if i <= images}
    stage = f", {at['resolution']:g} px" if "resolution" in at else ""
    fading = f", alpha {at['alpha']:.2f}" if at.get("alpha", 1) < 0.995 else ""
    return f"{kimg(images)} kimg{stage}{fading}"
