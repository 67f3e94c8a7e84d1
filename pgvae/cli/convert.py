"""`pgvae convert`: checkpoints of other programs become snapshots."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgvae.checks import require
from pgvae.cli import options
from pgvae.cli.groups import Commands
from pgvae.cli.options import PATH, option
from pgvae.errors import InputError

if TYPE_CHECKING:
    from pgvae.snapshot import Snapshot

_GENERATORS = {
    "pixel": "pixel norm, equalized learning rates",
    "spectral": "spectral norm",
    "none": "no norm",
}


@click.group(cls=Commands)
def convert() -> None:
    """Make snapshots of other programs' checkpoints.

    Example: pgvae convert pioneer 604000_state pioneer.safetensors
    """


@convert.command()
@click.argument("file", type=PATH)
@click.argument("out", type=PATH)
@option(
    "--spectral-vectors FILE",
    "Balanced PIONEER's NNNNNN_SNU file.  [default: the one beside FILE, where there is "
    "one; else the norms are computed exactly]",
    PATH,
)
@option(
    "--last-activation/--no-last-activation",
    "LeakyReLU after the encoder's last layer, as in PIONEER, and by its README in "
    "Balanced PIONEER's models. Off where trained without --e_last_relu: the file does "
    "not tell.",
    default=True,
)
@option("--dataset-name", "Name of the training data.", default="unknown")
@option("--force", "Replace OUT.", is_flag=True)
def pioneer(
    file: Path,
    out: Path,
    spectral_vectors: Path | None,
    last_activation: bool,
    dataset_name: str,
    force: bool,
) -> None:
    """Convert a checkpoint of PIONEER or Balanced PIONEER.

    FILE is a NNNNNN_state file; OUT ends in .safetensors. The snapshot samples and reconstructs as
    FILE does. Nothing in FILE is executed.

    Example: pgvae convert pioneer 604000_state pioneer.safetensors
    """
    from pgvae.interop import read_pioneer, vectors_beside
    from pgvae.snapshot import save_snapshot

    require(out.suffix == ".safetensors", f"{out} is no snapshot's name: end it in .safetensors")
    options.require_writable_file(out, force)
    vectors = spectral_vectors or vectors_beside(file)
    snapshot = read_pioneer(file, vectors, last_activation=last_activation, dataset=dataset_name)
    _describe(snapshot, vectors)
    try:
        save_snapshot(out, snapshot)
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"cannot write {out}: {why}; use another OUT") from error
    click.echo(out)


def _describe(snapshot: "Snapshot", vectors: Path | None) -> None:
    config = snapshot.config
    click.echo(
        f"{snapshot.objective['name']} at {snapshot.nets.ema.resolution} px, alpha "
        f"{snapshot.alpha:g}, {snapshot.images_seen:,} images seen, {config.latent_dim} latent "
        "dimensions"
    )
    click.echo(f"generator: {_GENERATORS[config.generator_norm]}")
    click.echo(f"encoder's last activation: {'on' if config.last_activation else 'off'}")
    click.echo(f"spectral vectors: {f'read from {vectors}' if vectors else 'recomputed'}")
