"""`pgvae check`: is what is there whole, and what can be used of it."""

from collections import Counter
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from pgvae.cli import options
from pgvae.errors import CorruptFileError

if TYPE_CHECKING:
    from pgvae.training.check import Part


@click.command("check")
@click.argument("paths", nargs=-1, required=True, type=options.PATH)
@options.DATA_ROOT
def check_command(paths: tuple[Path, ...], data_root: Path) -> None:
    """Read everything and change nothing; exit code 3 where a file is damaged.

    PATHS are run directories, snapshots, checkpoints, published folders, prepared sets (or their
    names), or folders of these, such as a back-up. Says what is damaged, and what can still be
    used.

    Example: pgvae check runs/ datasets/
    """
    from pgvae.training.check import check, usable

    damaged = 0
    for path in _each(paths, data_root):
        parts = []
        for part in check(path):
            parts.append(part)
            if part.problem:
                click.echo(f"damaged: {part.problem}")
            elif part.note:
                click.echo(f"note: {part.path}: {part.note}")
        damaged += sum(bool(part.problem) for part in parts)
        click.echo(f"{path}: {_counted(parts)}")
        if any(part.kind == "plan" for part in parts):
            _tell(path, *usable(parts))
    if damaged:
        raise CorruptFileError(f"{damaged} damaged: see above")


def _each(paths: tuple[Path, ...], data_root: Path) -> list[Path]:
    """What was named, and what is in folders that were."""
    from pgvae.data import prepared_in
    from pgvae.data.manifest import may_be_set
    from pgvae.training.check import is_model, is_ours, is_run, others_in

    found: list[Path] = []
    for path in paths:
        path = data_root / path if not path.exists() and (data_root / path).exists() else path
        inner = [path]
        if path.is_dir() and not (is_run(path) or is_model(path) or may_be_set(path)):
            runs = sorted(p for p in path.iterdir() if p.is_dir() and (is_run(p) or is_model(p)))
            sets = [path / name for name in prepared_in(path)]
            files = {file: is_ours(file) for file in others_in(path)}
            for file in (file for file, ours in files.items() if not ours):
                click.echo(f"note: {file}: not looked at, it says nowhere that it is a snapshot")
            inner = [*runs, *sets, *(file for file, ours in files.items() if ours)] or [path]
        found += inner
    return found


def _counted(parts: list["Part"]) -> str:
    """How many of each kind are whole."""
    whole = Counter(part.kind for part in parts if not part.problem)
    every = Counter(part.kind for part in parts)
    return ", ".join(f"{kind} {whole[kind]} of {count} whole" for kind, count in every.items())


def _tell(run: Path, checkpoint: Path | None, snapshot: Path | None) -> None:
    """What can be done with a run."""
    file = quote(str(snapshot))
    if checkpoint:
        click.echo(f"  `python train.py --resume {quote(str(run))}` goes on from {checkpoint.name}")
    elif snapshot:
        click.echo(f"  nothing to go on from: `--init-from {file}` starts a new run")
    if snapshot:
        click.echo(f"  `python generate.py --snapshot {file}` has the newest whole snapshot")
