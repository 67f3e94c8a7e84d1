"""`pgvae generate`: use a snapshot."""

from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor

from pgvae.config import require
from pgvae.data import Store, load_images
from pgvae.errors import InputError
from pgvae.inference import Model, load, pick_device
from pgvae.metrics import psnr, rmse
from pgvae.pictures import interleave, save_grid, save_images

_COLUMNS = 8


@dataclass(frozen=True)
class _Job:
    """What every subcommand works with."""

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


@click.group(invoke_without_command=True)
@click.option(
    "--snapshot",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A .safetensors snapshot, or a run directory: its newest.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out"),
    help="Where pictures are written.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:I]")
@click.pass_context
def generate(ctx: click.Context, snapshot: Path, out: Path, seed: int, device: str) -> None:
    """Sample from a snapshot, reconstruct images, interpolate between them.

    Example: python generate.py --snapshot runs/00000-faces-pioneer-64px reconstruct photos/
    """
    ctx.obj = _Job(load(_newest(snapshot), pick_device(device)), out, seed)
    if ctx.invoked_subcommand is None:
        ctx.invoke(samples)


@generate.command()
@click.option("--count", type=click.IntRange(min=1), default=64)
@click.pass_obj
def samples(job: _Job, count: int) -> None:
    """Draw new images: one file each and a grid. This is the default.

    Example: python generate.py --snapshot PATH samples --count 16
    """
    folder = job.folder()
    images = job.model.sample(count, seed=job.seed)
    save_images([folder / f"sample-{i:04d}.png" for i in range(count)], images)
    _write_grid(folder / "samples.png", images, None)


@generate.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(min=1), default=64, help="At most so many images.")
@click.pass_obj
def reconstruct(job: _Job, paths: tuple[Path, ...], count: int) -> None:
    """Encode and decode images: a pair each, a grid, RMSE and PSNR.

    PATHS are image files, folders or zips of any images (fitted by a central crop), or a
    prepared set, whose unseen (validation) images are taken.

    Example: python generate.py --snapshot PATH reconstruct me.jpg friends/
    """
    images, names = _read(job.model, paths, count)
    folder = job.folder()
    again = job.model.reconstruct(images)
    stems = _unique([Path(name).stem for name in names])
    pairs = torch.cat([images, again], dim=3)  # [N, C, R, 2R]
    save_images([folder / f"{stem}-pair.png" for stem in stems], pairs)
    errors, figures = rmse(images, again), psnr(images, again)
    if len(names) <= 16:
        for name, error, figure in zip(names, errors, figures, strict=True):
            click.echo(f"{name}: RMSE {error:.2f}/255, PSNR {figure:.2f} dB")
    baseline = psnr(images, job.model.mean_image.expand_as(images)).mean()
    gain = figures.mean() - baseline
    click.echo(
        f"{len(names)} images at {job.model.resolution} px: RMSE {errors.mean():.2f}/255, "
        f"PSNR {figures.mean():.2f} dB, {gain:+.2f} dB against the mean training image"
    )
    columns = min(_COLUMNS, len(names))
    _write_grid(folder / "reconstructions.png", interleave(images, again, columns), columns)


@generate.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=2), default=8)
@click.pass_obj
def interpolate(job: _Job, paths: tuple[Path, ...], steps: int) -> None:
    """Between two images a strip, between four a grid with them as corners.

    PATHS are 2 or 4 image files, or one folder, zip or prepared set, whose first 4 are taken.

    Example: python generate.py --snapshot PATH interpolate a.jpg b.jpg c.jpg d.jpg --steps 8
    """
    images, names = _read(job.model, paths, 4)
    require(
        len(images) in (2, 4),
        f"interpolate needs 2 or 4 images: got {len(images)} ({', '.join(names[:5])})",
    )
    folder = job.folder()
    click.echo(f"between {', '.join(names)}")
    _write_grid(folder / "interpolation.png", job.model.interpolate(images, steps), steps)


def _newest(path: Path) -> Path:
    """The snapshot itself, or the newest one of a run directory."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("snapshot-*.safetensors"))
    require(bool(found), f"no snapshot-*.safetensors in {path}: give a run directory or a file")
    return found[-1]


def _read(model: Model, paths: tuple[Path, ...], count: int) -> tuple[Tensor, list[str]]:
    """Images of files, folders, zips or prepared sets: [N, C, R, R] in [-1, 1], and names."""
    parts, names = [], []
    for path in paths:
        if (path / "manifest.json").is_file():
            raw, found = _unseen(Store(path), model, count)
        else:
            raw, found = load_images([path], model.resolution, model.config.channels, count=count)
        parts.append(torch.from_numpy(raw))
        names += found
    images = torch.cat(parts)[:count].float() / 127.5 - 1
    return images.to(model.device), names[:count]


def _unseen(store: Store, model: Model, count: int):
    """Validation images of a prepared set at the model's resolution, and a name for each."""
    require(
        model.resolution in store.resolutions and store.channels == model.config.channels,
        f"{store.name} has no {model.config.channels}-channel images at {model.resolution} px: "
        f"it has {store.resolutions}",
    )
    indices = store.split("val")[:count]
    require(len(indices) > 0, f"{store.name} has no validation images: prepare it with some")
    return store.get_many(indices, model.resolution), [f"{store.name}-{i}" for i in indices]


def _unique(stems: list[str]) -> list[str]:
    """File names without clashes: a number after a stem that was there before."""
    result: dict[str, None] = {}  # a set that keeps its order
    for stem in stems:
        name, number = stem, 1
        while name in result:
            number += 1
            name = f"{stem}-{number}"
        result[name] = None
    return list(result)


def _write_grid(path: Path, images: Tensor, columns: int | None) -> None:
    save_grid(path, images, columns)
    click.echo(path)
