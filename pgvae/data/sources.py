"""Where images come from: a folder, a zip. Nothing is ever extracted."""

import contextlib
import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from pgvae.data import images
from pgvae.errors import InputError

_OURS = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib"}
_REFUSED = {".gif", ".tif", ".tiff", ".eps", ".heic", ".avif"}  # images, so not passed over
IMAGE_SUFFIXES = frozenset(_OURS | _REFUSED)
_OTHER_SUFFIXES = frozenset(
    (".csv", ".json", ".jsonl", ".txt", ".md", ".html", ".pdf", ".db", ".ini", ".xml", ".zip")
)
_MAX_FILES = 5_000_000
_MAX_FILE_BYTES = 512 << 20
_MAX_BYTES = 8 << 40
_MAX_RATIO = 200  # unpacked over packed: an image hardly shrinks at all


class Source(Protocol):
    """Named images. Picklable, so that worker processes can read from it.

    names:   of the images, in their order.
    skipped: {"name", "reason"} of what was passed over on purpose.
    """

    names: Sequence[str]
    skipped: list[dict[str, str]]

    def read(self, index: int) -> bytes:
        """The file of image `index`; RejectError or OSError where it cannot be read."""
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
    files are left alone. Raises InputError for a folder that cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[dict[str, str]] = []
        self._paths = sorted(self._found(), key=os.fsencode)
        self.names = [printable(path) for path in self._paths]

    def read(self, index: int) -> bytes:
        with self._open(index) as file:
            return file.read(_MAX_FILE_BYTES + 1)

    def size(self, index: int) -> tuple[int, int]:
        with self._open(index) as file:
            return images.size_of(file)

    def side_file(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        labels = ["dataset.json"] if (self.root / "dataset.json").is_file() else []
        for path in self._paths + labels:
            status = (self.root / path).lstat()
            digest.update(f"{printable(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Nothing stays open."""

    def _open(self, index: int) -> BinaryIO:
        path = self.root / self._paths[index]
        status = path.stat()  # before opening: a pipe would wait for ever
        if not stat.S_ISREG(status.st_mode):
            raise images.RejectError("not a file")
        if status.st_size > _MAX_FILE_BYTES:
            raise images.RejectError(f"{status.st_size:,} bytes are too many for an image")
        return path.open("rb")

    def _found(self) -> Iterator[str]:
        """Paths below the root of all that may be images; notes what is skipped."""
        inside = self.root.resolve()
        for folder, folders, files in os.walk(self.root, onerror=_cannot_list):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            folders[:] = [name for name in folders if not _is_hidden(name)]
            for file in [*files, *links]:
                path = Path(folder, file)
                name = str(path.relative_to(self.root))
                if _is_hidden(file):
                    continue
                if path.is_symlink() and not path.resolve().is_relative_to(inside):
                    self.skipped.append(
                        {"name": printable(name), "reason": "link out of the folder"}
                    )
                elif file not in links and _may_be_image(path):
                    yield name


class ZipSource:
    """Every image file in a zip, sorted by name. Opened anew in each process.

    Raises InputError for an archive that is damaged, encrypted, or holds absolute names, names
    with "..", links, one name twice, or more than images can honestly take.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: list[dict[str, str]] = []
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        try:
            entries = self._archive().infolist()
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path} is not a readable zip: {error}") from error
        _check_entries(path, entries)
        self._entries = sorted(
            entry.filename
            for entry in entries
            if PurePosixPath(entry.filename).suffix.lower() in IMAGE_SUFFIXES
            and not entry.is_dir()
            and not any(map(_is_hidden, PurePosixPath(entry.filename).parts))
        )
        self.names = [printable(name) for name in self._entries]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, index: int) -> bytes:
        with _zip_errors():
            return self._archive().read(self._entries[index])

    def size(self, index: int) -> tuple[int, int]:
        with _zip_errors(), self._archive().open(self._entries[index]) as file:
            return images.size_of(file)

    def side_file(self, name: str) -> bytes | None:
        try:
            with _zip_errors():
                return self._archive().read(name)
        except KeyError:
            return None
        except images.RejectError as error:
            raise InputError(f"{name} in {self.path}: {error}") from error

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
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _cannot_list(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _is_hidden(name: str) -> bool:
    """Such as the "._photo.jpg" and __MACOSX that macOS leaves, which are no images."""
    return name.startswith(".") or name == "__MACOSX"


def _may_be_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in _OTHER_SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return images.looks_like_image(file.read(16))
    except OSError:
        return False


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn what zipfile raises for a damaged member into RejectError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise images.RejectError(f"cannot be unpacked: {error}") from error


def _check_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """InputError for an archive that no honest packer makes."""
    if len(entries) > _MAX_FILES:
        raise InputError(f"{path} holds {len(entries):,} files: at most {_MAX_FILES:,}; refused")
    total = sum(entry.file_size for entry in entries)
    if total > _MAX_BYTES:
        raise InputError(f"{path} unpacks to {total:,} bytes: at most {_MAX_BYTES:,}; refused")
    seen: set[str] = set()
    for entry in entries:
        problem = "a name twice" if entry.filename in seen else _problem_of(entry)
        if problem:
            raise InputError(f"{path} holds {problem}: {printable(entry.filename)!r}; refused")
        seen.add(entry.filename)


def _problem_of(entry: zipfile.ZipInfo) -> str:
    name = PurePosixPath(entry.filename)
    drive = len(entry.filename) > 1 and entry.filename[1] == ":"
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or drive:
        return "a name that leads out of the archive"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or device"
    if entry.flag_bits & 1:
        return "an encrypted file"
    if entry.file_size > _MAX_FILE_BYTES:
        return f"a file of {entry.file_size:,} bytes"
    if entry.file_size > _MAX_RATIO * max(entry.compress_size, 1) + (1 << 20):
        return "a file that unpacks to far more than it is"
    return ""
