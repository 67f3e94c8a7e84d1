"""HDF5 files: PGGAN's and PIONEER's, an array of images for each resolution, and others."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.columns import numbers_rows
from pgvae.data.containers.base import (
    MAX_VECTOR,
    FileSource,
    bad_record,
    beside,
    damaged,
    held_by_name,
    needed,
    numbered,
    of_vectors,
    pixels_as_image,
    require_honest,
    united,
)
from pgvae.data.folders import HELD, TRAIN
from pgvae.data.labels import MAX_CLASSES, Columns, joined, says_class
from pgvae.data.paths import some

_MAX_CHUNK = 1 << 30  # bytes that must be unpacked at once
_SPLIT = re.compile(rf"(?<![^\W_])({'|'.join(HELD | TRAIN)})(?![^\W_])", re.IGNORECASE)


class _Part(NamedTuple):
    """Images that are an array: of which split ("" where it does not say), its name, how many."""

    split: str
    array: str
    count: int


class Hdf5Source(FileSource):
    """The images of an HDF5 file: uint8 [N, C, H, W], [N, H, W, C] or [N, H, W].

    Of arrays that are the same images at several resolutions it is the largest. Several in groups
    called train, val, test, or called so (train/images, X_test), are the sides of the split. Labels
    are in FILE-labels.npy, as PGGAN writes them, or in arrays [N] and [N, K] in the file. Raises
    InputError where there are no images or arrays that are neither, and for damaged files.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with damaged(path, "HDF5 file"):
            arrays = dict(_arrays_in(self._file(), _h5py()))
            self._parts = _parts_of(path, arrays)
            for part in self._parts:
                _check_array(path, arrays[part.array])
        self._counts = [part.count for part in self._parts]
        self.held = held_by_name([part.split for part in self._parts], self._counts)
        self.names = [
            f"{part.split or 'train'}/{name}" if len(self._parts) > 1 else name
            for part in self._parts
            for name in numbered(part.count)
        ]

    def read(self, index: int) -> images.Decoded:
        with bad_record():
            array, own = self._place(index)
            return pixels_as_image(array[own])

    def size(self, index: int) -> tuple[int, int]:
        with bad_record():
            shape = self._place(index)[0].shape[1:]
        height, width = shape[-2:] if len(shape) == 2 or shape[0] in (1, 3, 4) else shape[:2]
        return width, height

    def columns(self) -> Columns | None:
        file = self.path.with_name(f"{self.path.stem}-labels.npy")
        own = beside(file, len(self.names))
        if own is not None:
            one = len(self._parts) == 1
            require(
                one, f"{file} does not say of which split it is: put its labels into {self.path}"
            )
            return own
        with damaged(self.path, "HDF5 file"):
            found = self._own_labels()
        return found if found.cells or found.notes else None

    def _own_labels(self) -> Columns:
        """Of the arrays beside the images; those that fit no images are named."""
        arrays = {k: a for k, a in _arrays_in(self._file(), _h5py()) if not _holds_images(a)}
        said, left = [], {*arrays}
        for part in self._parts:
            titles = {self._title(name, part): name for name in arrays}
            read = {
                title: _column_of(self.path, title, arrays[name], part.count)
                for title, name in titles.items()
                if title
            }
            left -= {titles[title] for title, columns in read.items() if columns}
            said.append(united(self.path, [columns for columns in read.values() if columns]))
        numbers = [k for k in left if arrays[k].ndim and arrays[k].dtype.kind in "iufb"]
        wrong = [k for k in sorted(numbers) if says_class(_bare(k))]
        require(
            not wrong,
            f"{self.path} holds {_shown({k: arrays[k] for k in wrong})}: labels of "
            f"{' and '.join(f'{count:,}' for count in self._counts)} images are wanted",
        )
        mute = [part.array for part, own in zip(self._parts, said, strict=True) if not own.cells]
        alike = len(mute) in (0, len(said))
        require(alike, f"{self.path}: images without labels beside others: {some(mute)}")
        found = said[0] if len(said) == 1 else joined(said, self._counts)
        note = f"arrays that are no labels of the images are left out: {some(sorted(left))}"
        return replace(found, notes=(*found.notes, note)) if left else found

    def _title(self, name: str, part: _Part) -> str:
        """What an array is called among the labels of a part; "" where it is of another."""
        split = _split_of(name)
        if split == part.split:
            return _bare(name)
        return name if len(self._parts) == 1 else ""

    def _place(self, index: int) -> tuple[Any, int]:
        for part in self._parts:
            if index < part.count:
                return self._file()[part.array], index
            index -= part.count
        raise IndexError("no such image")

    def _open(self) -> Any:
        return _h5py().File(self.path, "r")


def _parts_of(path: Path, arrays: Mapping[str, Any]) -> list[_Part]:
    """The images by split, train first; InputError for arrays that are neither splits nor sizes."""
    found = {name: array for name, array in arrays.items() if _holds_images(array)}
    require(
        bool(found), f"{path} has no uint8 [N, C, H, W]: it has {_shown(arrays) or 'no arrays'}"
    )
    by_split: dict[str, list[str]] = {}
    for name in found:
        by_split.setdefault(_split_of(name), []).append(name)
    to_train = [split for split in by_split if split not in HELD]
    sizes = all(_are_sizes({name: found[name] for name in own}) for own in by_split.values())
    require(
        len(to_train) < 2 and sizes,
        f"{path} holds {_shown(found)}: one array of images is wanted, or one in train and one in "
        "val or test",
    )
    largest = {
        split: max(own, key=lambda name: math.prod(found[name].shape[1:]))
        for split, own in by_split.items()
    }
    order = sorted(largest, key=lambda split: split in HELD)
    return [_Part(split, largest[split], len(found[largest[split]])) for split in order]


def _are_sizes(found: Mapping[str, Any]) -> bool:
    """Whether arrays are the same images at several resolutions, by names such as data8x8."""
    names = {re.sub(r"\d+", "", name) for name in found}
    counts = {len(array) for array in found.values()}
    sizes = {array.shape[1:] for array in found.values()}
    return len(names) == len(counts) == 1 and len(sizes) == len(found)


def _column_of(path: Path, title: str, array: Any, count: int) -> Columns | None:
    """What an array says of so many images; None where that is nothing."""
    if array.ndim not in (1, 2) or len(array) != count:
        return None
    if array.ndim == 1 and _h5py().check_string_dtype(array.dtype):
        _check_array(path, array)
        return Columns({title: array.asstr(errors="replace")[:].tolist()})
    width = 1 if array.ndim == 1 else array.shape[1]
    most = MAX_CLASSES if says_class(title) else MAX_VECTOR
    if array.dtype.kind not in "iufb" or not 0 < width <= most:
        return None
    _check_array(path, array)
    values = np.asarray(array).reshape(count, width)
    if width > 1:
        return of_vectors(title, values)
    return Columns({title: values[:, 0]}, {title: ()} if _are_classes(title, values) else {})


def _are_classes(title: str, values: np.ndarray) -> bool:
    """Whether they are whole numbers under a title of classes, or such as these could be.

    That is more than two, which neither count the images nor are large or below 0.
    """
    if values.dtype.kind not in "iu" or says_class(title):
        return values.dtype.kind in "iu"
    if len(np.unique(values)) < 3:
        return False
    counting = numbers_rows([str(value) for value in values.ravel().tolist()])
    return values.min() >= 0 and values.max() < MAX_CLASSES and not counting


def _holds_images(array: Any) -> bool:
    return array.ndim in (3, 4) and array.dtype == np.uint8


def _split_of(name: str) -> str:
    """ "train", "val", ... where an array or its group is called so, else "".

    >>> _split_of("train/images"), _split_of("X_test"), _split_of("latest")
    ('train', 'test', '')
    """
    found = _SPLIT.search(name)
    return found[1].lower() if found else ""


def _bare(name: str) -> str:
    """The name of an array without that of its split.

    >>> _bare("train/labels"), _bare("y_test"), _bare("faces/age")
    ('labels', 'y', 'faces/age')
    """
    start, split, end = (part.strip("/_-. ") for part in [*_SPLIT.split(name, 1), "", ""][:3])
    return "_".join(filter(None, (start, end))) if split else name


def _shown(arrays: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {a.dtype} {list(a.shape)}" for k, a in arrays.items())


def _arrays_in(file: Any, h5py: ModuleType) -> list[tuple[str, Any]]:
    """The arrays that are in the file itself, not in another."""
    found: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        own = isinstance(item, h5py.Dataset) and item.shape is not None
        if own and not (item.is_virtual or item.external):
            found.append((name, item))

    file.visititems(visit)  # it follows no links to other files
    return found


def _check_array(path: Path, array: Any) -> None:
    """InputError for an array that says that it holds more than the file can."""
    require_honest(path, math.prod(array.shape) * array.dtype.itemsize)
    chunk = math.prod(array.chunks or (1, *array.shape[1:])) * array.dtype.itemsize
    require(chunk <= _MAX_CHUNK, f"{path} is packed in pieces of {chunk:,} bytes: refused")


def _h5py() -> ModuleType:
    def load() -> ModuleType:
        import h5py

        return h5py

    return needed(load, "HDF5")
