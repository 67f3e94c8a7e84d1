"""What folders say of the images in them: a class each, training or validation."""

import re
from collections.abc import Sequence

import numpy as np

from pgvae.data.labels import Columns

_MAX_CLASSES = 1_000
TRAIN = frozenset(("train", "training"))
HELD = frozenset(("val", "valid", "validation", "dev", "eval", "test", "testing"))
_PARTS = re.compile(r"\d{3,}|part[-_]?\d+|images?")  # names that only divide many files


def classes_by_folder(names: Sequence[str]) -> Columns | None:
    """The folder that each image lies in as its class; None where these are no classes.

    Classes are from two to a thousand folders, side by side, with all images in them, also below
    train and val; not 00000, 01000, ..., which divide a large set.

    >>> classes_by_folder(["in/cats/0.png", "in/dogs/0.png"]).classes["class"]
    ('cats', 'dogs')
    >>> classes_by_folder(["train/0.png", "val/0.png"])
    """
    parts = [_below(path) for path in _parts(names)]
    if not all(len(path) > 1 for path in parts):
        return None
    folders = sorted({path[0] for path in parts})
    if not 2 <= len(folders) <= _MAX_CLASSES or all(map(_PARTS.fullmatch, folders)):
        return None
    number = {folder: i for i, folder in enumerate(folders)}
    return Columns({"class": np.array([number[p[0]] for p in parts])}, {"class": tuple(folders)})


def held_by_folder(names: Sequence[str]) -> np.ndarray | None:
    """uint8 [N], 1 for what lies in val or test; None where folders do not divide the set so.

    >>> held_by_folder(["train/0.png", "val/0.png"]).tolist(), held_by_folder(["a/0.png"])
    ([0, 1], None)
    """
    tops = [_split_of(path) for path in _parts(names)]
    if not {*tops} - {""} or not all(tops) or len({top in HELD for top in tops}) < 2:
        return None
    return np.array([top in HELD for top in tops], np.uint8)


def _parts(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The path of each image below what all have in common."""
    paths = [tuple(name.split("/")) for name in names]
    common = 0
    while all(len(path) > common + 1 for path in paths) and len({p[common] for p in paths}) == 1:
        common += 1
    return [path[common:] for path in paths]


def _split_of(path: tuple[str, ...]) -> str:
    """ "train", "val", ... where a path begins so, else ""."""
    top = path[0].lower() if len(path) > 1 else ""
    return top if top in TRAIN | HELD else ""


def _below(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without train or val at its beginning."""
    return path[1:] if _split_of(path) else path
