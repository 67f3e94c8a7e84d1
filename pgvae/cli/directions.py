"""`pgvae directions`: attributes of any model, estimated from labelled images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgvae.checks import require
from pgvae.choices import Fit
from pgvae.cli import options
from pgvae.cli.options import SEVERAL, option
from pgvae.config import LabelConfig
from pgvae.errors import PgvaeError
from pgvae.files import turn_at

if TYPE_CHECKING:
    from pgvae.inference import Directions, Model


@click.command("directions")
@options.SNAPSHOT
@options.DATASET
@options.DATA_ROOT
@option(
    "--attribute attributes NAME",
    "A label; may be repeated.  [default: all that the model does not know]",
    multiple=True,
)
@option(
    "--method",
    "Logistic regression, or the difference of the means of yes and no.",
    Fit,
    default="probe",
)
@options.LABEL_THRESHOLDS
@option("--count", "Training images, at most.", SEVERAL, default=10_000)
@options.DEVICE
def directions_command(
    snapshot: Path,
    dataset: str,
    data_root: Path,
    attributes: tuple[str, ...],
    method: Fit,
    label_thresholds: tuple[float, float],
    count: int,
    device: str,
) -> None:
    """Estimate in which direction of the latent space each attribute lies.

    Writes directions-SNAPSHOT.safetensors beside the snapshot, where `generate.py ... edit` and
    `... conditional` find it, and prints how often it is right about unseen images. Attributes of
    other names that the file has already stay in it.

    Example: pgvae directions --snapshot PATH --dataset faces --attribute glasses
    """
    import numpy as np
    import torch

    from pgvae.cli import inputs
    from pgvae.inference import directions_path, estimate, load, pick_device, save_directions
    from pgvae.inference.images import encode

    model = load(snapshot, pick_device(device))
    options.require_writable_file(directions_path(model.file))
    store = inputs.open_for(model, dataset, data_root)
    require(len(store.attributes) > 0, f"{store.name} has no labels: prepare it with --labels")
    known = model.attributes if model.classifies else ()
    names = attributes or tuple(name for name in store.attributes if name not in known)
    require(
        bool(names) and not set(names) & set(known),
        f"the model's own classifier knows {', '.join(known)}: give another --attribute",
    )
    said = store.said(LabelConfig(names, *label_thresholds))
    rng = np.random.default_rng(0)
    training = rng.permutation(store.split("train"))[:count]
    latents = encode(model, store, training)
    found = estimate(latents, torch.from_numpy(said[training]), names, method)
    unseen, accuracy = store.split("val"), {}
    if len(unseen) > 0:
        latents = encode(model, store, unseen)
        accuracy = found.accuracy(latents, torch.from_numpy(said[unseen]))
    about = {**found.about, "dataset": store.name, "count": len(training), "accuracy": accuracy}
    path = directions_path(model.file)
    with turn_at(path.parent):
        others = _others(model, names)
        if others:
            about["accuracy"] = dict(others.about.get("accuracy", {})) | accuracy
            found = found.joined(others)
        save_directions(path, dataclasses.replace(found, about=about), model.file)
    for name, value in accuracy.items():
        click.echo(f"{name}: {value:.1%} right on unseen images")
    if others:
        click.echo(f"kept beside: {', '.join(others.names)}")
    click.echo(path)


def _others(model: "Model", names: Sequence[str]) -> "Directions | None":
    """Those of other names that the snapshot's file has; None where it has none.

    A file that is damaged, or of another snapshot, has none: it is written anew.
    """
    try:
        before = model.estimated
    except PgvaeError as error:
        click.echo(f"warning: {error}")
        return None
    kept = [name for name in before.names if name not in names] if before else []
    return before.of(kept) if before and kept else None
