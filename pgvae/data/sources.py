"""Where images come from: a folder, a zip, an array. Nothing is ever extracted."""

import contextlib
import hashlib
import itertools
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pgvae.data import images
from pgvae.data.arrays import ArraySource, has_arrays, load_numpy
from pgvae.data.containers.base import MAX_FILE_BYTES, FileSource, Joined, missing_parts
from pgvae.data.containers.hdf5 import Hdf5Source
from pgvae.data.containers.lsun import LmdbSource
from pgvae.data.containers.tables import ArrowSource, ParquetSource
from pgvae.data.containers.tars import TarSource
from pgvae.data.containers.tfrecords import TfRecordSource, only_largest
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
from pgvae.data.paths import (
    exists,
    is_file,
    is_folder,
    is_link,
    nearest_parent,
    printable,
    require_readable,
)
from pgvae.data.source import Source
from pgvae.data.zips import ZipSource
from pgvae.errors import InputError

_MAX_LISTED = 100_000  # files behind a link, or in a hidden folder
_KINDS = {  # by ending: what it is read by
    ".tar": TarSource,
    ".parquet": ParquetSource,
    ".arrow": ArrowSource,
    ".h5": Hdf5Source,
    ".hdf5": Hdf5Source,
    ".tfrecord": TfRecordSource,
    ".tfrecords": TfRecordSource,
    ".mdb": LmdbSource,
}
_PACKED_TARS = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
_LINK = "link out of the folder; `cp -rL` makes a copy that has what it leads to"


class FolderSource:
    """Every image file under a folder, sorted by path; links that lead out are skipped.

    An image is what is named as one, or what has no known ending and starts like one. Hidden
    files are left alone, images in hidden folders and masks of known sets skipped. A folder below
    that cannot be listed is an image that cannot be read. Raises InputError where the folder
    itself cannot be listed.

    containers: names of files that may hold many images; skipped where there are others.
    """

    notes: Sequence[str] = ()

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[dict[str, str]] = []
        self.containers: list[str] = []
        self._tables: list[str] = []
        self._paths = sorted(self._found(), key=os.fsencode)
        self.names = [printable(path) for path in self._paths]
        self.tables = sorted(map(printable, self._tables))
        self.held = held_by_folder(self.names)
        self._skip(self.containers, PACKED)

    def read(self, index: int) -> bytes:
        with self._open(index) as file:
            return file.read()

    def size(self, index: int) -> tuple[int, int]:
        with self._open(index) as file:
            return images.size_of(file)

    def side_file(self, name: str) -> bytes | None:
        path = self.root / name
        if not exists(path):
            return None
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error

    def columns(self) -> Columns | None:
        return classes_by_folder(self.names)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        labels = [name for name in self._tables if PurePosixPath(name).name == "dataset.json"]
        for path in self._paths + sorted(labels, key=os.fsencode):
            size = time = 0
            with contextlib.suppress(OSError):  # such as of a file that has just gone
                status = os.lstat(os.path.join(self.root, path))  # noqa: PTH118
                size, time = status.st_size, status.st_mtime_ns
            digest.update(f"{printable(path)}\0{size}\0{time}\n".encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Nothing stays open."""

    def _open(self, index: int) -> BinaryIO:
        path = self.root / self._paths[index]
        status = path.stat()  # before opening: a pipe would wait for ever
        if stat.S_ISDIR(status.st_mode):
            raise images.RejectError("a folder that cannot be listed")
        if not stat.S_ISREG(status.st_mode):
            raise images.RejectError("not a file")
        if status.st_size > MAX_FILE_BYTES:
            raise images.RejectError(f"{status.st_size:,} bytes are too many for an image")
        return path.open("rb", buffering=0)

    def _found(self) -> Iterator[str]:
        """Paths below the root of all images; notes what is skipped, and tables."""
        inside = os.path.realpath(self.root)  # unlike Path.resolve it bears links in a circle
        unlisted: list[OSError] = []
        for folder, folders, files in os.walk(self.root, onerror=unlisted.append):
            links = [name for name in folders if is_link(Path(folder, name))]
            place = os.path.relpath(folder, self.root)
            for name in filter(is_hidden, folders):
                self._skip(_hidden_in(Path(folder, name), self.root), HIDDEN)
            folders[:] = [name for name in folders if not is_hidden(name)]
            for file in (*files, *links):
                path = os.path.join(folder, file)  # noqa: PTH118 - a Path of each would take long
                name = file if place == "." else f"{place}/{file}"
                if is_hidden(file):
                    self._skip([name] if is_hidden_away(name) else [], HIDDEN)
                elif os.path.islink(path) and not _is_below(path, inside):  # noqa: PTH114
                    self._skip(_behind(Path(path), name), _LINK)
                elif is_table(name):
                    self._tables.append(name)
                elif is_container(name):
                    self.containers.append(name)
                elif file not in links and may_be_image(name, lambda p=path: _start_of(Path(p))):
                    if is_mask(name):
                        self._skip([name], MASK)
                    else:
                        yield name
        for error in unlisted:
            if Path(error.filename) == self.root:
                raise InputError(f"{self.root} cannot be listed: {error.strerror}") from error
            yield str(Path(error.filename).relative_to(self.root))

    def _skip(self, names: Sequence[str], reason: str) -> None:
        self.skipped += ({"name": printable(name), "reason": reason} for name in names)


def open_source(path: Path) -> Source:
    """A folder, or one of the files that hold many images, or a folder of these.

    InputError where it is none, or holds no images.
    """
    if is_folder(path):
        source = FolderSource(path)
        if source.containers and not source.names:
            source = _of_containers(path, source.containers)
    elif is_file(path):
        require_readable(path)
        source = _of_file(path)
    else:
        raise InputError(f"no such folder or file: {path} ({nearest_parent(path)})")
    if not source.names:
        reasons = {entry["reason"] for entry in source.skipped}
        raise InputError(
            f"{path} holds no images but {len(source.skipped):,} left out: {', '.join(reasons)}"
            if reasons
            else f"{path} holds no images: give a folder, an archive or a table of {images.READ}"
        )
    return source


def holds_many(path: Path) -> bool:
    """Whether a file holds many images, and is none itself."""
    return path.suffix.lower() in _KINDS or has_arrays(path) or zipfile.is_zipfile(path)


def fingerprint_of(path: Path) -> str:
    """That of the source at a path, without looking into a file that holds many images."""
    return FileSource(path).fingerprint() if is_file(path) else open_source(path).fingerprint()


def _of_file(path: Path) -> Source:
    """What a file holds, by its ending, or by its content where that says nothing."""
    if has_arrays(path):
        return ArraySource(path, load_numpy)
    if path.suffix.lower() in _KINDS:
        return _KINDS[path.suffix.lower()](path)
    if zipfile.is_zipfile(path):
        return ZipSource(path)
    if path.suffix.lower() in _PACKED_TARS:
        raise InputError(
            f"{path} is packed as a whole, so that no image can be read by itself: unpack it first "
            "(tar -xf)"
        )
    if (_start_of(path) or b"").startswith(b"PK\3\4"):
        raise InputError(f"{path} is no whole zip: the list at its end is missing; get it anew")
    raise InputError(
        f"{path} is neither a folder nor a zip of images, nor one of the other files that hold "
        f"many: {', '.join([*_KINDS, '.npy', '.npz'])}"
    )


def _of_containers(path: Path, names: Sequence[str]) -> Source:
    """A folder of archives, tables or arrays, such as the shards of a set."""
    files = only_largest([path / name for name in names if not name.endswith("lock.mdb")])
    files = [file for file in files if not file.name.endswith("-labels.npy")]
    endings = sorted({file.suffix.lower() for file in files})
    if len(endings) > 1:
        raise InputError(
            f"{path} holds no images but files of several kinds: {', '.join(endings)}; name one of "
            "them, or a folder of one kind"
        )
    parts = {printable(str(file.relative_to(path))): _of_file(file) for file in files}
    source = next(iter(parts.values())) if len(parts) == 1 else Joined(path, parts)
    source.notes = [*missing_parts([*parts]), *source.notes]
    return source


def _is_below(path: str, folder: str) -> bool:
    """Whether what a link leads to is in that folder, itself free of links."""
    return Path(os.path.realpath(path)).is_relative_to(folder)


def _behind(link: Path, name: str) -> list[str]:
    """Names of the images that a link leads to: one, or those in a folder."""
    if not is_folder(link):
        return [name] if may_be_image(name, lambda: _start_of(link)) else []
    files = (Path(folder, file) for folder, _, files in os.walk(link) for file in files)
    return [
        str(Path(name) / path.relative_to(link))
        for path in itertools.islice(files, _MAX_LISTED)
        if not is_hidden(path.name) and may_be_image(path.name, lambda path=path: _start_of(path))
    ]


def _hidden_in(folder: Path, root: Path) -> list[str]:
    """Names of the images in a hidden folder, by their endings, among its first files."""
    if is_link(folder):
        return []
    walk = ((os.path.relpath(place, root), files) for place, _, files in os.walk(folder))
    names = (f"{place}/{file}" for place, files in walk for file in files)
    return [name for name in itertools.islice(names, _MAX_LISTED) if is_hidden_away(name)]


def _start_of(path: Path) -> bytes | None:
    """The first bytes of a file, none of what is no file; None where it cannot be read."""
    if not is_file(path):  # a pipe would wait for ever
        return b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(16)
    return None
