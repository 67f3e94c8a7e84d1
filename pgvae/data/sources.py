"""Where images come from: a folder, a zip, an array. Nothing is ever extracted."""

import contextlib
import hashlib
import itertools
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from pgvae.data import images
from pgvae.data.arrays import ArraySource, has_arrays, load_numpy
from pgvae.data.kinds import MASK, is_hidden, is_mask, is_table, may_be_image
from pgvae.data.paths import (
    exists,
    is_file,
    is_folder,
    is_link,
    nearest_parent,
    printable,
    require_readable,
)
from pgvae.data.zips import MAX_FILE_BYTES, ZipSource
from pgvae.errors import InputError

_MAX_LISTED = 100_000  # files behind a link
_LINK = "link out of the folder; `cp -rL` makes a copy that has what it leads to"


class Source(Protocol):
    """Named images. Picklable, so that worker processes can read from it.

    names:   of the images, in their order.
    skipped: {"name", "reason"} of what was passed over on purpose.
    """

    names: Sequence[str]
    skipped: list[dict[str, str]]

    def read(self, index: int) -> bytes | images.Decoded:
        """The file of image `index`, or its pixels where there is none.

        RejectError or OSError where it cannot be read.
        """
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Upright width and height from the header of image `index`; raises as `read`."""
        ...

    def side_file(self, name: str) -> bytes | None:
        """A file beside the images, such as dataset.json; None where there is none."""
        ...

    def fingerprint(self) -> str:
        """Changes when the files do (names, sizes, times)."""
        ...

    def close(self) -> None:
        """Close what is open in this process; reading opens it again."""
        ...


class FolderSource:
    """Every image file under a folder, sorted by path; links that lead out are skipped.

    An image is what is named as one, or what has no known ending and starts like one. Hidden
    files are left alone, masks of known sets skipped. A folder below that cannot be listed is
    an image that cannot be read. Raises InputError where the folder itself cannot be listed.

    tables: names of files that may hold labels.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[dict[str, str]] = []
        self._tables: list[str] = []
        self._paths = sorted(self._found(), key=os.fsencode)
        self.names = [printable(path) for path in self._paths]
        self.tables = sorted(map(printable, self._tables))

    def read(self, index: int) -> bytes:
        with self._open(index) as file:
            return file.read(MAX_FILE_BYTES + 1)

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

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        labels = [name for name in self._tables if PurePosixPath(name).name == "dataset.json"]
        for path in self._paths + sorted(labels, key=os.fsencode):
            size = time = 0
            with contextlib.suppress(OSError):  # such as of a file that has just gone
                status = (self.root / path).lstat()
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
        return path.open("rb")

    def _found(self) -> Iterator[str]:
        """Paths below the root of all images; notes what is skipped, and tables."""
        inside = os.path.realpath(self.root)  # unlike Path.resolve it bears links in a circle
        unlisted: list[OSError] = []
        for folder, folders, files in os.walk(self.root, onerror=unlisted.append):
            links = [name for name in folders if is_link(Path(folder, name))]
            folders[:] = [name for name in folders if not is_hidden(name)]
            for file in itertools.filterfalse(is_hidden, [*files, *links]):
                path = Path(folder, file)
                name = str(path.relative_to(self.root))
                if is_link(path) and not _is_below(path, inside):
                    self._skip(_behind(path, name), _LINK)
                elif is_table(name):
                    self._tables.append(name)
                elif file not in links and may_be_image(name, lambda path=path: _start_of(path)):
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


def open_source(path: Path) -> FolderSource | ZipSource | ArraySource:
    """A folder, a zip, an .npy or .npz; InputError where it is none, or holds no images."""
    if is_folder(path):
        source = FolderSource(path)
    elif has_arrays(path):
        source = ArraySource(path, load_numpy)
    elif is_file(path):
        require_readable(path)
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path} is neither a folder nor a zip of images")
        source = ZipSource(path)
    else:
        raise InputError(f"no such folder or zip: {path} ({nearest_parent(path)})")
    if not source.names:
        reasons = {entry["reason"] for entry in source.skipped}
        raise InputError(
            f"{path} holds no images but {len(source.skipped):,} left out: {', '.join(reasons)}"
            if reasons
            else f"{path} holds no images: give a folder or zip of PNG, JPEG, WebP or BMP"
        )
    return source


def _is_below(path: Path, folder: str) -> bool:
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


def _start_of(path: Path) -> bytes:
    """The first bytes of a file; none where it is no file or cannot be read."""
    if not is_file(path):  # a pipe would wait for ever
        return b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(16)
    return b""
