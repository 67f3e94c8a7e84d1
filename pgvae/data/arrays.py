"""Sets that come as arrays of pixels: MNIST's files, CIFAR-10, NumPy's .npy and .npz."""

import gzip
import hashlib
import io
import math
import pickle
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.containers.base import FileSource, numbered, require_honest
from pgvae.data.labels import Columns
from pgvae.data.paths import is_file, is_folder, nearest_parent
from pgvae.data.zips import require_all_listed
from pgvae.errors import InputError

MNIST = tuple(f"digit{i}" for i in range(10))
FASHION_MNIST = (
    *("tshirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle_boot"),
)
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_ARRAYS = (".npy", ".npz")
_OF_ARCHIVES = (tarfile.TarError, zipfile.BadZipFile, struct.error)
_OF_NUMPY = (RuntimeError, tokenize.TokenError)  # of a locked .npz, of a damaged header
_IDX_BYTES = 8  # the number type of IDX files that is uint8
_FRAME = 2  # black pixels around MNIST's 28, as is usual for networks of powers of two
_CIFAR_SIDE, _CIFAR_BATCH = 32, 10_000
_CIFAR_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_CIFAR_BYTES = 64 << 20  # of a batch: it has 30 MB


@dataclass(frozen=True)
class Arrays:
    """Images of one size.

    pixels:  uint8 [N, H, W, C] with C 1, 3 or 4.
    classes: integers [N]; None without labels.
    held:    uint8 [N], 1 for validation; None where the set does not say.
    """

    pixels: np.ndarray
    classes: np.ndarray | None = None
    held: np.ndarray | None = None


class ArraySource(FileSource):
    """The images of an array, named by their number, which each process loads by itself.

    load:    the arrays of a path; picklable. Raises InputError where it cannot be read.
    classes: names of the classes; () without.
    """

    def __init__(
        self, path: Path, load: Callable[[Path], Arrays], classes: Sequence[str] = ()
    ) -> None:
        super().__init__(path)
        self._load, self._classes = load, classes
        require(bool(len(self.arrays.pixels)), f"{path} holds no images")
        self.names = numbered(len(self.arrays.pixels))
        self.held = self.arrays.held

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "arrays"}

    @cached_property
    def arrays(self) -> Arrays:
        """All of them, in memory."""
        return self._load(self.path)

    def read(self, index: int) -> images.Decoded:
        """Image `index`, in RGB."""
        pixels = self.arrays.pixels[index]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return images.Decoded(images.to_rgb(image))

    def size(self, index: int) -> tuple[int, int]:
        """Width and height."""
        height, width = self.arrays.pixels.shape[1:3]
        return width, height

    def columns(self) -> Columns | None:
        """Its classes."""
        of_image = self.arrays.classes
        return None if of_image is None else Columns({"class": of_image}, {"class": self._classes})

    def fingerprint(self) -> str:
        """Of the files' sizes and times: looking at all pixels would take long."""
        if not is_folder(self.path):
            return super().fingerprint()
        files = [file for file in sorted(self.path.rglob("*")) if is_file(file)]
        said = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return hashlib.sha256(repr(said).encode()).hexdigest()


def has_arrays(path: Path) -> bool:
    """Whether a path is that of a .npy or .npz file."""
    return path.suffix.lower() in _ARRAYS and is_file(path)


def read_numpy(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or that of an .npy under "".

    Nothing in it is executed. InputError for damaged files, and for those that unpack to far more
    than their size.

    >>> np.save(folder / "a.npy", np.ones(2))
    >>> read_numpy(folder / "a.npy")
    {'': array([1., 1.])}
    """
    with _readable(path), path.open("rb") as file:
        if zipfile.is_zipfile(file):
            entries = zipfile.ZipFile(file).infolist()
            require_honest(path, sum(entry.file_size for entry in entries))
            require_all_listed(path, entries)
        file.seek(0)
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            require(not file.read(1), f"{path} goes on behind its array: were several joined?")
            return {"": found}
        return {name: np.asarray(found[name]) for name in found}  # bytes, of what is no .npy


def load_numpy(path: Path) -> Arrays:
    """Images of an .npy, or images and labels of an .npz.

    In an .npz one array is of images, uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], and one at
    most of classes, integers [N]. Raises InputError for others, and for damaged files.
    """
    arrays = read_numpy(path)
    shown = ", ".join(f"{k} {v.dtype} {list(v.shape)}" for k, v in arrays.items()).strip()
    pixels = [a for a in arrays.values() if a.ndim in (3, 4)]
    require(
        len(pixels) == 1 and pixels[0].dtype == np.uint8,
        f"{path} holds {shown}: one array of images is wanted, uint8 [N, H, W] or [N, H, W, C]",
    )
    image = pixels[0][..., None] if pixels[0].ndim == 3 else pixels[0]
    if image.shape[3] not in (1, 3, 4) and image.shape[1] in (1, 3, 4):
        image = image.transpose(0, 2, 3, 1)
    require(image.shape[3] in (1, 3, 4), f"{path} holds {shown}: images have 1, 3 or 4 channels")
    others = [a for a in arrays.values() if a is not pixels[0]]
    fit = all(a.dtype.kind in "iu" and a.shape[:1] == (a.size,) == image.shape[:1] for a in others)
    require(
        len(others) <= 1 and fit,
        f"{path} holds {shown}: beside the images one array of classes at most, integers [N]",
    )
    return Arrays(image, others[0].reshape(-1).astype(np.int64) if others else None)


def load_idx(path: Path) -> Arrays:
    """MNIST's four files in a folder, packed or not: 28 px in a black frame of 32.

    What is called t10k is held out.
    """
    pixels, classes, held = [], [], []
    for part in ("train", "t10k"):
        image = read_idx(_file_of(path, f"{part}-images", "idx3-ubyte"), 3)
        label = read_idx(_file_of(path, f"{part}-labels", "idx1-ubyte"), 1)
        require(
            len(image) == len(label),
            f"{path}: {len(image):,} images of {part} have {len(label):,} labels",
        )
        frame = [(0, 0), (_FRAME, _FRAME), (_FRAME, _FRAME)]
        pixels.append(np.pad(image, frame) if image.shape[1:] == (28, 28) else image)
        classes.append(label)
        held.append(np.full(len(image), part == "t10k", np.uint8))
    require(pixels[0].shape[1:] == pixels[1].shape[1:], f"{path}: its images have two sizes")
    joined = (np.concatenate(values) for values in (pixels, classes, held))
    pixels, classes, held = joined
    return Arrays(pixels[..., None], classes.astype(np.int64), held)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of bytes, gzip or not: uint8 of so many dimensions; InputError for any other.

    >>> file = folder / "labels"
    >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]))
    >>> read_idx(file, 1).tolist()
    [7, 3]
    """
    start = 4 + 4 * dimensions
    with _readable(path), path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        with gzip.open(file) if packed else file as data:
            header = data.read(start)
            right = len(header) == start and header[:4] == bytes([0, 0, _IDX_BYTES, dimensions])
            require(right, f"{path} is no IDX file of bytes with {dimensions} dimensions")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            require_honest(path, size)
            body = data.read(size + 1)
    require(len(body) == size, f"{path} is cut off or too long: its header says {size:,} bytes")
    return np.frombuffer(body, np.uint8).reshape(shape)


def load_cifar10(path: Path) -> Arrays:
    """CIFAR-10's five batches and its test batch, which is held out.

    path: the folder or the .tar.gz of the python or of the binary version.
    """
    batches = _batches_in(path)
    pixels, classes, held = [], [], []
    for name in _CIFAR_FILES:
        which = name if name in batches else f"{name}.bin"
        if which not in batches:
            raise InputError(f"{path} has no {name} or {which}: CIFAR-10's own files are wanted")
        read = _binary_batch if which.endswith(".bin") else _python_batch
        try:
            image, label = read(batches[which])
        except Exception as error:  # whatever damaged pickles raise
            raise InputError(f"{which} in {path} is no batch of CIFAR-10: {error}") from error
        pixels.append(image)
        classes.append(label)
        held.append(np.full(len(image), name == "test_batch", np.uint8))
    planes = np.concatenate(pixels).reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
    return Arrays(planes.transpose(0, 2, 3, 1), np.concatenate(classes), np.concatenate(held))


def _binary_batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + 3 * _CIFAR_SIDE**2)
    return rows[:, 1:], _checked_classes(rows[:, 0])


def _python_batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    pixels = batch[b"data"]
    if pixels.dtype != np.uint8 or pixels.shape != (len(batch[b"labels"]), 3 * _CIFAR_SIDE**2):
        raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}")
    return pixels, _checked_classes(np.array(batch[b"labels"]))


def _checked_classes(classes: np.ndarray) -> np.ndarray:
    if len(classes) > _CIFAR_BATCH or classes.min() < 0 or classes.max() >= len(CIFAR10):
        raise ValueError("classes are not 0 to 9, or there are too many images")
    return classes.astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays, and runs nothing else."""

    _ALLOWED = frozenset(
        {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        | {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}")
        if name == "_reconstruct":  # its place differs between versions of NumPy
            return np.ndarray([0]).__reduce__()[0]
        return super().find_class(module, name)


def _file_of(folder: Path, name: str, kind: str) -> Path:
    """NAME-KIND or NAME.KIND in a folder, with or without .gz."""
    require(is_folder(folder), f"no such folder: {folder} ({nearest_parent(folder)})")
    choices = [folder / f"{name}{mark}{kind}{end}" for mark in "-." for end in ("", ".gz")]
    found = next((path for path in choices if is_file(path)), None)
    if found is None:
        raise InputError(f"{folder} has no {name}-{kind}, nor {name}-{kind}.gz")
    return found


def _batches_in(path: Path) -> dict[str, bytes]:
    """CIFAR-10's files in a folder, one folder further down, or a tar, by name."""
    wanted = {f"{name}{end}" for name in _CIFAR_FILES for end in ("", ".bin")}
    if is_folder(path):
        files = (file for pattern in ("*", "*/*") for file in path.glob(pattern))
        with _readable(path):
            return {f.name: f.read_bytes() for f in files if f.name in wanted and is_file(f)}
    require(is_file(path), f"no such folder or .tar.gz: {path} ({nearest_parent(path)})")
    found = {}
    with _readable(path), tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name in wanted and member.isfile():
                require(member.size <= _CIFAR_BYTES, f"{name} in {path} is too large: refused")
                found[name] = archive.extractfile(member).read()
        rest = archive.fileobj.read(_CIFAR_BYTES)  # the sum of what is packed is at its end
        require(len(rest) < _CIFAR_BYTES, f"{path} goes on behind its files: refused")
    return found


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what damaged or unreadable files raise into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError, zlib.error, *_OF_ARCHIVES, *_OF_NUMPY) as error:
        raise InputError(f"{path} is damaged, or of another kind: {error}") from error
