"""Files that are either whole or not there: write aside, fsync, rename, fsync the directory."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgvae.errors import ResourceError


def fsync(path: Path) -> None:
    """Flush a file or directory to the disk; a directory only where the file system can."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex.

    >>> (folder / "empty").touch()
    >>> sha256_of(folder / "empty")[:16]
    'e3b0c44298fc1c14'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or a directory at; it becomes `path` on success.

    On an error nothing is left. A full disk raises ResourceError naming the path.

    >>> with atomic_path(folder / "notes.txt") as aside:
    ...     _ = aside.write_text("all or nothing")
    >>> [file.name for file in folder.iterdir()]
    ['notes.txt']
    """
    aside = path.with_name(f".{path.name}.tmp")
    remove(aside)
    try:
        with disk_errors(path):
            yield aside
            if aside.is_dir():
                for file in aside.iterdir():
                    fsync(file)
            fsync(aside)
            aside.rename(path)
            fsync(path.parent)
    except BaseException:
        remove(aside)
        raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or quota while writing `path` into a ResourceError."""
    try:
        yield
    except Exception as error:
        there = next(folder for folder in path.parents if folder.exists())
        if _says_full(error) or (_may_hide_full(error) and _is_full(there)):
            free = shutil.disk_usage(there).free
            raise ResourceError(
                f"disk full while writing {path}: {free:,} bytes free; make room and rerun"
            ) from error
        raise


def _says_full(error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT)
    words = str(error)
    return getattr(error, "errno", None) in full or any(os.strerror(n) in words for n in full)


def _may_hide_full(error: Exception) -> bool:
    """A write that a full disk cuts short is to LMDB an input/output error, to NumPy a count."""
    words = str(error)
    return os.strerror(errno.EIO) in words or ("requested and" in words and "written" in words)


def _is_full(folder: Path) -> bool:
    """Whether a megabyte can not be written there now."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return _says_full(error)
    return False


def remove(path: Path) -> None:
    """Delete a file or a directory tree, if it is there.

    >>> (folder / "a" / "b").mkdir(parents=True)
    >>> remove(folder / "a")
    >>> (folder / "a").exists()
    False
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
