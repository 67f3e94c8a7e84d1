"""`pgvae prior`: what else than the training prior to sample from."""

import dataclasses
from pathlib import Path

import click

from pgvae.checks import require
from pgvae.choices import PriorKind
from pgvae.cli import options
from pgvae.cli.options import POSITIVE, SEVERAL, option
from pgvae.files import sha256_of, turn_at


@click.command("prior")
@options.SNAPSHOT
@options.DATASET
@options.DATA_ROOT
@option("--kind", "One Gaussian, or a mixture.", PriorKind, default="mixture")
@option(
    "--components N",
    "Gaussians in the mixture.  [default: 1, 2, 4, ... 64, as long as held-out latents get "
    "likelier]",
    POSITIVE,
)
@option("--count", "Training images, at most.", SEVERAL, default=10_000)
@options.DEVICE
def prior_command(
    snapshot: Path,
    dataset: str,
    data_root: Path,
    kind: PriorKind,
    components: int | None,
    count: int,
    device: str,
) -> None:
    """Fit a prior to the latents of training images, and keep it in the snapshot.

    Training keeps one in each snapshot by itself; this replaces it. Samples are drawn from
    the fitted prior from then on, unless they are measurably worse at unseen images than those of
    the prior that the model was trained with: prints both figures, SWD, and which is the default.

    Example: pgvae prior --snapshot PATH --dataset faces
    """
    from pgvae.cli import inputs
    from pgvae.inference import Model, describe, fit_prior, pick_device
    from pgvae.inference.directions import kept_directions
    from pgvae.snapshot import load_newest, save_snapshot

    require(
        components in (None, 1) or kind == "mixture",
        f"--components {components}: a Gaussian has one; leave out --kind gaussian",
    )
    path, found = load_newest(snapshot)
    before = sha256_of(path)
    options.require_writable_file(path)
    model = Model(found, pick_device(device), path)
    store = inputs.open_for(model, dataset, data_root)
    prior, candidates = fit_prior(model, store, kind, components, most=count)
    for size, held_out in candidates:
        click.echo(
            f"{size} component{'s' * (size > 1)}: log density {held_out:.2f} nats an image held out"
        )
    with turn_at(path.parent):
        same = path.is_file() and sha256_of(path) == before
        require(same, f"{path} was replaced meanwhile: fit a prior to the one that is there now")
        with kept_directions(path, model.latent_dim):
            save_snapshot(path, dataclasses.replace(found, prior=prior))
    click.echo(describe(prior))
    click.echo(path)
