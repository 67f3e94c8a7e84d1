"""Which snapshot of a run is the best, and by what."""

import json
from typing import NamedTuple

from pgvae.report.collect import Run

_FILE, _ABOUT = "best.safetensors", "best.json"


class Best(NamedTuple):
    """Images seen of the best look, and why it is that."""

    images: float
    why: str


def best_of(run: Run) -> Best | None:
    """The snapshot that the run keeps as its best; where it keeps none, the look with the highest
    PSNR. None where there was none, or best.json is damaged, which a note says.

    A look is compared with others at its resolution alone.
    """
    if (run.path / _ABOUT).is_file():
        with run.noting(f"{_ABOUT} could not be read"):
            about = json.loads((run.path / _ABOUT).read_text(encoding="utf-8"))
            images, value = float(about["images_seen"]), float(about["value"])
            looks = [look for _, look in run.in_stage_of(f"metric/{about['metric']}", images)]
            return Best(images, f"{_FILE}: {about['metric']} {value:.4g}{_among(value, looks)}")
        return None
    for split, what in (("val", "unseen"), ("train", "training")):
        points = run.series.get(f"{split}/psnr", [])
        own = run.in_stage_of(f"{split}/psnr", points[-1][0]) if points else []
        looks = [(value, images) for images, value in own if value == value]
        if looks:
            value, images = max(looks)
            among = _among(value, [v for v, _ in looks])
            return Best(images, f"PSNR of {what} images {value:.4g} dB{among}; no metric decides")
    return None


def _among(value: float, looks: list[float]) -> str:
    """Where a figure stands among the looks at one resolution, where they tell."""
    fine = [look for look in looks if look == look]
    if len(fine) < 2 or value not in (min(fine), max(fine)):
        return ""
    return f", the {'lowest' if value == min(fine) else 'highest'} of {len(fine)} at its resolution"
