"""Images in a zip, which is never extracted."""

import contextlib
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pgvae.data import images
from pgvae.data.containers.base import MAX_FILE_BYTES, MAX_RATIO, FileSource
from pgvae.data.folders import classes_by_folder, held_by_folder
from pgvae.data.kinds import (
    HIDDEN,
    MASK,
    PACKED,
    is_container,
    is_hidden,
    is_hidden_away,
    is_mask,
    is_table,
    may_be_image,
)
from pgvae.data.labels import Columns
from pgvae.data.paths import printable
from pgvae.errors import InputError

_MAX_FILES = 5_000_000
_MAX_BYTES = 8 << 40
_TOLD_BELOW = 1 << 16  # the end of a zip counts in two bytes, whose largest number is "many"
_END_BYTES = (1 << 16) + 22  # with the longest comment


class ZipSource(FileSource):
    """Every image file in a zip, sorted by name. Opened anew in each process.

    Backslashes, which Windows packs, are slashes. Raises InputError for an archive that is damaged,
    encrypted, or holds absolute names, names with "..", links, one name twice, or more than images
    can honestly take.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with _zip_errors():
                entries = self._file().infolist()
        except (images.RejectError, OSError) as error:
            raise InputError(f"{path} is not a readable zip: {error}") from error
        _check_entries(path, entries)
        packed = {_name_of(entry): entry.filename for entry in entries}
        self._packed = {name: own for name, own in packed.items() if name != own}
        files = sorted(name for name in packed if not name.endswith("/"))
        left = {name: HIDDEN for name in files if is_hidden_away(name)}
        files = [name for name in files if not any(map(is_hidden, PurePosixPath(name).parts))]
        self.tables = [printable(name) for name in files if is_table(name)]
        found = [name for name in files if may_be_image(name, lambda name=name: self._start(name))]
        self._entries = [name for name in found if not is_mask(name)]
        left |= {name: MASK for name in found if is_mask(name)}
        left |= {name: PACKED for name in files if is_container(name)}
        self.skipped = [{"name": printable(n), "reason": reason} for n, reason in left.items()]
        self.names = [printable(name) for name in self._entries]
        self.held = held_by_folder(self.names)

    def read(self, index: int) -> bytes:
        with _zip_errors():
            return self._file().read(self._own(self._entries[index]))

    def size(self, index: int) -> tuple[int, int]:
        with _zip_errors(), self._file().open(self._own(self._entries[index])) as file:
            return images.size_of(file)

    def side_file(self, name: str) -> bytes | None:
        if self._own(name) not in self._file().NameToInfo:
            return None
        try:
            with _zip_errors():
                return self._file().read(self._own(name))
        except (images.RejectError, OSError) as error:
            raise InputError(f"{name} in {self.path}: {error}") from error

    def columns(self) -> Columns | None:
        return classes_by_folder(self.names)

    def _start(self, name: str) -> bytes | None:
        """The first bytes of a file; None where it cannot be read."""
        with contextlib.suppress(images.RejectError, OSError), _zip_errors():
            return self._file().open(self._own(name)).read(16)
        return None

    def _own(self, name: str) -> str:
        """What the archive calls a file."""
        return self._packed.get(name, name)

    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn whatever zipfile and its decompressors raise for damaged data into RejectError."""
    try:
        yield
    except (images.RejectError, OSError):
        raise
    except Exception as error:  # BadZipFile, zlib.error, LZMAError, RuntimeError, struct.error, ...
        raise images.RejectError(f"cannot be unpacked: {error}") from error


def _check_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """InputError for an archive that no honest packer makes."""
    if len(entries) > _MAX_FILES:
        raise InputError(f"{path} holds {len(entries):,} files: at most {_MAX_FILES:,}; refused")
    told = _entries_told(path)
    if told not in (len(entries) % _TOLD_BELOW, _TOLD_BELOW - 1):
        raise InputError(
            f"{path} is damaged: it tells of {told:,} files, {len(entries):,} are found"
        )
    require_all_listed(path, entries)
    total = sum(entry.file_size for entry in entries)
    if total > _MAX_BYTES:
        raise InputError(f"{path} unpacks to {total:,} bytes: at most {_MAX_BYTES:,}; refused")
    seen: set[str] = set()
    for entry in entries:
        problem = "a name twice" if _name_of(entry) in seen else _problem_of(entry)
        if problem:
            raise InputError(f"{path} holds {problem}: {printable(entry.filename)!r}; refused")
        seen.add(_name_of(entry))


def _name_of(entry: zipfile.ZipInfo) -> str:
    """The path of an entry, whichever system packed it."""
    return entry.filename.replace("\\", "/")


def _entries_told(path: Path) -> int:
    """How many files the end of a zip tells of, which zipfile does not look at."""
    with path.open("rb") as file:
        file.seek(-min(_END_BYTES, path.stat().st_size), os.SEEK_END)
        end = file.read()
    at = end.rindex(b"PK\5\6")
    return int.from_bytes(end[at + 10 : at + 12], "little")


def require_all_listed(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """InputError where files are before the first in a zip's list, as where several were joined."""
    with path.open("rb") as file:
        packed = file.read(4) == b"PK\3\4"  # and no program that unpacks it
    if packed and min((entry.header_offset for entry in entries), default=0) > 0:
        raise InputError(
            f"{path} has files before the first that it lists: several were joined, or a part is "
            "lost; pack the files anew"
        )


def _problem_of(entry: zipfile.ZipInfo) -> str:
    name = PurePosixPath(_name_of(entry))
    drive = len(entry.filename) > 1 and entry.filename[1] == ":"
    if name.is_absolute() or ".." in name.parts or drive:
        return "a name that leads out of the archive"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or device"
    if entry.flag_bits & 1:
        return "an encrypted file"
    if entry.file_size > MAX_FILE_BYTES:
        return f"a file of {entry.file_size:,} bytes"
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1) + (1 << 20):
        return "a file that unpacks to far more than it is"
    return ""
