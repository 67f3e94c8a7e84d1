"""`pgvae explore`: a page to play with a model."""

import os
from pathlib import Path

import click

from pgvae.cli import options
from pgvae.cli.options import option


@click.command("explore")
@options.SNAPSHOT
@option(
    "--dataset NAME|PATH",
    "Prepared set, or a folder or zip of images: its unseen images to look at, its training "
    "images to compare with.",
)
@options.DATA_ROOT
@option(
    "--host",
    "Where to listen. Others can reach the page at any other address than this one; it then needs "
    "a token, which is printed.",
    default="127.0.0.1",
)
@option("--port", "0: any that is free.", click.IntRange(0, 65535), default=8000)
@option("--open open_browser", "Open the page in a browser.", is_flag=True)
@options.DEVICE
def explore_command(
    snapshot: Path,
    dataset: str | None,
    data_root: Path,
    host: str,
    port: int,
    open_browser: bool,
    device: str,
) -> None:
    """Play with a model in a browser: samples, images of your own, sliders, walks.

    Given a run directory, the page can go back through its snapshots. Sliders of attributes need
    a classifier, or `pgvae directions`. Ctrl-C ends it.

    Example: pgvae explore --snapshot runs/00000-faces-pioneer-64px --dataset faces --open
    """
    from pgvae.cli import inputs
    from pgvae.explore import Explorer, serve
    from pgvae.inference import load, pick_device

    model = load(snapshot, pick_device(device))
    store = inputs.open_for(model, dataset, data_root) if dataset else None
    explorer = Explorer(model, snapshot if snapshot.is_dir() else None, store)
    if serve(explorer, host, port, open_browser=open_browser, say=click.echo):
        os._exit(0)  # nothing interrupts the networks, and the interpreter would wait for them
