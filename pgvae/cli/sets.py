"""`pgvae data remove`, and which runs use a prepared set."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgvae.checks import require
from pgvae.cli import options
from pgvae.cli.options import PATH, option
from pgvae.files import content_of

if TYPE_CHECKING:
    from pgvae.data import Store

_RUNS = Path("runs")
OUTDIR = option("--outdir", "Where run directories are.", PATH, default=_RUNS)


@click.command()
@click.argument("names", metavar="NAME", nargs=-1, required=True)
@options.DATA_ROOT
@OUTDIR
@option("--force", "Delete a set that a run uses too.", is_flag=True)
def remove(names: tuple[str, ...], data_root: Path, outdir: Path, force: bool) -> None:
    """Delete prepared sets, or what is left of a preparation that was stopped.

    The images that a set was made of stay. A run whose set is gone cannot go on.

    Example: pgvae data remove photos-1a2b3c4d
    """
    from pgvae.data import Store
    from pgvae.data.removing import check_removable, delete
    from pgvae.errors import PgvaeError

    uses = users_in(outdir)
    for name in names:
        path = check_removable(name, data_root)
        try:
            digest = Store(path).digest
        except PgvaeError:  # damaged: no run can go on with it
            continue
        require_unused(path, uses.get(digest, []), force)
    for name in names:
        where = data_root / name
        left = f", a link: {where.resolve()} is as it was" if where.is_symlink() else ""
        click.echo(f"deleted {delete(name, data_root, say=click.echo)}{left}")


def users_in(outdir: Path) -> dict[str, list[Path]]:
    """Run directories by the digest of the images that they train on; InputError for no folder."""
    require(
        outdir.is_dir() or outdir == _RUNS,
        f"--outdir {outdir} is no folder, so nobody knows what runs use: mend it, or leave it out",
    )
    found: dict[str, list[Path]] = {}
    for file in sorted(outdir.glob("*/config.json")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            digest = json.loads(content_of(file))["dataset_digest"]
            found.setdefault(digest, []).append(file.parent)
    return found


def require_unused(path: Path, runs: list[Path], force: bool) -> None:
    """Raise InputError where runs use a set, unless forced."""
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    require(
        force or not runs,
        f"{path} is used by {runs[0] if runs else ''}{more}: --force deletes it all the same",
    )


def about_use(store: "Store", uses: dict[str, list[Path]], outdir: Path) -> str:
    """A word about a set that no run uses; "" where one does, or there are no runs."""
    if not uses or store.digest in uses:
        return ""
    size = sum(entry["size"] for entry in store.manifest["files"].values())
    return f", {size / 2**20:,.1f} MiB that no run in {outdir} uses"
