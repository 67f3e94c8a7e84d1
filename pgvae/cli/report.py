"""`pgvae report`: one page about a run."""

import io
from pathlib import Path

import click
import torch

from pgvae.cli import inputs, options
from pgvae.config import require
from pgvae.errors import PgvaeError
from pgvae.inference import Model, load, pick_device
from pgvae.pictures import grid_of, to_picture
from pgvae.report import SNAPSHOTS, Interpolation, write_report

_STEPS = 8  # a side of the grid between four images
_CELL = 128  # pixels of one of its images, at most


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page to write.  [default: report.html in the run directory]",
)
@click.option(
    "--snapshots",
    type=click.IntRange(min=2),
    default=SNAPSHOTS,
    help="Show the grids of at most so many, the first and the last always.",
)
@click.option(
    "--dataset",
    metavar="NAME|PATH",
    help="Interpolate between 4 unseen images of this prepared set, or the first 4 of other "
    "images.  [default: between 4 samples, where the run has no interpolation*.png]",
)
@options.DATA_ROOT
@click.option("--no-interpolation", is_flag=True, help="Make no interpolation: loads no network.")
@options.SEED
@options.DEVICE
def report_command(
    run: Path,
    out: Path | None,
    snapshots: int,
    dataset: str | None,
    data_root: Path,
    no_interpolation: bool,
    seed: int,
    device: str,
) -> None:
    """Write a page about a run: how it grew, what it makes, its curves, metrics and settings.

    RUN is a run directory, finished or not. The page is one HTML file that needs nothing else.

    Example: pgvae report runs/00000-faces-pioneer-64px --dataset faces
    """
    require(
        not (no_interpolation and dataset),
        f"--no-interpolation and --dataset {dataset}: give one of them",
    )
    between = None
    if not no_interpolation:
        between = _interpolation(run, dataset, data_root, seed, device)
    out = out or run / "report.html"
    write_report(run, out, snapshots=snapshots, interpolation=between)
    click.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


def _interpolation(
    run: Path, dataset: str | None, data_root: Path, seed: int, device: str
) -> Interpolation | None:
    """Between what the user asked for, or samples where the run has no picture of its own.

    Without a usable snapshot there is none; that is an error where a user named a data set.
    """
    chosen = pick_device(device)
    found = sorted(run.glob("snapshot-*.safetensors"))
    if dataset is None and (not found or any(run.glob("interpolation*.png"))):
        return None
    require(bool(found), f"--dataset {dataset}: there is no snapshot in {run} yet; leave it out")
    try:
        model = load(found[-1], chosen)
    except PgvaeError as error:
        if dataset is not None:
            raise
        click.echo(f"no interpolation: {error}", err=True)
        return None
    if dataset is None:
        about = "between four samples, as no images were given"
        return _between(model, model.sample(4, seed=seed), about)
    path = next((p for p in (data_root / dataset, Path(dataset)) if p.exists()), None)
    require(path is not None, f"--dataset {dataset}: not in {data_root}, and no such path")
    images, _ = inputs.read_paths(model, (path,), 4)
    require(len(images) == 4, f"--dataset {dataset}: has {len(images)} such images, 4 are needed")
    unseen = (path / "manifest.json").is_file()
    about = f"between four {'unseen images' if unseen else 'images'} of {path.name}"
    return _between(model, images, about)


def _between(model: Model, images: torch.Tensor, about: str) -> Interpolation:
    """The grid between four images [4, C, R, R] in [-1, 1]."""
    grid = model.interpolate(images, _STEPS)
    shrunk = torch.nn.functional.avg_pool2d(grid, max(1, model.resolution // _CELL))
    file = io.BytesIO()
    to_picture(grid_of(shrunk, _STEPS)).save(file, "PNG")
    return Interpolation(file.getvalue(), f"{about}; corners are their reconstructions")
