"""`pgvae publish`: a model as a folder to give away, and to a hub."""

import contextlib
import json
from pathlib import Path
from typing import Any

import click

from pgvae.checks import require
from pgvae.cli import options
from pgvae.cli.options import PATH, option
from pgvae.files import content_of

_SHOWN = 16  # images that are reconstructed


@click.command("publish")
@options.SNAPSHOT
@option("--out FOLDER", "Where the model is written.", PATH, required=True)
@option("--licence NAME", "For the card, such as cc-by-4.0.  [default: not stated]")
@option("--dataset NAME|PATH", "Prepared set or images, of which some are shown reconstructed.")
@options.DATA_ROOT
@option("--repository OWNER/NAME", "Upload it there too, by huggingface_hub.")
@option("--private", "A repository that others do not see.", is_flag=True)
def publish_command(
    snapshot: Path,
    out: Path,
    licence: str | None,
    dataset: str | None,
    data_root: Path,
    repository: str | None,
    private: bool,
) -> None:
    """Write a model as a folder to give away: weights, a description, a card with pictures.

    The card has the figures of evaluation*.json beside the snapshot that are of it. Every command
    takes the folder as --snapshot, and so does Model.from_pretrained.

    Example: pgvae publish --snapshot PATH --out faces --licence cc-by-4.0 --dataset faces
    """
    from pgvae.cli.inputs import read_paths
    from pgvae.inference import hub, load

    require(
        repository is None or hub.is_repository(repository),
        f"--repository {repository}: give OWNER/NAME",
    )
    require(repository is not None or not private, "--private is of a --repository: give one")
    options.require_writable_folder(out)
    model = load(snapshot)
    images = None
    if dataset:
        images, _ = read_paths(model, (dataset,), _SHOWN, data_root)
    figures = figures_of(model.file)
    model.save_pretrained(out, licence=licence, figures=figures, images=images)
    click.echo(f"{out}: {len(figures)} figures" + ("" if licence else ", no licence stated"))
    if repository:
        click.echo(hub.push(out, repository, private=private))


def figures_of(snapshot: Path) -> dict[str, Any]:
    """The figures of evaluation*.json beside a snapshot that are of it, the newest of each."""
    found: dict[str, Any] = {}
    for file in sorted(snapshot.parent.glob("evaluation*.json"), key=lambda p: p.stat().st_mtime):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            values = json.loads(content_of(file))
            if values["snapshot"] == snapshot.name:
                found |= {str(n): dict(figure) for n, figure in values["metrics"].items()}
    return found
