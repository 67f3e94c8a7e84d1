"""PGGAN's and PIONEER's HDF5 files: an array of images for each resolution."""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.containers.base import (
    FileSource,
    bad_record,
    beside,
    damaged,
    needed,
    numbered,
    pixels_as_image,
    require_honest,
)
from pgvae.data.labels import Columns

_MAX_CHUNK = 1 << 30  # bytes that must be unpacked at once


class Hdf5Source(FileSource):
    """The largest images of an HDF5 file: uint8 [N, C, H, W], [N, H, W, C] or [N, H, W].

    Labels are in FILE-labels.npy, as PGGAN writes them, or in arrays [N] of numbers in the file.
    Raises InputError where there are no such arrays, and for damaged files.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with damaged(path, "HDF5 file"):
            arrays = dict(_arrays_in(self._file(), _h5py()))
            found = {k: a for k, a in arrays.items() if a.ndim in (3, 4) and a.dtype == np.uint8}
            shown = ", ".join(f"{k} {a.dtype} {list(a.shape)}" for k, a in arrays.items())
            require(bool(found), f"{path} has no uint8 [N, C, H, W]: it has {shown or 'no arrays'}")
            self._name = max(found, key=lambda k: (math.prod(found[k].shape[1:]), len(found[k])))
            _check_array(path, found[self._name])
            self.names = numbered(len(found[self._name]))

    def read(self, index: int) -> images.Decoded:
        with bad_record():
            return pixels_as_image(self._file()[self._name][index])

    def size(self, index: int) -> tuple[int, int]:
        with bad_record():
            shape = self._file()[self._name].shape[1:]
        height, width = shape[-2:] if len(shape) == 2 or shape[0] in (1, 3, 4) else shape[:2]
        return width, height

    def columns(self) -> Columns | None:
        count = len(self.names)
        own = beside(self.path.with_name(f"{self.path.stem}-labels.npy"), count)
        if own is not None:
            return own
        with damaged(self.path, "HDF5 file"):
            cells = {
                name: np.asarray(array)
                for name, array in _arrays_in(self._file(), _h5py())
                if array.shape == (count,) and array.dtype.kind in "iufb"
            }
        if not cells:
            return None
        return Columns(
            cells, {name: () for name, array in cells.items() if array.dtype.kind in "iu"}
        )

    def _open(self) -> Any:
        return _h5py().File(self.path, "r")


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
    require_honest(path, math.prod(array.shape))
    chunk = math.prod(array.chunks or (1, *array.shape[1:]))
    require(chunk <= _MAX_CHUNK, f"{path} is packed in pieces of {chunk:,} bytes: refused")


def _h5py() -> ModuleType:
    def load() -> ModuleType:
        import h5py

        return h5py

    return needed(load, "HDF5")
