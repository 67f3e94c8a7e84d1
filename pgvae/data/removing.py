"""Deleting a prepared set, or what a preparation that was stopped left of one."""

from collections.abc import Callable
from pathlib import Path

from pgvae.checks import nearest, require
from pgvae.data.datasets import prepared_in
from pgvae.data.manifest import has_set
from pgvae.data.paths import exists, is_folder, require_removable
from pgvae.data.placing import aside_of, locked
from pgvae.errors import InputError
from pgvae.files import remove


def check_removable(name: str, data_root: Path) -> Path:
    """Where a set of that name is, or what is left of one.

    InputError where there is none, or its files may not be deleted.
    """
    final, known = data_root / name, prepared_in(data_root)
    plain = bool(name) and Path(name).name == name
    require(
        plain and (has_set(final) or is_folder(aside_of(final))),
        f"no prepared set {name!r} in {data_root}: "
        f"{nearest(name, known) if known else 'nothing is prepared there'}",
    )
    for folder in (final, aside_of(final)):
        require_removable(folder)
    return final


def delete(name: str, data_root: Path, say: Callable[[str], None]) -> Path:
    """Delete a set, or what a preparation that was stopped left of one; -> where it was.

    Half-way it is as if its preparation had been stopped. InputError where another process
    prepares it, or the user may not.
    """
    final = check_removable(name, data_root)
    with locked(final, wait=False, say=say):
        try:
            remove(aside_of(final))
            if exists(final):
                final.rename(aside_of(final))
            remove(aside_of(final))
        except OSError as error:
            raise InputError(
                f"{error.filename or final} cannot be deleted ({error.strerror}): it may be "
                "another user's"
            ) from error
    return final
