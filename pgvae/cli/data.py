"""`pgvae data`: prepare sets of images and look at them."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgvae.checks import require
from pgvae.choices import CelebaHqSplit, Codec, Crop
from pgvae.cli import options
from pgvae.cli.groups import Commands
from pgvae.cli.options import NATURAL, PATH, POSITIVE, option
from pgvae.cli.sets import OUTDIR, about_use, remove, users_in
from pgvae.cli.types import Resolution, Seed, WordList
from pgvae.errors import InputError, PgvaeError
from pgvae.sizes import parse_size, size_named

if TYPE_CHECKING:
    from pgvae.data import Store


class _Prepare(click.Command):
    """A command whose help names the recipes: their module, with all that reads images, is slow."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from pgvae.data.recipes import RECIPES

        recipes = [f"{name} ({entry.about})" for name, entry in RECIPES.items()]
        self.epilog = f"Recipes: {', '.join(recipes)}"
        super().format_epilog(ctx, formatter)


_FEW_PAIRS = 2 * 10**8  # of images of train and val that are compared within a second or so
_HOMES = {name: f"pgvae.cli.prepared:{name}" for name in ("show", "update", "merge", "export")}


@click.group(cls=Commands, homes=_HOMES)
def data() -> None:
    """Prepare sets of images, list them, check them.

    Example: pgvae data prepare photos/ --name mine --resolution 128
    """


@data.command("prepare", cls=_Prepare)
@click.argument("what", metavar="RECIPE|PATH")
@option("--source", "Folder or file that a recipe reads.", PATH)
@option("--name", "Name of the set.  [default: the recipe's or the folder's]")
@option("--resolution R", "Highest one, a power of two.  [default: the images']", Resolution())
@option(
    "--size WxH",
    "In the place of --resolution: images that are not square, such as 128x96.",
)
@option("--count N", "Images to take, or to draw.  [default: all, or the recipe's]", POSITIVE)
@option("--seed", "Of what is drawn, and of the split.", Seed(), default=0)
@options.DATA_ROOT
@option("--labels FILE", "A csv with the images' file names in a column, or a dataset.json.", PATH)
@option(
    "--attributes A,B",
    "Labels to keep.  [default: all of numbers, or of yes and no]",
    WordList(),
)
@option("--crop", "The centre, CelebA's 178 px, or white borders.  [default: the recipe's]", Crop)
@option(
    "--val-fraction", "Share of images held out.  [default: what the set says, else 0.05]", float
)
@option("--split-by COLUMN", "Hold out by the values of this column: one person on one side.")
@option(
    "--split-protocol",
    "Of celebahq: 27,000 / 3,000 or 29,000 / 1,000.  [default: pioneer]",
    CelebaHqSplit,
)
@option("--grayscale", "Store one channel.", is_flag=True)
@option("--codec", "Above 128 px; all but jpeg are lossless.", Codec, default="webp")
@option("--upscale", "Enlarge images below the resolution.", is_flag=True)
@option("--skip-bad", "Leave out images that cannot be used.", is_flag=True)
@option("--max-bad N", "With --skip-bad, stop after so many.", NATURAL)
@option("--workers W", "Processes.  [default: one for each CPU core]", NATURAL)
@option("--force", "Replace a set of that name.", is_flag=True)
def prepare_command(what: str, data_root: Path, force: bool, **given: Any) -> None:
    """Turn images into a multi-resolution set that training reads.

    RECIPE is the name of one of the recipes below; PATH a folder of images, or a file that holds
    many: .zip, .tar, .parquet, .arrow, .h5, .tfrecords, .mdb, .npy, .npz.

    Examples: pgvae data prepare photos/ --name mine --resolution 128

    pgvae data prepare avatars --resolution 64 --count 10000
    """
    from pgvae.data.prepare import Options, prepare
    from pgvae.data.recipes import RECIPES, Ingredients, Split, recipe_of

    require(what != "", "RECIPE|PATH is empty: give a recipe or a path")
    require_skipping(given)
    if given["size"] is not None:
        given["resolution"], given["base"] = parse_size(given["size"], given["resolution"])
    ingredients = Ingredients(
        given["name"] or "",
        attributes=given["attributes"] or (),
        split=Split(given["val_fraction"], given["split_by"], given["seed"]),
        protocol=given["split_protocol"],
        **{name: given[name] for name in ("source", "resolution", "count", "seed", "labels")},
    )
    prepared = {field.name for field in fields(Options)} - {"channels", "about"}
    asked = asked_of(given)
    chosen = Options(
        channels=1 if given["grayscale"] else 3,
        about={
            "recipe": what if what in RECIPES else "folder",
            **({"asked": asked} if asked else {}),
        },
        **{name: given[name] for name in prepared if given.get(name) is not None},
    )
    store = prepare(recipe_of(what, ingredients), chosen, data_root, force=force, say=click.echo)
    report(store)


def require_skipping(given: dict[str, Any]) -> None:
    """InputError for a limit of what is left out where nothing is."""
    require(
        given["skip_bad"] or given["max_bad"] is None,
        f"--max-bad {given['max_bad']} is of --skip-bad: give both, or leave it out",
    )


def asked_of(given: dict[str, Any]) -> dict[str, Any]:
    """Of the options given those that `update` takes again, for the manifest."""
    names = ("attributes", "split_by", "upscale", "val_fraction")
    asked = {n: given[n] for n in names if given.get(n) is not None and given[n] is not False}
    return asked | ({"labels": str(given["labels"].absolute())} if given["labels"] else {})


def report(store: "Store") -> None:
    """Say what a set that was made has, and what may falsify its figures."""
    from pgvae.data.similar import near_duplicates

    if len(store.split("train")) * len(store.split("val")) <= _FEW_PAIRS:
        similar = near_duplicates(store)
        if similar:
            click.echo(f"warning: {_say_similar(store, similar)}; `pgvae data show` names all")
    counts, asked = store.manifest["splits"], store.manifest["about"].get("asked", {})
    if len(store) > 1 and counts["val"] == 0 and asked.get("val_fraction") != 0:
        by = f"{asked['split_by']!r} divides nothing; " if "split_by" in asked else ""
        click.echo(
            f"warning: {by}no image is held out, so there are no figures of unseen ones: give "
            "another --val-fraction or --split-by"
        )
    click.echo(
        f"{store.path}: {len(store):,} images ({counts['train']:,} train, {counts['val']:,} val) "
        f"at {size_named(store.base, store.resolutions[0])} to {store.size} px"
        + (f", labels {', '.join(store.attributes)}" if store.attributes else "")
    )


@data.command()
@click.argument("name", metavar="NAME|PATH")
@options.DATA_ROOT
def info(name: str, data_root: Path) -> None:
    """Show what is in a prepared set.

    Example: pgvae data info avatars
    """
    from pgvae.data.show import balance_of
    from pgvae.data.similar import near_duplicates

    store = store_called(name, data_root)
    manifest = store.manifest
    click.echo(f"{store.name} in {store.path}, digest {store.digest[:16]}")
    click.echo(
        f"images      {len(store):,}: "
        + ", ".join(f"{count:,} {split}" for split, count in manifest["splits"].items())
    )
    click.echo(f"channels    {store.channels}, crop {manifest['crop']}, seed {manifest['seed']}")
    wide = max(6, len(store.size))
    for resolution in store.resolutions:
        size = manifest["files"][f"{resolution:04d}/data.mdb"]["size"]
        codec = manifest["codecs"][str(resolution)]
        named = size_named(store.base, resolution)
        click.echo(f"{named:>{wide}} px   {codec:<5} {size / 2**20:>10,.1f} MiB")
    for index, attribute in enumerate(store.attributes):
        counts = ", ".join(
            f"{split} {yes:,} yes, {no:,} no"
            for split, (yes, no) in balance_of(store, index).items()
        )
        click.echo(f"label       {attribute}: mean {store.labels[:, index].mean():.3f}; {counts}")
    click.echo(f"duplicates  {manifest['duplicates']:,}")
    if len(store.split("train")) * len(store.split("val")) <= _FEW_PAIRS:
        click.echo(f"similar     {_say_similar(store, near_duplicates(store))}")
    click.echo(f"left out    {manifest['rejected']:,}")
    for reject in store.rejects()[:10]:
        click.echo(f"            {reject['name']}: {reject['reason']}")


def _say_similar(store: "Store", pairs: list[tuple[int, int]]) -> str:
    names = store.names()
    shown = ", ".join(f"{names[i]} ~ {names[k]}" for i, k in pairs[:5])
    return f"{len(pairs):,} of val nearly the same as one of train" + (
        f": {shown}" if pairs else ""
    )


@data.command()
@click.argument("name", metavar="NAME|PATH")
@options.DATA_ROOT
def verify(name: str, data_root: Path) -> None:
    """Read all of a prepared set and check every sum; exit code 3 where one is wrong.

    Example: pgvae data verify avatars
    """
    store = store_called(name, data_root)
    store.verify()
    click.echo(f"{store.name}: {len(store):,} images at {len(store.resolutions)} sizes are whole")


@data.command("list")
@options.DATA_ROOT
@OUTDIR
def list_command(data_root: Path, outdir: Path) -> None:
    """List the prepared sets, and say which of them no run uses.

    Example: pgvae data list
    """
    from pgvae.data import Store, prepared_in

    names, uses = prepared_in(data_root), users_in(outdir)
    if not names:
        click.echo(f"nothing is prepared in {data_root}")
    for name in names:
        try:
            store = Store(data_root / name)
        except PgvaeError as error:
            click.echo(f"{name:<24} unusable: {error}")
            continue
        click.echo(
            f"{name:<24} {len(store):>9,} images up to {store.size} px"
            + about_use(store, uses, outdir)
        )


data.add_command(remove)


def store_called(name: str, data_root: Path) -> "Store":
    """A prepared set by name or by path."""
    from pgvae.data import Store, prepared_in
    from pgvae.data.paths import is_folder

    for path in (data_root / name, Path(name)):
        if is_folder(path):
            return Store(path)
    names = ", ".join(prepared_in(data_root)) or "nothing"
    raise InputError(f"no prepared set {name!r} in {data_root}: there is {names}")
