"""`pgvae generate encode | decode`: latents to a file, and images of a file of latents."""

from pathlib import Path

import click

from pgvae.checks import require
from pgvae.cli import options
from pgvae.cli.options import PATH, POSITIVE, option
from pgvae.cli.session import Session, in_session

_MOVED = 1e-3  # further than rounding takes a point of the sphere


@click.command()
@options.images()
@option("--count", "At most so many images.", POSITIVE, default=10_000)
@option("--name", "Of the file, in --out: an .npz, with names, or an .npy.", default="latents.npz")
@in_session
def encode(
    session: Session, paths: tuple[str, ...], data_root: Path, count: int, name: str
) -> None:
    """Write the latents of images to a file, for `decode` and for NumPy.

    PATHS are image files, folders or zips, or prepared sets by name or path, whose unseen images
    are taken. Latents are the posterior's mean: float32 [N, d].

    Example: python generate.py --snapshot PATH encode friends/ --name friends.npz
    """
    from pgvae.cli.inputs import read_paths
    from pgvae.inference.latents import check_latents_name

    check_latents_name(Path(name))
    require(Path(name).name == name, f"--name {name}: give a name; --out says the folder")
    images, names = read_paths(session.model, paths, count, data_root)
    session.save_latents(name, session.model.encode(images), names)


@click.command()
@click.argument("file", type=PATH)
@in_session
def decode(session: Session, file: Path) -> None:
    """Make images of a file of latents: one file each and a grid.

    FILE is an .npz with an array `latents`, as `encode` writes it, or an .npy: numbers [N, d].
    Latents of a model of points on the sphere are taken to it.

    Example: python generate.py --snapshot PATH decode friends.npz
    """
    from pgvae.cli.inputs import unique_stems
    from pgvae.inference.latents import load_latents
    from pgvae.objectives.terms import on_prior

    model = session.model
    latents, names = load_latents(file, model.latent_dim)
    points = on_prior(model.config.head, latents)
    moved = (points - latents).abs().amax(dim=1) > _MOVED
    if moved.any():
        click.echo(f"{int(moved.sum()):,} of {len(latents):,} latents were taken to the sphere")
    numbers = [f"decoded-{i:04d}.png" for i in range(len(latents))]
    files = [f"{stem}-decoded.png" for stem in unique_stems(names)] if names else numbers
    parts = map(model.decode, points.split(model.batch_size))
    session.save_stream(files, parts, "decoded.png")
