"""Where a set is put: under a free name, by one process at a time, whole or not at all."""

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pgvae import files
from pgvae.checks import require
from pgvae.data.manifest import has_set
from pgvae.data.paths import exists, is_link, require_removable
from pgvae.errors import InputError, Preempted
from pgvae.files import disk_errors, fsync, remove, require_utf8

_POLL = 0.1  # seconds between two looks at a lock


def check_name(name: str) -> str:
    """Return `name` if a folder in the data root may be called so; InputError otherwise."""
    plain = name.isprintable() and not set(name) & set("/\\:") and not name.startswith((".", "-"))
    require(
        bool(name) and plain and not name.endswith(".tmp") and len(os.fsencode(name)) <= 200,
        f"{name!r} cannot be the name of a set: give --name NAME, of letters, digits, - and _",
    )
    return name


def check_free(final: Path, force: bool) -> None:
    """A set is replaced only with `force`, and anything that is not a set never is.

    Nor is one whose files may not be deleted: once it is moved away it could not go.
    """
    require_utf8(final)
    _require_no_link(final)
    if not exists(final):
        return
    require(
        has_set(final),
        f"{final} is not a prepared set, so it is not replaced: use --name for another name",
    )
    require(force, f"{final} exists: use --force to replace it or --name for another")
    require_removable(final)


def _require_no_link(final: Path) -> None:
    """InputError for a set that is a link: it would go, and what it leads to would stay."""
    if is_link(final):
        there = final.resolve()
        raise InputError(
            f"{final} is a link to {there}, whose files this would leave as they are: use "
            f"--data-root {shlex.quote(str(there.parent))}, or remove the link"
        )


@contextlib.contextmanager
def locked(final: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the right to write a set, which ends with this process.

    Where another has it, InputError, or with `wait` until that one is done. Where the file system
    knows no locks a warning is said. The lock's file stays: to delete it would let two processes
    lock two files of one name.
    """
    with contextlib.ExitStack() as stack:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            held = _take(stack, final, wait, say)
        except OSError as error:
            raise InputError(
                f"cannot write to {error.filename} ({error.strerror}): give another --data-root"
            ) from error
        if not held:
            say(
                f"warning: {final.parent} cannot be locked: see that no other process prepares "
                "the same set"
            )
        yield


def _take(stack: contextlib.ExitStack, final: Path, wait: bool, say: Callable[[str], None]) -> bool:
    """Hold the lock of a set until `stack` closes; -> whether there are locks."""
    lock, said = final.with_name(f".{final.name}.lock"), False
    while True:
        try:
            return stack.enter_context(files.locked(lock))
        except BlockingIOError as error:
            if not wait:
                raise InputError(
                    f"{final} is being prepared by another process: wait for it, "
                    "or use --name for another"
                ) from error
        if not said:
            say(f"waiting for another process, which prepares {final}")
        said = True
        time.sleep(_POLL)


@contextlib.contextmanager
def written_aside(final: Path, goes_on: Callable[[Path], bool]) -> Iterator[Path]:
    """A folder to write a set in; it becomes `final` on success, and is gone on an error.

    It is fresh, unless `goes_on` says that what a killed preparation left there will be used; one
    that is asked to stop leaves the same.
    A set that is there before is replaced, and never lost. ResourceError where the disk is full,
    InputError where what lies there is another user's.
    """
    aside, old, kept = aside_of(final), final.with_name(f"{final.name}.old.tmp"), False
    with _owner_errors():
        _restore(final, old)
        if not goes_on(aside):
            remove(aside)
    try:
        with disk_errors(final):
            aside.mkdir(exist_ok=True)
            yield aside
            with _owner_errors():
                if final.exists():
                    final.rename(old)
                aside.rename(final)
            fsync(final.parent)
    except (KeyboardInterrupt, Preempted):
        kept = goes_on(aside)
        raise
    finally:
        if not kept:
            remove(aside)
        _restore(final, old)


def aside_of(final: Path) -> Path:
    """Where a set is written before it is whole."""
    return final.with_name(f"{final.name}.tmp")


@contextlib.contextmanager
def _owner_errors() -> Iterator[None]:
    """Turn what a user may not move or delete into InputError."""
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"{error.filename} cannot be replaced ({error.strerror}), it may be another user's: "
            "use --name for another"
        ) from error


def _restore(final: Path, old: Path) -> None:
    """Put back the old set if a replacement stopped half-way; else it has served."""
    if old.exists() and not final.exists():
        old.rename(final)
    remove(old)
