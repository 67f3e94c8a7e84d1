"""What the tests of the report share: run directories made by hand, and pages taken apart."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from pgvae.config import ModelConfig, RunConfig
from pgvae.report import write_report
from pgvae.request import Request
from pgvae.schedule import Schedule, Stage

NOW = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
START = 1_714_978_800.0  # 2024-05-06 07:00 UTC
REQUEST = Request(dataset="my faces; rm -rf $HOME", settings=("lambda_x=10",))
# 4 px to 2 kimg, 8 px fading to 3 and stable to 4, 16 px fading to 5, until 8 kimg.
STAGES = (
    Stage(4, 16, 1e-3, 0, 2),
    Stage(8, 8, 1e-3, 1, 1, fading={"lambda_x": 3.0}),
    Stage(16, 4, 5e-4, 1, 1, fading={"lambda_x": 4.0}, settings={"lambda_x": 4.0}),
)
PLAN = Schedule(STAGES, total_kimg=8)


def tick(images: int, **values: float) -> dict[str, float]:
    """A line of the log after that many images, at 10 images a second."""
    now = PLAN.at(images - 1)
    usual = {"resolution": now.resolution, "alpha": now.alpha, "lr": now.lr, "img_per_s": 10.0}
    return {"images": images, "time": START + images / 10, **usual, "skipped_steps": 0, **values}


def picture(path: Path, seed: int = 0) -> Path:
    """64 x 64 random squares of 8 px."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1)).save(path)
    return path


def make_run(
    path: Path,
    lines: Iterable[dict[str, float]] = (),
    *,
    dataset: str = "faces",
    snapshots: Iterable[int] = (),
    **status: Any,
) -> Path:
    """A run of PIONEER with these lines in its log and grids at these counts of images."""
    path.mkdir(parents=True)
    model = ModelConfig(resolution=16, latent_dim=8, fmap_max=8)
    objective = {"name": "pioneer", "lambda_x": 10.0, "lambda_z": 1000.0}
    config = RunConfig(dataset, "0123456789abcdef" * 4, model, PLAN, objective)
    (path / "config.json").write_text(json.dumps(config.to_dict()))
    REQUEST.write(path / "request.json")
    (path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status = {"status": "done", "exit_code": 0, "images_seen": 0, "message": "", **status}
    (path / "status.json").write_text(json.dumps(status))
    for images in snapshots:
        picture(path / f"fakes-{images:09d}.png", images)
        picture(path / f"reconstructions-{images:09d}.png", images + 1)
    return path


def finished(path: Path) -> Path:
    """A finished run with a snapshot every 2 kimg and real images."""
    lines = []
    for n in range(100, 8001, 100):
        losses = {"encoder/rec": 1 + 2000 / n, "generator/rec": 2 + n / 4000, "encoder/kl": -n}
        lines.append(tick(n, **losses))
        if n % 2000 == 0:
            figures = {"val/psnr": 20.125 + n / 8000, "val/psnr_gain": 5.5, "metric/swd": 40.5}
            more = {"val/accuracy hat": 0.875, "metric/swd floor": 3.25}
            lines.append({"images": n, **figures, **more})
    run = make_run(path, lines, snapshots=(2000, 4000, 6000, 8000), images_seen=8000)
    picture(run / "reals.png", 7)
    return run


def page_of(run: Path, **options: Any) -> "Page":
    """The page about a run, taken apart."""
    write_report(run, run.parent / "page.html", now=NOW, **options)
    return Page((run.parent / "page.html").read_text(encoding="utf-8"))


class Page:
    """A page taken apart: it is XML too, so that tags must balance."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.root = ElementTree.fromstring(source)
        self.text = "".join(self.root.find("body").itertext())

    def all(self, path: str) -> list[str]:
        """Texts of the elements on a path."""
        return ["".join(element.itertext()) for element in self.root.iterfind(f".//{path}")]

    def values(self, path: str, attribute: str) -> list[str]:
        """An attribute of the elements on a path."""
        return [element.attrib[attribute] for element in self.root.iterfind(f".//{path}")]

    @property
    def pictures(self) -> dict[str, str]:
        """Address of each picture that can be enlarged, by its alternative text."""
        path = "label/img"
        return dict(zip(self.values(path, "alt"), self.values(path, "src"), strict=True))

    @property
    def curves(self) -> dict[str, tuple[list[list], str]]:
        """By name in stats.jsonl: images and value of each point, and the value in the legend."""
        points = [
            p for text in self.values("figure[@class]", "data-points") for p in json.loads(text)
        ]
        found = zip(points, self.all("li/b"), strict=True)
        return dict(zip(self.values("li", "title"), found, strict=True))
