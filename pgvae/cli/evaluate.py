"""`pgvae evaluate`: measures of a snapshot, each beside its floor."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgvae.choices import Prior
from pgvae.cli import options
from pgvae.cli.options import PATH, SEVERAL, option
from pgvae.cli.types import WordList
from pgvae.files import atomic_path
from pgvae.metrics.table import (
    DEFAULT_COUNT,
    DEFAULT_METRICS,
    METRICS,
    check_metrics,
    defined_at,
    without_encoder,
)
from pgvae.sizes import MIN_RESOLUTION

if TYPE_CHECKING:
    from pgvae.data import Store
    from pgvae.evaluation import Evaluation
    from pgvae.inference import Model

_MARK = b'{\n  "snapshot": '  # how the file of --json begins
_LEAST = ", ".join(
    f"{name} from {metric.least_px} px on"
    for name, metric in METRICS.items()
    if metric.least_px > MIN_RESOLUTION
)


@click.command("evaluate")
@options.SNAPSHOT
@options.DATASET
@options.DATA_ROOT
@option(
    "--split",
    "Real images to compare with; the published FID and SWD are against train.",
    click.Choice(["val", "train"]),
    default="val",
)
@option(
    "--metrics names NAME,...",
    f"Of {', '.join(METRICS)}.  [default: {','.join(DEFAULT_METRICS)}; {_LEAST}]",
    WordList(),
)
@option(
    "--count",
    "Real images, and samples; less where the split has less.",
    SEVERAL,
    default=DEFAULT_COUNT,
)
@options.SEED
@options.PRIOR
@options.INCEPTION_WEIGHTS
@option("--json json_path FILE", "Also write JSON.", PATH)
@options.DEVICE
def evaluate_command(
    snapshot: Path,
    dataset: str,
    data_root: Path,
    split: str,
    names: tuple[str, ...] | None,
    count: int,
    seed: int,
    prior: Prior | None,
    inception_weights: Path | None,
    json_path: Path | None,
    device: str,
) -> None:
    """Measure a snapshot: samples against real images, reconstructions against unseen ones.

    Beside each figure stands its floor, what other real images of the data (of its training split)
    get in the place of the samples or the reconstructions, at the same n. A distance between sets,
    such as SWD or FID, can hardly be below it; a reconstruction should be far better.

    Example: pgvae evaluate --snapshot runs/00000-faces-pioneer-64px --dataset faces --json e.json
    """
    from pgvae.cli import inputs
    from pgvae.evaluation import evaluate
    from pgvae.inference import load, pick_device

    if json_path:
        options.require_writable_file(json_path, mark=_MARK)
    model = load(snapshot, pick_device(device))
    if not names:
        names = defined_at(DEFAULT_METRICS, model.resolution)
        if not model.encodes:
            names = _without_encoder(names, model.objective["name"])
    check_metrics(names, model.resolution, inception_weights)
    store = inputs.open_for(model, dataset, data_root)
    found = evaluate(
        model,
        store,
        names,
        split=split,
        count=count,
        seed=seed,
        prior=prior,
        inception_weights=inception_weights,
        watch=_progress,
    )
    click.echo(
        f"{model.file.name} at {model.size} px, {store.name}: {found.count:,} images of "
        f"split {split} and as many samples from the {found.prior} prior, seed {seed}"
        + (f" ({count:,} asked for)" if found.count < count else "")
        + f"; floor: {found.count:,} other images, of split train"
    )
    for line in _table(found):
        click.echo(line)
    if json_path:
        _write_json(json_path, found, model, store)
        click.echo(json_path)


def _without_encoder(names: tuple[str, ...], objective: str) -> tuple[str, ...]:
    """Those of the metrics that a model without an encoder has; says which are left out."""
    kept = without_encoder(names)
    left = ", ".join(name for name in names if name not in kept)
    click.echo(f"{objective} has no encoder: {left} are left out")
    return kept


def _write_json(path: Path, found: "Evaluation", model: "Model", store: "Store") -> None:
    about = {
        "snapshot": model.file.name,
        "images_seen": model.images_seen,
        "objective": model.objective["name"],
        "dataset": store.name,
        "dataset_digest": store.digest,
        "resolution": model.resolution,
    }
    with atomic_path(path) as aside:
        aside.write_text(json.dumps({**about, **found.to_dict()}, indent=2, allow_nan=False) + "\n")


def _progress(starts: Iterator[int], total: int) -> Iterator[int]:
    """A bar over the images, on a terminal; elsewhere a line every tenth part."""
    from tqdm import tqdm

    with tqdm(total=total, unit="img", disable=None, dynamic_ncols=True) as bar:
        told = 0.0
        for start in starts:
            bar.update(start - bar.n)
            if bar.disable and start >= told:
                click.echo(f"  {start:,} of {total:,} images", err=True)
                told = start + total / 10
            yield start
        bar.update(total - bar.n)


def _table(found: "Evaluation") -> Iterator[str]:
    width = max(len(figure.label) for figure in found.figures.values())
    yield f"{'':<{width}}  {'model':>10}  {'floor':>10}"
    for figure in found.figures.values():
        floor = "" if figure.floor is None else f"{figure.floor:10.4g}"
        wish = f"  {figure.better} is better" if figure.better else ""
        yield f"{figure.label:<{width}}  {figure.value:10.4g}  {floor:>10}{wish}".rstrip()
