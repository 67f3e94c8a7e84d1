"""What the tests of the report share: run directories made by hand, and pages taken apart."""

import json
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from pgvae.config import ModelConfig, RunConfig
from pgvae.report import write_report
from pgvae.request import Request
from pgvae.schedule import Schedule, Stage

# 4 px to 2 kimg, 8 px fading to 3 and stable to 4, 16 px fading to 5, until 8 kimg.
STAGES = (
    Stage(4, 16, 1e-3, 0, 2),
    Stage(8, 8, 1e-3, 1, 1, fading={"lambda_x": 3.0}),
    Stage(16, 4, 5e-4, 1, 1, fading={"lambda_x": 4.0}, settings={"lambda_x": 4.0}),
)
PLAN = Schedule(STAGES, total_kimg=8)


def tick(images: int, **values: float) -> dict[str, float]:
    """A line of the log after that many images: 10 a second from 2024-05-06 07:00 UTC on."""
    now = PLAN.at(images - 1)
    usual = {"resolution": now.resolution, "alpha": now.alpha, "lr": now.lr, "skipped_steps": 0}
    return {"images": images, "time": 1_714_978_800 + images / 10, **usual, **values}


def picture(path: Path) -> Path:
    """Squares of 8 px, of 512 px in all."""
    Image.radial_gradient("L").reduce(4).resize((512, 512), Image.Resampling.NEAREST).save(path)
    return path


def make_run(path: Path, lines: list[dict], *snapshots: int, name: str = "faces", **status) -> Path:
    """A run on `name` with these lines in its log and grids at these counts of images."""
    path.mkdir(parents=True)
    model = ModelConfig(resolution=16, latent_dim=8, fmap_max=8)
    objective = {"name": "pioneer", "lambda_x": 10.0, "lambda_z": 1000.0}
    config = RunConfig(name, "0123456789abcdef" * 4, model, PLAN, objective)
    (path / "config.json").write_text(json.dumps(config.to_dict()))
    asked = Request(dataset="my $faces", settings=("lambda_x=10",))
    (path / "request.json").write_text(asked.to_json())
    (path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "status.json").write_text(json.dumps({"status": "done", "images_seen": 0, **status}))
    for images in snapshots:
        for kind in ("fakes", "reconstructions"):
            picture(path / f"{kind}-{images:09d}.png")
    return path


def page_of(run: Path, snapshots: int = 9) -> "Page":
    """The page about a run, taken apart."""
    write_report(run, run.parent / "page.html", snapshots=snapshots)
    return Page((run.parent / "page.html").read_text(encoding="utf-8"))


class Page:
    """A page taken apart: it is XML too, so that tags must balance."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.root = ElementTree.fromstring(source)
        self.text = "".join(self.root.find("body").itertext())
        # Addresses by alternative texts, and last values of curves by their names in stats.jsonl.
        shown = self.values("label/img", "alt"), self.values("label/img", "src")
        self.pictures = dict(zip(*shown, strict=True))
        self.legend = dict(zip(self.values("li", "title"), self.all("li/b"), strict=True))

    def all(self, path: str) -> list[str]:
        """Texts of the elements on a path."""
        return ["".join(element.itertext()) for element in self.root.iterfind(f".//{path}")]

    def values(self, path: str, attribute: str) -> list[str]:
        """An attribute of the elements on a path."""
        return [element.attrib[attribute] for element in self.root.iterfind(f".//{path}")]
