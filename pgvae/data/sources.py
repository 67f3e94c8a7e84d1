"""Where images come from: a folder, a zip. Nothing is ever extracted."""

import hashlib
import os
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from pgvae.errors import InputError

IMAGE_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".eps",
    ".tif",
    ".tiff",
    ".gif",
    ".jfif",
}
_MAX_FILES = 5_000_000
_MAX_FILE_BYTES = 512 << 20
_MAX_RATIO = 200  # unpacked over packed: an image hardly shrinks at all


class Source(Protocol):
    """Named images. Picklable, so that worker processes can read from it.

    names:   of the images, in their order.
    skipped: {"name", "reason"} of what was passed over on purpose.
    """

    names: Sequence[str]
    skipped: list[dict[str, str]]

    def read(self, index: int) -> bytes:
        """The file of image `index`."""
        ...

    def side_file(self, name: str) -> bytes | None:
        """A file beside the images, such as dataset.json; None where there is none."""
        ...

    def fingerprint(self) -> str:
        """Changes when the files do (names, sizes, times)."""
        ...


class FolderSource:
    """Every image file under a folder, sorted by path; links that lead out are skipped."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[dict[str, str]] = []
        inside = root.resolve()
        paths = []
        for folder, folders, files in os.walk(root):
            folders.sort()
            for file in sorted(files):
                path = Path(folder, file)
                if path.suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                if path.is_symlink() and not path.resolve().is_relative_to(inside):
                    name = printable(str(path.relative_to(root)))
                    self.skipped.append({"name": name, "reason": "link out of the folder"})
                else:
                    paths.append(path)
        self._paths = [str(path.relative_to(root)) for path in paths]
        self.names = [printable(path) for path in self._paths]

    def read(self, index: int) -> bytes:
        return (self.root / self._paths[index]).read_bytes()

    def side_file(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self._paths:
            status = (self.root / path).stat()
            digest.update(f"{printable(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


class ZipSource:
    """Every image file in a zip, sorted by name. Opened anew in each process.

    Raises InputError for an archive that is damaged, encrypted, or holds absolute names, names
    with "..", links, or more than images can honestly take.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: list[dict[str, str]] = []
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        try:
            entries = self._archive().infolist()
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path} is not a readable zip: {error}") from error
        if len(entries) > _MAX_FILES:
            raise InputError(f"{path} holds {len(entries):,} files: at most {_MAX_FILES:,}")
        for entry in entries:
            _check_entry(path, entry)
        images = [e for e in entries if PurePosixPath(e.filename).suffix.lower() in IMAGE_SUFFIXES]
        self._entries = sorted(e.filename for e in images if not e.is_dir())
        self.names = [printable(name) for name in self._entries]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, index: int) -> bytes:
        return self._archive().read(self._entries[index])

    def side_file(self, name: str) -> bytes | None:
        try:
            return self._archive().read(name)
        except KeyError:
            return None

    def fingerprint(self) -> str:
        status = self.path.stat()
        return hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()

    def close(self) -> None:
        """Close the archive in this process; reading opens it again."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def _archive(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.path))
        return self._opened[1]


def open_source(path: Path) -> FolderSource | ZipSource:
    """A folder or a zip as a source; InputError where it is neither, or holds no images."""
    if path.is_dir():
        source = FolderSource(path)
    elif path.is_file():
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path} is neither a folder nor a zip of images")
        source = ZipSource(path)
    else:
        raise InputError(f"no such folder or zip: {path} ({nearest_parent(path)})")
    if not source.names:
        raise InputError(f"{path} holds no images: give a folder or zip of PNG, JPEG, WebP or BMP")
    return source


def nearest_parent(path: Path) -> str:
    """ "the nearest that exists is ...", to show where a path went wrong."""
    for parent in path.absolute().parents:
        if parent.exists():
            return f"the nearest that exists is {parent}"
    return "nothing of it exists"


def printable(name: str) -> str:
    """A name that any log or JSON file can hold, whatever bytes the file system gave."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    name = PurePosixPath(entry.filename)
    mode = entry.external_attr >> 16
    problem = ""
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
        problem = "a name that leads out of the archive"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "a link or device"
    elif entry.flag_bits & 1:
        problem = "an encrypted file"
    elif entry.file_size > _MAX_FILE_BYTES:
        problem = f"a file of {entry.file_size:,} bytes"
    elif entry.file_size > _MAX_RATIO * max(entry.compress_size, 1) + (1 << 20):
        problem = "a file that unpacks to far more than it is"
    if problem:
        raise InputError(f"{path} holds {problem}: {printable(entry.filename)!r}; refused")
