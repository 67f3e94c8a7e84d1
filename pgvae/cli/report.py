"""`pgvae report`: one page about a run."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgvae.checks import require
from pgvae.cli import options
from pgvae.cli.options import PATH, SEVERAL, option
from pgvae.errors import PgvaeError

if TYPE_CHECKING:
    from torch import Tensor

    from pgvae.inference import Model
    from pgvae.report.looks import Look

_STEPS = 8  # a side of the grid between four images
_CELL = 128  # pixels of one of its images, at most


@click.command("report")
@click.argument("run", type=PATH)
@option("--out FILE", "The page to write.  [default: report.html in the run directory]", PATH)
@option(
    "--snapshots", "Show the grids of so many, the first and the last always.", SEVERAL, default=9
)
@option(
    "--dataset NAME|PATH",
    "Interpolate between 4 unseen images of this prepared set, or the first 4 of other "
    "images.  [default: between 4 samples, where the run has no interpolation*.png] Of a prepared "
    "set the training images nearest to samples are shown too.",
)
@options.DATA_ROOT
@option(
    "--no-interpolation",
    "Make no interpolation, no rows of growth and no neighbours of samples: loads no network.",
    is_flag=True,
)
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
    from pgvae.report import write_report  # needs packages that the help does not
    from pgvae.report.page import MARK

    require(
        not (no_interpolation and dataset),
        f"--no-interpolation and --dataset {dataset}: give one of them",
    )
    out = out or run / "report.html"
    if run.is_dir():  # else the report says so
        options.require_writable_file(out, mark=MARK)
    between, looks = None, []
    if not no_interpolation:
        between = _interpolation(run, dataset, data_root, seed, device)
        looks = _looks(run, snapshots, dataset, data_root, seed, device)
    write_report(run, out, snapshots=snapshots, interpolation=between, looks=looks)
    click.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


def _interpolation(
    run: Path, dataset: str | None, data_root: Path, seed: int, device: str
) -> tuple[bytes, str] | None:
    """Between what the user asked for, or samples where the run has no picture of its own.

    Without a usable snapshot there is none; that is an error where a user named a data set.
    """
    from pgvae.cli import inputs
    from pgvae.data import prepared_set
    from pgvae.inference import load, pick_device
    from pgvae.snapshot import snapshots_in

    chosen = pick_device(device)
    found = snapshots_in(run)
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
    if dataset is None or not model.encodes:
        what = f"samples from the {model.default_prior} prior"
        if not model.encodes:
            return _between(model, model.sample_latents(4, seed), what)
        return _between(model, model.encode(model.sample(4, seed)), what)
    store = prepared_set(dataset, data_root, say=lambda _: None)  # which is said below
    require(
        store is not None or Path(dataset).exists(),
        f"--dataset {dataset}: not in {data_root}, and no such path",
    )
    images, _ = inputs.read_paths(model, (dataset,), 4, data_root)
    require(len(images) == 4, f"--dataset {dataset}: has {len(images)} such images, 4 are needed")
    latents = model.encode(images)
    named = f"unseen images of {store.name}" if store else f"images of {Path(dataset).name}"
    return _between(model, latents, named)


def _looks(
    run: Path, rows: int, dataset: str | None, data_root: Path, seed: int, device: str
) -> "list[Look]":
    """The same latents over growth and, of a prepared set, the neighbours of samples."""
    from pgvae.data import prepared_set
    from pgvae.inference import load, pick_device
    from pgvae.inference.images import require_fitting
    from pgvae.report import looks
    from pgvae.snapshot import snapshots_in

    chosen, found = pick_device(device), snapshots_in(run)
    grown = looks.growth(found, rows, seed, chosen, lambda line: click.echo(line, err=True))
    of_set = None
    store = prepared_set(dataset, data_root, say=lambda _: None) if dataset else None
    if store and grown:
        model = load(found[-1], chosen)
        require_fitting(store, model)
        of_set = looks.likenesses(model, store, seed)
    return [look for look in (grown, of_set) if look]


def _between(model: "Model", latents: "Tensor", what: str) -> tuple[bytes, str]:
    """The grid between four latents [4, d], as a PNG, and what it is."""
    from torch.nn.functional import avg_pool2d

    from pgvae.pictures import grid_of, to_picture

    grid = avg_pool2d(model.between(latents, _STEPS), max(1, model.resolution // _CELL))
    file = io.BytesIO()
    to_picture(grid_of(grid, _STEPS)).save(file, "PNG")
    corners = "their reconstructions" if model.encodes else "these themselves"
    return file.getvalue(), f"between four {what}; corners are {corners}"
