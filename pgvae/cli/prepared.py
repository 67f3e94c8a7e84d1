"""`pgvae data show | update | merge | export`: what can be done with prepared sets."""

from pathlib import Path
from typing import Any

import click

from pgvae.checks import require
from pgvae.cli import options
from pgvae.cli.options import NATURAL, PATH, option
from pgvae.cli.types import WordList


@click.command()
@click.argument("name", metavar="NAME|PATH")
@options.DATA_ROOT
@option("--out FILE", "Where the picture goes.  [default: NAME.png]", PATH)
def show(name: str, data_root: Path, out: Path | None) -> None:
    """Draw a prepared set as one picture: 64 images of each split, labels, sizes, near-duplicates.

    Example: pgvae data show avatars
    """
    from pgvae.cli.data import store_called
    from pgvae.data.show import MARK, save_picture
    from pgvae.data.similar import near_duplicates

    store = store_called(name, data_root)
    out = out or Path(f"{store.name}.png")
    options.require_writable_file(out, mark=MARK)
    require(out.suffix.lower() in (".png", ""), f"--out {out}: it is a PNG; end it in .png")
    similar = near_duplicates(store)
    names = store.names()
    for ours, theirs in similar:
        click.echo(f"nearly the same: {names[ours]} (train), {names[theirs]} (val)")
    save_picture(out, store, similar)
    click.echo(f"{out}: {len(store):,} images, {len(similar):,} of val nearly the same as in train")


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("path", metavar="PATH", type=PATH)
@options.DATA_ROOT
@option("--labels FILE", "A csv or dataset.json with all labels.  [default: as before]", PATH)
@option("--attributes A,B", "Labels to keep.  [default: those of before]", WordList())
@option("--split-by COLUMN", "Hold out by the values of this column.  [default: as before]")
@option("--upscale", "Enlarge images below the resolution.", is_flag=True)
@option("--skip-bad", "Leave out images that cannot be used.", is_flag=True)
@option("--max-bad N", "With --skip-bad, stop after so many.", NATURAL)
@option("--workers W", "Processes.  [default: one for each CPU core]", NATURAL)
def update(name: str, path: Path, data_root: Path, **given: Any) -> None:
    """Bring a prepared set up to date with a folder or file: add new images, drop missing ones.

    Only new images are decoded. Images stay in train or val; new ones follow such folders.

    Example: pgvae data update mine photos/
    """
    from pgvae.cli.data import asked_of, report, require_skipping, store_called
    from pgvae.data import growing
    from pgvae.data.prepare import Options
    from pgvae.data.recipes import Split, folder

    require_skipping(given)
    store = store_called(name, data_root)
    about = store.manifest["about"]
    made_by = about.get("recipe", "folder")
    require(made_by in ("folder", "merge"), f"{name} is of the recipe {made_by}: prepare it again")
    asked = about.get("asked", {}) | asked_of(given)
    split = Split(asked.get("val_fraction"), asked.get("split_by"), store.manifest["seed"])
    label_file = Path(asked["labels"]) if "labels" in asked else None
    recipe = folder(store.name, path, split, label_file, tuple(asked.get("attributes", ())))
    settings = {k: given[k] for k in ("skip_bad", "max_bad", "workers") if given[k] is not None}
    settings |= {"upscale": asked.get("upscale", False), "about": about | {"asked": asked}}
    grown = growing.update(
        store,
        recipe,
        Options(**settings),
        split,
        drop_labels=bool(given["attributes"]),
        say=click.echo,
    )
    change = grown.manifest["updates"][-1]
    report(grown)
    click.echo(
        f"{change['came']:,} images came, {change['gone']:,} went: digest {grown.digest[:16]}"
    )


@click.command()
@click.argument("names", metavar="NAME NAME ...", nargs=-1, required=True)
@option("--name", "Name of the set of all of them.", required=True)
@options.DATA_ROOT
@option("--workers W", "Processes.  [default: one for each CPU core]", NATURAL)
def merge(names: tuple[str, ...], name: str, data_root: Path, workers: int | None) -> None:
    """Put prepared sets together, with the labels that all have and the splits of each.

    Example: pgvae data merge faces masks --name both
    """
    from pgvae.cli.data import report, store_called
    from pgvae.data import merging
    from pgvae.data.prepare import Options

    stores = [store_called(each, data_root) for each in names]
    settings = Options() if workers is None else Options(workers=workers)
    report(merging.merge(stores, name, data_root, settings, click.echo))


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("out", metavar="FOLDER|ZIP", type=PATH)
@options.DATA_ROOT
def export(name: str, out: Path, data_root: Path) -> None:
    """Write a prepared set as PNGs and labels.csv, or as a StyleGAN zip with dataset.json.

    Example: pgvae data export mine mine.zip
    """
    from pgvae.cli.data import store_called
    from pgvae.data import growing

    store = store_called(name, data_root)
    growing.export(store, out, click.echo)
    click.echo(f"{out}: {len(store):,} images at {store.size} px")
