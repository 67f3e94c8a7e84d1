"""What the tests of the report share: run directories made by hand, and pages taken apart."""

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pgvae.config import ModelConfig, RunConfig
from pgvae.report import Interpolation, write_report
from pgvae.schedule import Schedule

NOW = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
START = 1_714_978_800.0  # 2024-05-06 07:00 UTC
VOID = {"br", "img", "input", "link", "meta"}


def schedule(**changes: Any) -> Schedule:
    """4 px to 2 kimg, 8 px fading to 3 and stable to 4, 16 px fading to 5, until 8 kimg."""
    values = {
        "resolutions": (4, 8, 16),
        "batch_sizes": (16, 16, 16),
        "learning_rates": (1e-3, 1e-3, 1e-3),
        "first_kimg": 2.0,
        "fade_kimg": 1.0,
        "stable_kimg": 1.0,
        "total_kimg": 8.0,
    }
    return Schedule(**{**values, **changes})


def config(dataset: str = "faces", **changes: Any) -> RunConfig:
    """A run of PIONEER on that schedule."""
    values = {
        "dataset": dataset,
        "dataset_digest": "0123456789abcdef" * 4,
        "model": ModelConfig(resolution=16, latent_dim=8, fmap_max=8),
        "schedule": schedule(),
        "objective": {"name": "pioneer", "lambda_x": 10.0, "lambda_z": 1000.0},
        "snapshot_kimg": 2.0,
    }
    return RunConfig(**{**values, **changes})


def tick(images: int, **values: float) -> dict[str, float]:
    """A line of the log after that many images, at 10 images a second."""
    usual = {"resolution": 4, "alpha": 1.0, "lr": 1e-3, "img_per_s": 10.0, "skipped_steps": 0}
    return {"images": images, "time": START + images / 10, **usual, **values}


def ticks(until: int = 8000, every: int = 100) -> list[dict[str, float]]:
    """A log of a game whose encoder and generator disagree a little."""
    return [
        tick(
            n, **{"encoder/rec": 1 + 2000 / n, "generator/rec": 2 + n / 4000, "encoder/kl": -n / 7}
        )
        for n in range(every, until + 1, every)
    ]


def shown(images: int) -> dict[str, float]:
    """The line of a snapshot."""
    figures = {"val/psnr": 20.125 + images / 8000, "val/psnr_gain": 5.5, "val/rmse": 12.345}
    more = {"val/accuracy glasses": 0.875, "metric/swd": 40.5, "metric/swd floor": 3.25}
    return {"images": images, "time": START + images / 10 + 1, **figures, **more}


def picture(path: Path, side: int = 4, seed: int = 0) -> Path:
    """A grid of 8 x 8 random images of `side` px, enlarged to 64 px each."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8 * side, 8 * side, 3), dtype=np.uint8)
    factor = max(1, 64 // side)
    Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1)).save(path)
    return path


def make_run(
    path: Path,
    lines: Iterable[dict[str, float]] = (),
    *,
    run_config: RunConfig | None = None,
    snapshots: Iterable[int] = (),
    status: dict[str, Any] | None = None,
) -> Path:
    """A run directory with these lines in its log and grids at these counts of images."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps((run_config or config()).to_dict()))
    lines = list(lines)
    (path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = {"status": "done", "exit_code": 0, "images_seen": 8000, "message": ""}
    (path / "status.json").write_text(json.dumps(done if status is None else status))
    for index, images in enumerate(snapshots):
        side = schedule().at(images - 1).resolution
        picture(path / f"fakes-{images:09d}.png", side, seed=index)
        picture(path / f"reconstructions-{images:09d}.png", side, seed=100 + index)
    return path


def finished(path: Path, **changes: Any) -> Path:
    """A finished run with a snapshot every 2 kimg and real images."""
    lines = sorted([*ticks(), *map(shown, (2000, 4000, 6000, 8000))], key=lambda x: x["images"])
    run = make_run(path, lines, snapshots=(2000, 4000, 6000, 8000), **changes)
    picture(run / "reals.png", 16, seed=7)
    return run


def page_of(run: Path, *, snapshots: int = 9, interpolation: Interpolation | None = None) -> "Page":
    """The page about a run, taken apart."""
    out = run.parent / "page.html"
    write_report(run, out, snapshots=snapshots, interpolation=interpolation, now=NOW)
    return Page(out.read_text(encoding="utf-8"))


def number(text: str) -> float:
    """What a page writes, as a number: "1,234", "−3.5", "1.2e−7", "NaN"."""
    return float(text.replace(",", "").replace("−", "-"))


class Page(HTMLParser):
    """Elements of a page with their attributes and text; fails where tags do not balance."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.text = ""
        self._open: list[int] = []
        self.feed(source)
        self.close()
        assert not self._open, f"never closed: {[self.elements[i][0] for i in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag}: an attribute twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self.elements[self._open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)
        if not any(self.elements[index][0] in ("style", "script") for index in self._open):
            self.text += data

    def all(self, tag: str, class_: str | None = None) -> list[tuple[dict[str, str], str]]:
        """(attributes, text) of each element of a name, and of a class."""
        return [
            (attributes, "".join(text))
            for name, attributes, text in self.elements
            if name == tag and (class_ is None or class_ in attributes.get("class", "").split())
        ]

    def curves(self) -> dict[str, tuple[str, list[tuple[int, str]]]]:
        """By name in stats.jsonl: the value in the legend, and (images, value) of each point."""
        found: dict[str, tuple[str, list[tuple[int, str]]]] = {}
        names: list[str] = []
        values: list[str] = []
        for tag, attributes, text in self.elements:
            if tag == "figure":
                names, values = [], []
            if tag == "span" and "title" in attributes:
                names.append(attributes["title"])
            if tag == "b":
                values.append("".join(text))
            if tag == "path" and "data-p" in attributes:
                pairs = (point.split(":") for point in attributes["data-p"].split(" "))
                points = [(int(images), value) for images, value in pairs]
                found[names.pop(0)] = values.pop(0), points
        return found


def same(text: str, value: float, factor: float = 1.0) -> bool:
    """Whether a text says a value to four digits."""
    said = number(text)
    if math.isnan(value) or math.isinf(value):
        return math.isnan(said) if math.isnan(value) else said == value
    return math.isclose(said, value * factor, rel_tol=6e-4, abs_tol=1e-12)
