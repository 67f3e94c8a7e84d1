"""Oxford's 102 flowers as their authors give them: images, classes and sets of numbers."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from pgvae.checks import require
from pgvae.data import labels
from pgvae.data.containers.base import damaged, needed
from pgvae.data.labels import Table
from pgvae.data.prepare import Recipe
from pgvae.data.sources import Source, open_source
from pgvae.errors import InputError

_LABELS, _SETS = "imagelabels.mat", "setid.mat"
_HELD = "valid"  # 1,020 of 8,189; the authors' other two sets, trnid and tstid, are for training


def flowers(name: str, path: Path, chosen: Sequence[str] = ()) -> Recipe:
    """8,189 flowers of 102 classes, flower1 to flower102; the authors' `valid` is held out."""
    source = open_source(path)
    numbers = [_number_of(file) for file in source.names]
    class_of = _read(source, path, _LABELS, "labels")
    held = {*_read(source, path, _SETS, _HELD).tolist()}
    missing = [n for n, i in zip(source.names, numbers, strict=True) if not 1 <= i <= len(class_of)]
    require(not missing, f"{_LABELS} has no class for {labels.some(missing)}")
    classes = tuple(f"flower{i}" for i in range(1, int(class_of.max()) + 1))

    def split(kept: list[int], _: Table) -> np.ndarray:
        return np.array([numbers[i] in held for i in kept], np.uint8)

    def table(names: list[str]) -> Table:
        return labels.of_classes([int(class_of[i - 1]) - 1 for i in numbers], classes, chosen)

    return Recipe(name, source, table, split)


def _number_of(name: str) -> int:
    """ "jpg/image_00012.jpg" -> 12."""
    found = re.findall(r"\d+", Path(name).stem)
    return int(found[-1]) if found else 0


def _read(source: Source, path: Path, file: str, entry: str) -> np.ndarray:
    """Whole numbers [N] of one of the authors' MATLAB files; it runs nothing."""
    data = source.side_file(file)
    if data is None:
        raise InputError(f"{path} has no {file}: put the authors' own file beside jpg/")
    with damaged(path / file, "MATLAB file"):
        array = _scipy_io().loadmat(io.BytesIO(data))[entry].reshape(-1)
        return array.astype(np.int64)


def _scipy_io() -> ModuleType:
    def load() -> ModuleType:
        import scipy.io

        return scipy.io

    return needed(load, "The recipe flowers")
