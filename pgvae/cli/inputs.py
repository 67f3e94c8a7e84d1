"""What the commands that use a snapshot share: options, the images they read, what they write."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from pgvae.cli.types import WordList
from pgvae.config import require
from pgvae.data import Store, fade_images, load_images, read_batches, read_images
from pgvae.errors import InputError
from pgvae.inference import Model
from pgvae.pictures import save_grid

SNAPSHOT = click.option(
    "--snapshot",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A .safetensors snapshot, or a run directory: its newest.",
)
DATASET = click.option(
    "--dataset",
    required=True,
    metavar="NAME|PATH",
    help="Prepared set, or a folder or zip of images (prepared on first use).",
)
DATA_ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("datasets"),
    help="Where prepared sets are.",
)
LABEL_THRESHOLDS = click.option(
    "--label-thresholds",
    type=WordList(click.FLOAT, 2),
    default="0.5,0.5",
    metavar="LOW,HIGH",
    help="A label below LOW says no, above HIGH yes; between them it is unknown and left out.",
)
INCEPTION_WEIGHTS = click.option(
    "--inception-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="pt_inception-2015-12-05-6726825d.pth, for the features of the published FID and KID.  "
    "[default: EfficientNet-Lite0's, said so in the names]",
)
DEVICE = click.option("--device", default="auto", metavar="auto|cpu|cuda[:I]")
SEED = click.option("--seed", type=click.IntRange(min=0), default=0)
PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))


@dataclass(frozen=True)
class Job:
    """What every subcommand of `generate` works with."""

    model: Model
    out: Path
    seed: int

    def folder(self) -> Path:
        """The output folder, made once there is something to write."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot write to {self.out}: {error.strerror}; use another --out"
            ) from error
        return self.out


def read_paths(model: Model, paths: tuple[Path, ...], count: int) -> tuple[Tensor, list[str]]:
    """Images of files, folders, zips or prepared sets: [N, C, R, R] in [-1, 1], and names.

    Faded where the model is in mid-fade, as it was trained on them.
    """
    parts, names = [], []
    for path in paths:
        if (path / "manifest.json").is_file():
            images, found = _unseen(Store(path), model, count)
        else:
            raw, found = load_images([path], model.resolution, model.config.channels, count=count)
            images = torch.from_numpy(raw).float() / 127.5 - 1
        parts.append(images.contiguous())
        names += found
    images = torch.cat(parts)[:count].to(model.device)
    return fade_images(images, model.alpha), names[:count]


def require_writable_file(path: Path, replace: bool = True) -> None:
    """Raise InputError unless a file may be written there, in the place of another or not."""
    require(path.parent.is_dir(), f"no such folder: {path.parent}; make it, or give another file")
    require(not path.is_dir(), f"{path} is a folder: give a file")
    require(replace or not path.exists(), f"{path} is there already: give another file, or --force")


def batches_for(model: Model, store: Store, indices: np.ndarray) -> Iterator[Tensor]:
    """Images of a set as a model was trained on them, faded where it is in mid-fade, in batches."""
    for images in read_batches(store, indices, model.resolution, model.device, model.batch_size):
        yield fade_images(images, model.alpha)


def require_fitting(store: Store, model: Model) -> None:
    """Raise InputError unless a set has images of the model's size and channels."""
    require(
        model.resolution in store.resolutions and store.channels == model.config.channels,
        f"{store.name} has no {model.config.channels}-channel images at {model.resolution} px: "
        f"it has {', '.join(map(str, store.resolutions))} px, {store.channels} channels",
    )


def write_grid(path: Path, images: Tensor, columns: int | None) -> None:
    """Write a grid and say where."""
    save_grid(path, images, columns)
    click.echo(path)


def unique(stems: list[str]) -> list[str]:
    """File names without clashes: a number after a stem that was there before."""
    result: dict[str, None] = {}  # a set that keeps its order
    for stem in stems:
        name, number = stem, 1
        while name in result:
            number += 1
            name = f"{stem}-{number}"
        result[name] = None
    return list(result)


def _unseen(store: Store, model: Model, count: int) -> tuple[Tensor, list[str]]:
    """Validation images of a prepared set at the model's resolution, and a name for each."""
    require_fitting(store, model)
    indices = store.split("val")[:count]
    require(len(indices) > 0, f"{store.name} has no validation images: prepare it with some")
    return read_images(store, indices, model.resolution), [f"{store.name}-{i}" for i in indices]
