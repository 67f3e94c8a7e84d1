"""Options that several commands have. Nothing here imports PyTorch, so that help comes at once."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click

from pgvae.checks import require
from pgvae.choices import Prior
from pgvae.cli.types import Seed, SomePath, Whole, WordList
from pgvae.files import require_replaceable

F = TypeVar("F", bound=Callable[..., Any])

PATH = SomePath(path_type=Path)
POSITIVE, SEVERAL, NATURAL = Whole(1), Whole(2), Whole(0)
_FILES = (".gif", ".jpeg", ".jpg", ".mp4", ".npy", ".npz", ".png", ".webp")
_HEAD = 512  # bytes
PROBABILITY = click.FloatRange(0, 1, min_open=True, max_open=True)


def option(spec: str, help: str = "", type: Any = None, **more: Any) -> Callable[[F], F]:
    """An option in a line: `option("--json path FILE", "Also write JSON.", PATH)`.

    spec: its names, that of its parameter where it is another, and in capitals what it takes.
    type: of click, or a `Literal` to choose of. more: as of `click.option`.
    """
    words = spec.split()
    names = [word for word in words if word.startswith("-") or re.fullmatch("[a-z_]+", word)]
    metavar = next((word for word in words if word not in names), None)
    if get_origin(type) is Literal:
        type = click.Choice(get_args(type))
    return click.option(*names, metavar=metavar, help=help or None, type=type, **more)


def snapshot(required: bool) -> Callable[[F], F]:
    """The option --snapshot; `generate` takes it in two places, and neither is the one."""
    about = "A .safetensors snapshot, or a run directory: its newest."
    return option("--snapshot", about, PATH, required=required)


SNAPSHOT = snapshot(required=True)
DATASET = option(
    "--dataset NAME|PATH",
    "Prepared set, or a folder or zip of images (prepared on first use).",
    required=True,
)
DATA_ROOT = option("--data-root", "Where prepared sets are.", PATH, default=Path("datasets"))
LABEL_THRESHOLDS = option(
    "--label-thresholds LOW,HIGH",
    "A label below LOW says no, above HIGH yes; between them it is unknown and left out.",
    WordList(click.FLOAT, 2),
    default="0.5,0.5",
)
INCEPTION_WEIGHTS = option(
    "--inception-weights FILE",
    "pt_inception-2015-12-05-6726825d.pth, for the features of the published FID and KID.  "
    "[default: EfficientNet-Lite0's, said so in the names]",
    PATH,
)
DEVICE = option("--device auto|cpu|cuda[:I]|mps", default="auto")
SEED = option("--seed", "", Seed(), default=0)
PRIOR = option(
    "--prior",
    "Draw latents from the fitted prior, or the one of training.  [default: fitted, where there "
    "is one that is not worse]",
    Prior,
)
TRUNCATION = option(
    "--truncation X",
    "Scale of the latents' noise, in (0, 1]: below 1 surer and less varied samples.",
    click.FloatRange(0, 1, min_open=True),
    default=1.0,
)


def images(required: bool = True) -> Callable[[F], F]:
    """The argument PATHS, of images, as they were written, and where prepared sets are."""

    def add(command: F) -> F:
        paths = click.argument("paths", nargs=-1, required=required, type=SomePath())
        return paths(DATA_ROOT(command))

    return add


def require_writable_folder(path: Path) -> None:
    """Raise InputError unless files may be written in that folder, which may yet be made."""
    there = next(p for p in (path, *path.parents) if p.exists())
    why = f"{there} is a file" if not there.is_dir() else f"no right to write in {there}"
    require(
        there.is_dir() and os.access(there, os.W_OK | os.X_OK),
        f"cannot write to {path}: {why}; use another --out",
    )
    require(
        path.is_dir() or path.suffix not in _FILES,
        f"--out {path} is the name of a file: --out takes a folder, such as {path.stem}",
    )


def require_writable_file(path: Path, replace: bool = True, mark: bytes = b"") -> None:
    """Raise InputError unless a file may be written there, in the place of another or not.

    mark: what the first bytes hold of every file that the command writes, where it replaces those
    alone, so that what is a run's, a set's or the user's own stays.
    """
    require_replaceable(path)
    require(path.parent.is_dir(), f"no such folder: {path.parent}; make it, or give another file")
    require(
        os.access(path.parent, os.W_OK | os.X_OK),
        f"cannot write to {path.parent}: give a file in another folder",
    )
    require(not path.is_dir(), f"{path} is a folder: give a file")
    require(replace or not path.exists(), f"{path} is there already: give another file, or --force")
    if mark and path.exists():
        with path.open("rb") as file:
            head = file.read(_HEAD)
        require(
            not head or mark in head,
            f"{path} is there already and was not written by this command: give another file",
        )
