"""`pgvae data show | update | merge | export`: what can be done with prepared sets."""

from pathlib import Path

import click

from pgvae.cli import options
from pgvae.cli.options import PATH, option


@click.command()
@click.argument("name", metavar="NAME|PATH")
@options.DATA_ROOT
@option("--out FILE", "Where the picture goes.  [default: NAME.png]", PATH)
def show(name: str, data_root: Path, out: Path | None) -> None:
    """Draw a prepared set as one picture: 64 images of each split, labels, sizes, near-duplicates.

    Example: pgvae data show avatars
    """
    from pgvae.cli.data import store_called
    from pgvae.data.show import picture_of
    from pgvae.data.similar import near_duplicates
    from pgvae.files import atomic_path

    store = store_called(name, data_root)
    similar = near_duplicates(store)
    names = store.names()
    for ours, theirs in similar:
        click.echo(f"nearly the same: {names[ours]} (train), {names[theirs]} (val)")
    out = out or Path(f"{store.name}.png")
    with atomic_path(out) as aside:
        picture_of(store, similar).save(aside, "PNG")
    click.echo(f"{out}: {len(store):,} images, {len(similar):,} of val nearly the same as in train")
