"""Files that are either whole or not there: write aside, fsync, rename, fsync the directory.

Also where a drive or a system cannot lock, flush a folder, or rename over an open file.
"""

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from pgvae.errors import InputError, PgvaeError, ResourceError, one_line

SUMS = "SHA256SUMS"  # names the digests of a folder's files
PART_BYTES = 32 << 20  # of a large file that is summed by itself
_PIECE = 1 << 20  # bytes that are read at a time
_FULL = (errno.ENOSPC, errno.EDQUOT)


def fsync(path: Path) -> None:
    """Flush a file to the disk; a folder as `sync_folder`."""
    if path.is_dir():
        sync_folder(path)
        return
    with path.open("rb+") as file:  # Windows flushes what can be written to
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, where the system and the file system can do that."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in (errno.EIO, *_FULL):
            raise


def content_of(path: Path) -> bytes:
    """All of a file; OSError where it is none: a pipe would be waited for.

    >>> (folder / "empty").touch()
    >>> content_of(folder / "empty")
    b''
    """
    with _opened(path) as file:
        return file.read()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex. Raises as `content_of`.

    >>> (folder / "empty").touch()
    >>> sha256_of(folder / "empty")[:16]
    'e3b0c44298fc1c14'
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of_parts(path: Path, pool: Executor) -> list[str]:
    """The SHA-256, as hex, of each `PART_BYTES` of a file, in order. Raises as `content_of`.

    One thread cannot sum a large file as fast as disks and memory give it: the pool's share it.
    """
    starts = range(0, max(path.stat().st_size, 1), PART_BYTES)
    return [*pool.map(lambda start: _sum_of_part(path, start), starts)]


def _sum_of_part(path: Path, start: int) -> str:
    digest, left = hashlib.sha256(), PART_BYTES
    with _opened(path) as file:
        file.seek(start)
        while left and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def _opened(path: Path) -> BufferedReader:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no file, but a folder, a pipe or a device", str(path))
    return path.open("rb")


def sums_of(folder: Path, names: Iterable[str]) -> bytes:
    """What `SHA256SUMS` says of files of a folder, as `sha256sum` writes it.

    >>> _ = (folder / "a").write_bytes(b"")
    >>> sums_of(folder, ["a"])[-8:]
    b'b855  a\\n'
    """
    return "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names).encode()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path`, made where it is not there, until the block or the process ends.

    -> whether it is held: False where the system or the drive has no locks, and nothing guards.
    Raises BlockingIOError, with the id of the process, where another one has it, and another
    OSError where the file cannot be made. It stays: to delete it would let two have one name.

    >>> with locked(folder / ".lock") as held:
    ...     held
    True
    """
    with path.open("a+b", buffering=0) as file:
        try:
            held = _flock(file)
        except BlockingIOError as error:
            file.seek(0)
            error.strerror = f"process {file.read().decode(errors='replace').strip() or 'unknown'}"
            raise
        with contextlib.suppress(OSError):  # of a full disk: the lock holds without it
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield held


def _flock(file: BinaryIO | int, wait: bool = False) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # ENOLCK, ENOTSUP, ENOSYS: a drive that has no locks
        return False
    return True


@contextlib.contextmanager
def turn_at(folder: Path) -> Iterator[None]:
    """Wait for one's turn to read and write files of a folder that belong together, and hold it.

    Of programs that all ask for it, one at a time; nothing guards where there are no such locks.

    >>> with turn_at(folder):
    ...     _ = (folder / "a").write_text("b")
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # Windows opens no folder
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            _flock(handle, wait=True)
        yield


def require_utf8(path: Path) -> None:
    """Raise InputError for a path of other letters than UTF-8: LMDB and safetensors open none.

    >>> require_utf8(Path(os.fsdecode(b"a-\\xff")))
    Traceback (most recent call last):
    ...
    pgvae.errors.InputError: a-\\udcff is no name in UTF-8, ...: rename it, or give another
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path} is no name in UTF-8, and LMDB and safetensors open no such: rename it, or "
            "give another"
        ) from error


def require_replaceable(path: Path) -> None:
    """Raise InputError where `path` is a device, a pipe or a socket: a rename would take its place.

    >>> require_replaceable(folder / "new")
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path} is a device, a pipe or a socket: give the name of a file")


@contextlib.contextmanager
def atomic_path(path: Path, needs: int = 0, flushed: bool = True) -> Iterator[Path]:
    """A path beside `path` to write a file or a directory at; it becomes `path` on success.

    It is of this process alone: of several that write `path` the last one wins. On an error nothing
    is left. A full disk raises ResourceError naming the path, and what is no file InputError
    (`require_replaceable`). Files have the permissions of any new file there, whatever the library
    that wrote them gave them.

    needs: the bytes that will be written, where they are known, to say them. flushed: to the disk
    before it is renamed; not for what can be made again and is many files.

    >>> with atomic_path(folder / "notes.txt") as aside:
    ...     _ = aside.write_text("all or nothing")
    >>> [file.name for file in folder.iterdir()]
    ['notes.txt']
    """
    require_replaceable(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if flushed:
        remove_left(path)  # which lists the folder: not for each of many files
    remove(aside)
    try:
        with disk_errors(path, needs):
            mode = _mode_of_new(aside)
            yield aside
            for file in filter(Path.is_file, aside.iterdir() if aside.is_dir() else [aside]):
                with contextlib.suppress(OSError):  # of a drive without permissions
                    file.chmod(mode)
                if flushed:
                    fsync(file)
            if aside.is_dir():
                fsync(aside)
            _replace(aside, path)
            if flushed:
                fsync(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(aside):
            error.filename = str(path)  # which is the one that a user knows
        with contextlib.suppress(OSError):  # of a drive that is gone
            remove(aside)
        raise


def remove_left(path: Path) -> None:
    """Remove what processes that are gone left of writing `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        number = left.suffixes[-2].removeprefix(".")
        if number.isdigit() and not _is_there(int(number)):
            remove(left)


def _is_there(process: int) -> bool:
    """Whether there is such a process; where nothing tells, there is."""
    if os.name == "posix":  # elsewhere os.kill ends it
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # another user's
            pass
    return True


def _mode_of_new(path: Path) -> int:
    """The permissions of a file that is made there: umask and the folder's own rules decide."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def _replace(aside: Path, path: Path) -> None:
    """Rename, over a file too where that is open and the drive takes nothing in its place."""
    try:
        aside.replace(path)
    except OSError as error:
        if error.errno in _FULL or not path.is_file():
            raise
        old = path.with_name(f".{path.name}.old")
        remove(old)
        path.rename(old)
        try:
            aside.rename(path)
        except OSError:
            old.rename(path)
            raise
        with contextlib.suppress(OSError):  # whoever has it open keeps it
            remove(old)


@contextlib.contextmanager
def disk_errors(path: Path, needs: int = 0) -> Iterator[None]:
    """Turn a full disk or quota while writing `path`, of `needs` bytes, into a ResourceError.

    What a drive that fails says is one too, naming the file that the error is of, else `path`.
    """
    try:
        yield
    except Exception as error:
        there = next(folder for folder in path.absolute().parents if folder.exists())
        if _says_full(error) or (_may_hide_full(error) and _is_full(there)):
            free = shutil.disk_usage(there).free
            wanted = f" of {needs:,} needed" if needs else ""
            raise ResourceError(
                f"disk full while writing {path}: {free:,} bytes free{wanted}; make room and rerun"
            ) from error
        if _may_hide_full(error) and not isinstance(error, PgvaeError):  # and hides none
            where = (path_of(error) if isinstance(error, OSError) else "") or path
            raise ResourceError(
                f"{where}: {one_line(error)}; see to the drive and rerun"
            ) from error
        raise


def _says_full(error: Exception) -> bool:
    words = str(error)
    return getattr(error, "errno", None) in _FULL or any(os.strerror(n) in words for n in _FULL)


def _may_hide_full(error: Exception) -> bool:
    """A write that a full disk cuts short is to LMDB an input/output error, to NumPy a count."""
    words = str(error)
    cut_short = "requested and" in words and "written" in words
    return (
        getattr(error, "errno", None) == errno.EIO or os.strerror(errno.EIO) in words or cut_short
    )


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


def path_of(error: OSError) -> str:
    """Of what file or folder an error tells; "" where it does not.

    >>> path_of(FileNotFoundError(2, "No such file or directory", b"a.png"))
    'a.png'
    """
    where = error.filename2 or error.filename or ""
    return os.fsdecode(where) if isinstance(where, (str, bytes)) else str(where)


def numbered_folder(parent: Path, name: str) -> Path:
    """A new folder `parent/NNNNN-name`, of the next number, which no other process can take.

    >>> [numbered_folder(folder / "runs", name).name for name in ("a", "b")]
    ['00000-a', '00001-b']
    """
    parent.mkdir(parents=True, exist_ok=True)
    number = max(_numbers(parent), default=-1) + 1
    while True:
        reserved = parent / f".{number:05d}"
        try:
            reserved.mkdir()
        except FileExistsError:  # another process is making that one
            number += 1
            continue
        try:
            if number not in _numbers(parent):  # else it has just made it
                path = parent / f"{number:05d}-{name}"
                path.mkdir()
                return path
            number += 1
        finally:
            reserved.rmdir()


def _numbers(parent: Path) -> set[int]:
    return {int(m[1]) for p in parent.iterdir() if (m := re.match(r"(\d{5,})-", p.name))}


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
