"""Files that hold many images: what their sources share, and several of them as one set."""

import bisect
import hashlib
import io
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.folders import HELD, held_by_folder
from pgvae.data.labels import Columns, gathered, joined, says_class
from pgvae.data.paths import is_file, some
from pgvae.errors import InputError

MAX_FILE_BYTES = 512 << 20
MAX_VECTOR = 1_000  # numbers of an image that are labels, and not what a network made of it
MAX_RATIO = 200  # unpacked over packed: an image hardly shrinks at all
_PART = re.compile(r"(.*?)\d+-of-(\d+)(\.\w+)")  # one of so many files of a set
_SAYS_NO_CLASS = re.compile(rf"({'|'.join(HELD)}|train|training|data|lmdb|of|part|shard)?\d*")


class FileSource:
    """Images in one file, opened anew in each process. Below it: `_open`, `names` and `read`.

    skipped, tables, notes: as of any source. held: see `sources.Source`.
    """

    names: Sequence[str] = ()
    tables: Sequence[str] = ()
    notes: Sequence[str] = ()
    held: np.ndarray | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped: list[dict[str, str]] = []
        self._opened: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, index: int) -> bytes | images.Decoded:
        """As of any source."""
        raise NotImplementedError

    def size(self, index: int) -> tuple[int, int]:
        """Width and height, of a header or of pixels."""
        data = self.read(index)
        return data.image.size if isinstance(data, images.Decoded) else of_header(data)

    def side_file(self, name: str) -> bytes | None:
        """There is none."""

    def columns(self) -> Columns | None:
        """None: it brings no labels."""

    def fingerprint(self) -> str:
        """Of its size and time."""
        status = self.path.stat()
        return hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()

    def close(self) -> None:
        """Close the file in this process; reading opens it again."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    def _file(self) -> Any:
        """What `_open` made in this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def _open(self) -> Any:
        raise NotImplementedError


def missing_parts(names: Sequence[str]) -> list[str]:
    """What is not there of files that are numbered "of" so many.

    >>> missing_parts(["b-00000-of-00003.tar", "b-00002-of-00003.tar", "a.tar"])
    ['1 of the 3 files b-*-of-00003.tar is not there']
    """
    found = Counter(match.groups() for match in map(_PART.fullmatch, names) if match)
    lost = {kind: int(kind[1]) - count for kind, count in found.items()}
    return [
        f"{left:,} of the {int(of):,} files {name}*-of-{of}{end} {'is' if left == 1 else 'are'} "
        "not there"
        for (name, of, end), left in lost.items()
        if left > 0
    ]


class Joined:
    """The images of several sources as one set, each named after its file.

    Held out are those of files called val, valid, test, ..., if there are others, or of folders in
    the files.
    """

    tables: Sequence[str] = ()

    def __init__(self, path: Path, parts: dict[str, Any]) -> None:
        self.path, self._files, self._parts = path, [*parts], [*parts.values()]
        self._counts = [len(part.names) for part in self._parts]
        self._ends = [*itertools.accumulate(self._counts)]
        self.names = [f"{name}/{own}" for name, part in parts.items() for own in part.names]
        self.skipped = [
            {**entry, "name": f"{name}/{entry['name']}"}
            for name, part in parts.items()
            for entry in part.skipped
        ]
        self.held = held_by_name(self._files, self._counts)
        if self.held is None:
            self.held = held_by_folder([own for part in self._parts for own in part.names])
        self.notes = [*dict.fromkeys(note for part in self._parts for note in part.notes)]

    def read(self, index: int) -> bytes | images.Decoded:
        """Of the source that has it."""
        part, own = self._place(index)
        return part.read(own)

    def size(self, index: int) -> tuple[int, int]:
        """Of the source that has it."""
        part, own = self._place(index)
        return part.size(own)

    def side_file(self, name: str) -> bytes | None:
        """There is none for all of them."""

    def columns(self) -> Columns | None:
        """What the parts say; InputError where only some of them say anything."""
        said = [part.columns() or Columns({}) for part in self._parts]
        if not any(columns.cells for columns in said):
            by_name = classes_by_name(self._files, self._counts) or Columns({})
            by_name = replace(by_name, notes=gathered(said))
            return by_name if by_name.cells or by_name.notes else None
        mute = [name for name, columns in zip(self._files, said, strict=True) if not columns.cells]
        require(not mute, f"{self.path}: files without labels beside others: {some(mute)}")
        return joined(said, self._counts)

    def fingerprint(self) -> str:
        """Of all of them."""
        parts = "\0".join(part.fingerprint() for part in self._parts)
        return hashlib.sha256(f"{parts}\0{self._ends}".encode()).hexdigest()

    def close(self) -> None:
        """All of them."""
        for part in self._parts:
            part.close()

    def _place(self, index: int) -> tuple[Any, int]:
        part = bisect.bisect_right(self._ends, index)
        return self._parts[part], index - (self._ends[part - 1] if part else 0)


def held_by_name(names: Sequence[str], counts: Sequence[int]) -> np.ndarray | None:
    """uint8 [sum(counts)], 1 for the images of names that speak of validation or test.

    None where all or none do.

    >>> held_by_name(["train-00000-of-00001.parquet", "data/test.parquet"], [2, 1]).tolist()
    [0, 0, 1]
    """
    said = [bool(HELD & {*re.split(r"[\W_]+", name.lower())}) for name in names]
    if all(said) or not any(said):
        return None
    return np.repeat(np.array(said, np.uint8), counts)


def classes_by_name(names: Sequence[str], counts: Sequence[int]) -> Columns | None:
    """The class of the images of each file, by its name without numbers, train, val, lmdb, ...

    None where these do not differ.

    >>> classes_by_name(["bedroom_train_lmdb/data.mdb", "tower_val_lmdb/data.mdb"], [1, 1]).classes
    {'class': ('bedroom', 'tower')}
    >>> classes_by_name(["set-00000-of-00002.zip", "set-00001-of-00002.zip"], [1, 1])
    """
    words = [re.split(r"[\W_]+", str(PurePosixPath(name).with_suffix(""))) for name in names]
    said = ["_".join(w for w in row if not _SAYS_NO_CLASS.fullmatch(w.lower())) for row in words]
    classes = sorted({*said})
    if len(classes) < 2 or "" in classes:
        return None
    numbers = np.repeat([classes.index(name) for name in said], counts)
    return Columns({"class": numbers}, {"class": tuple(classes)})


def of_header(data: bytes) -> tuple[int, int]:
    """Width and height of an encoded image."""
    return images.size_of(io.BytesIO(data))


def checked_size(size: int, name: str) -> None:
    """RejectError for a record that is too large for an image."""
    if size > MAX_FILE_BYTES:
        raise images.RejectError(f"{size:,} bytes are too many for an image: {name}")


def require_honest(path: Path, unpacked: int) -> None:
    """InputError for a file that says that it holds far more than its size."""
    most = MAX_RATIO * path.stat().st_size + (1 << 20)
    require(unpacked <= most, f"{path} says that it unpacks to {unpacked:,} bytes: refused")


def needed(load: Callable[[], ModuleType], what: str) -> ModuleType:
    """A module of an optional package; InputError with the command that installs it."""
    try:
        return load()
    except ImportError as error:
        raise InputError(
            f"{what} needs the package {error.name}: pip install 'pgvae[sources]'"
        ) from error


@contextmanager
def damaged(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises for a file as a whole into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path} is no readable {what}: {' '.join(reason.split())}") from error


@contextmanager
def bad_record() -> Iterator[None]:
    """Turn whatever a library raises for one record into a RejectError."""
    try:
        yield
    except (images.RejectError, InputError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise images.RejectError(f"cannot be read: {reason}") from error


def cell_of(value: object) -> bool:
    """Whether a value is one number, yes or no, or a text: what a cell may hold."""
    return isinstance(value, str | int | float | np.number | np.bool_)


def column_of(
    title: str, values: Sequence[Any], is_class: bool = False
) -> tuple[Sequence[str] | np.ndarray, bool]:
    """A column of values, None where an image has none, and whether it numbers classes.

    -> numbers as an array, or text; whole numbers are classes where their title says so.

    >>> column_of("label", [1, 0])[1], column_of("age", [1, 0])[1], column_of("a", ["x", None])[0]
    (True, False, ['x', ''])
    """
    if not all(isinstance(value, int | float) for value in values):
        return ["" if value is None else str(value) for value in values], False
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    array = np.array(values, np.int64 if whole and _fit(values) else np.float64)
    return array, whole and (is_class or says_class(title))


def columns_of(path: Path, cells: Mapping[str, Sequence[Any]]) -> Columns:
    """Columns of values, None where an image has none: cells, or a list of numbers each.

    What is neither is named in a note.
    """
    made: list[Columns] = []
    left: list[str] = []
    for title, values in cells.items():
        if all(value is None or cell_of(value) for value in values):
            column, is_class = column_of(title, values)
            made.append(Columns({title: column}, {title: ()} if is_class else {}))
        elif (rows := rows_of(values)) is not None:
            made.append(of_vectors(title, rows))
        else:
            left.append(title)
    found = united(path, made)
    return replace(found, notes=(*found.notes, *no_cells(left)))


def rows_of(values: Sequence[Any]) -> np.ndarray | None:
    """Lists of numbers, of one length, as [N, K]; None for any other values.

    >>> rows_of([[1, 0], [0.5, 1]]).tolist(), rows_of([[1, 0], [1]]), rows_of([["a"]])
    ([[1.0, 0.0], [0.5, 1.0]], None, None)
    """
    widths = {len(value) if isinstance(value, list) else 0 for value in values}
    if len(widths) != 1 or not 0 < min(widths) <= MAX_VECTOR:
        return None
    flat = [number for value in values for number in value]
    if not all(isinstance(number, int | float) for number in flat):
        return None
    whole = all(isinstance(number, int) for number in flat) and _fit(flat)
    return np.array(values, np.int64 if whole else np.float64)


def no_cells(titles: Sequence[str]) -> tuple[str, ...]:
    """What to say of columns that are no labels."""
    words = "are neither numbers nor text, nor a list of as many numbers for each image"
    return (f"columns that {words}, are no labels: {some(titles)}",) if titles else ()


def _fit(values: Sequence[int]) -> bool:
    return all(-(1 << 63) <= value < 1 << 63 for value in values)


def beside(path: Path, count: int) -> Columns | None:
    """PGGAN's labels in a file of NumPy beside a set: a class or a vector for each image.

    None where there is no such file, or it is empty; InputError for another number of labels.
    """
    if not is_file(path):
        return None
    with damaged(path, "file of labels"), path.open("rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    array = array.reshape(len(array), -1) if array.ndim else array
    require(
        array.ndim == 2 and len(array) == count and array.dtype.kind in "iufb",
        f"{path} has {array.dtype} {list(array.shape)}: labels of {count:,} images are wanted",
    )
    return of_vectors("class", array) if array.shape[1] else None


def of_vectors(title: str, array: np.ndarray) -> Columns:
    """What rows of numbers [N, K] of that title say, K from 1 on.

    Under a title of classes a class where they are whole or each says one of several, else label0,
    label1, ...; under another TITLE_0, TITLE_1, ..., and TITLE for one number.

    >>> of_vectors("label", np.array([[0, 1.0], [1, 0]])).classes
    {'label': ['class0', 'class1']}
    >>> [*of_vectors("label", np.array([[1, 1.0]])).cells]
    ['label0', 'label1']
    """
    width, classes = array.shape[1], says_class(title)
    if width == 1 and classes and array.dtype.kind in "iu":
        return Columns({title: array[:, 0].astype(np.int64)}, {title: ()})
    if width == 1 and not classes:
        return Columns({title: array[:, 0]})
    hot = width > 1 and ((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()
    if classes and hot:  # one column for each class
        return Columns({title: array.argmax(1)}, {title: [f"class{i}" for i in range(width)]})
    start = "label" if classes else f"{title}_"
    return Columns({f"{start}{i}": array[:, i].astype(np.float32) for i in range(width)})


def united(path: Path, parts: Sequence[Columns]) -> Columns:
    """What several columns say of the same images; InputError for one label in two of them."""
    cells: dict[str, Sequence[str] | np.ndarray] = {}
    for part in parts:
        twice = [*cells.keys() & part.cells.keys()]
        require(not twice, f"{path}: labels that stand twice: {some(twice)}; rename one of them")
        cells |= part.cells
    classes = {title: names for part in parts for title, names in part.classes.items()}
    return Columns(cells, classes, gathered(parts))


def pixels_as_image(pixels: np.ndarray) -> images.Decoded:
    """uint8 [C, H, W], [H, W, C] or [H, W] as an image; RejectError for any other."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] in ((3,), (4,))):
        raise images.RejectError(f"{pixels.dtype} {list(pixels.shape)} are no pixels of an image")
    if pixels.shape[0] * pixels.shape[1] > images.MAX_PIXELS:
        raise images.RejectError("more pixels than an image may have")
    return images.Decoded(images.to_rgb(Image.fromarray(np.ascontiguousarray(pixels))))


def numbered(count: int) -> list[str]:
    """Names of images that have none.

    >>> numbered(2)
    ['000000', '000001']
    """
    width = max(6, len(str(count - 1)))
    return [f"{i:0{width}}" for i in range(count)]
