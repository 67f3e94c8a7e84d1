"""What `pgvae data prepare` knows how to prepare: where images and labels are, how to split.

A recipe is a function that returns a `Recipe`, and an entry of `RECIPES`.
"""

import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from pgvae.checks import nearest, require
from pgvae.data import labels
from pgvae.data.arrays import (
    CIFAR10,
    FASHION_MNIST,
    MNIST,
    Arrays,
    ArraySource,
    load_cifar10,
    load_idx,
)
from pgvae.data.avatars import AvatarSource
from pgvae.data.celeba import celeba, celebahq
from pgvae.data.flowers import flowers
from pgvae.data.labels import Table
from pgvae.data.paths import exists, is_file
from pgvae.data.prepare import Recipe
from pgvae.data.sources import Source, open_source
from pgvae.errors import InputError

_HELD_OUT = 0.05  # of a set that does not say what is held out


@dataclass(frozen=True)
class Split:
    """How images are held out: by fraction, by groups of a label column, seeded.

    fraction: None: what the set says itself, else 5 %.

    >>> Split(fraction=0.25)([0, 1, 2, 3], labels.no_labels(4)).sum().item()
    1
    """

    fraction: float | None = None
    by: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        known = self.fraction is None or 0 <= self.fraction < 1
        require(known, f"val fraction is {self.fraction}: use 0 or more, below 1")

    def __call__(self, kept: list[int], table: Table) -> np.ndarray:
        """uint8 [N], 1 for validation, of the images that were kept."""
        groups: Sequence[str] | None = None
        if self.by is not None:
            require(
                self.by in table.columns,
                f"--split-by {self.by}: the labels have no such column, only "
                f"{', '.join(table.columns) or 'none'}",
            )
            groups = table.columns[self.by]
        fraction = _HELD_OUT if self.fraction is None else self.fraction
        return labels.split_by_fraction(len(kept), fraction, self.seed, groups)

    def of(self, source: Source) -> Callable[[list[int], Table], np.ndarray]:
        """That of the source, if it has one and nothing else is asked for; else this."""
        if source.held is None or self.fraction is not None or self.by is not None:
            return self

        def split(kept: list[int], table: Table) -> np.ndarray:
            held = source.held[kept]
            return held if 0 < held.sum() < len(held) else self(kept, table)

        return split


def avatars(name: str, count: int, seed: int, resolution: int, split: Split) -> Recipe:
    """`count` cartoon faces with labels glasses, facial_hair and hat."""
    source = AvatarSource(count, seed, resolution)
    return Recipe(name, source, lambda _: source.labels, split)


def folder(
    name: str, path: Path, split: Split, label_file: Path | None = None, chosen: Sequence[str] = ()
) -> Recipe:
    """A folder, or a file that holds many images.

    Labels are from a csv, else from the dataset.json that lies in it, else what it says itself.
    """
    source = open_source(path)

    def labels_of(names: list[str]) -> Table:
        table = _labels(source, names, label_file, chosen, split.by)
        return replace(table, notes=(*source.notes, *table.notes))

    return Recipe(
        name,
        source,
        labels_of,
        split.of(source),
    )


def own_name(path: Path) -> str:
    """What a set of a folder or zip is called, unless a user says otherwise.

    >>> own_name(Path("there/photos.zip"))
    'photos'
    """
    return Path(os.path.realpath(path)).stem  # unlike Path.resolve it bears links in a circle


@dataclass(frozen=True)
class Ingredients:
    """What a user asks of a recipe; "", None and () where it is not said.

    name:   of the set. source: folder or zip of its images. labels: a csv.
    count:  images to draw. attributes: columns of the labels. protocol: of CelebA-HQ's split.
    """

    name: str = ""
    source: Path | None = None
    resolution: int | None = None
    count: int | None = None
    seed: int = 0
    labels: Path | None = None
    attributes: tuple[str, ...] = ()
    split: Split = Split()
    protocol: str | None = None


@dataclass(frozen=True)
class Entry:
    """What `pgvae data prepare NAME` knows of a recipe.

    make:  the `Recipe`, of `Ingredients`; here are the defaults of what it does not say.
    about: what it is, in a few words.
    needs: what a user must give, for the command that a message shows.
    takes: of the options that some recipes have no use for, those that it has.
    """

    make: Callable[[Ingredients], Recipe]
    about: str
    needs: str
    takes: tuple[str, ...] = ()


def _of_classes(
    name: str, load: Callable[[Path], Arrays], classes: Sequence[str], needs: str
) -> Entry:
    """A set that comes as arrays, with labels and images held out of its own."""

    def make(given: Ingredients) -> Recipe:
        source = ArraySource(given.source, load, classes)
        return Recipe(
            given.name or name,
            source,
            lambda names: _own_labels(source, names, given.attributes),
            Split().of(source),
        )

    return Entry(
        make,
        "images with ten classes, 10,000 of them held out",
        needs=f"--source {needs}",
        takes=("attributes",),
    )


RECIPES = {
    "avatars": Entry(
        lambda r: avatars(
            r.name or "avatars", r.count or 10_000, r.seed, r.resolution or 64, r.split
        ),
        "cartoon faces with labels, drawn on the spot: 10000 at 64 px",
        needs="--resolution 64 --count 10000",
        takes=("val-fraction",),
    ),
    "celebahq": Entry(
        lambda r: celebahq(r.name or "celebahq", r.source, r.protocol or "pioneer"),
        "CelebA-HQ",
        needs="--source FOLDER_OR_ZIP",
        takes=("split-protocol",),
    ),
    "celeba": Entry(
        lambda r: celeba(r.name or "celeba", r.source, r.attributes),
        "CelebA with its attributes",
        needs="--source FOLDER",
        takes=("attributes",),
    ),
    "mnist": _of_classes("mnist", load_idx, MNIST, "FOLDER --grayscale"),
    "fashion-mnist": _of_classes("fashion-mnist", load_idx, FASHION_MNIST, "FOLDER --grayscale"),
    "cifar10": _of_classes("cifar10", load_cifar10, CIFAR10, "FOLDER_OR_TAR_GZ"),
    "lsun": Entry(
        lambda r: folder(r.name or "lsun", r.source, r.split, chosen=r.attributes),
        "LSUN's scenes or objects",
        needs="--source FOLDER",
        takes=("attributes", "val-fraction"),
    ),
    "flowers": Entry(
        lambda r: flowers(r.name or "flowers", r.source, r.attributes),
        "Oxford's 102 flowers",
        needs="--source FOLDER",
        takes=("attributes",),
    ),
    "folder": Entry(
        lambda r: folder(r.name or own_name(r.source), r.source, r.split, r.labels, r.attributes),
        "any images",
        needs="--source FOLDER_OR_ZIP --name NAME",
        takes=("labels", "attributes", "split-by", "val-fraction"),
    ),
}


def recipe_of(what: str, given: Ingredients) -> Recipe:
    """The recipe called `what`, or `folder` of that path.

    InputError for an option that it does not take, and where it has no images.

    >>> recipe_of("celeba", Ingredients())
    Traceback (most recent call last):
    pgvae.errors.InputError: recipe celeba needs its images: give --source FOLDER
    """
    entry = RECIPES.get(what)
    if entry is None:
        require(
            given.source is None,
            f"{what!r} is no recipe ({nearest(what, [*RECIPES])}), so it takes no --source: "
            "leave one of them out",
        )
        entry, given = RECIPES["folder"], replace(given, source=Path(what))
    asked = {
        "labels": given.labels,
        "attributes": given.attributes or None,
        "split-by": given.split.by,
        "val-fraction": given.split.fraction,
        "split-protocol": given.protocol,
    }
    for option, value in asked.items():
        allowed = option in entry.takes or value is None
        require(allowed, f"recipe {what} takes no --{option}: leave it out")
    if "--source" in entry.needs and given.source is None:
        raise InputError(f"recipe {what} needs its images: give {entry.needs}")
    return entry.make(given)


def _labels(
    source: Source,
    names: list[str],
    label_file: Path | None,
    chosen: Sequence[str],
    group: str | None,
) -> Table:
    """Of a csv or dataset.json that is given, else of the dataset.json there, else its own."""
    if label_file is not None:
        text = _text_of(label_file)
        if label_file.suffix.lower() == ".json":
            return labels.from_dataset_json(text, names, chosen)
        return labels.from_csv(text, names, chosen, group)
    inner = _common_folder(names)
    for place in (*reversed(inner.parents), inner):  # a folder may have been zipped whole
        found = source.side_file(str(place / "dataset.json"))
        if found is not None:
            return labels.from_dataset_json(found.decode("utf-8-sig", "replace"), names, chosen)
    return _own_labels(source, names, chosen, group)


def _own_labels(
    source: Source, names: list[str], chosen: Sequence[str], group: str | None = None
) -> Table:
    """What the set says itself."""
    columns = None if source.tables else source.columns()
    if columns is not None and columns.cells:
        return labels.from_columns(columns, names, chosen, group)
    require(not chosen, f"--attributes {','.join(chosen)}: no labels are given: add --labels CSV")
    notes = columns.notes if columns else _unseen_labels(source)
    return replace(labels.no_labels(len(names)), notes=notes)


def _unseen_labels(source: Source) -> tuple[str, ...]:
    """What may have been meant as labels."""
    if source.tables:
        found = labels.some(source.tables)
        return (f"labels in {found} are not read: --labels takes a csv or a dataset.json",)
    places = {name.rpartition("/")[0] for name in source.names}
    inner = _common_folder(source.names)
    below = [PurePosixPath(place).relative_to(inner).parts for place in places]
    folders = sorted({parts[0] for parts in below if parts})
    if len(folders) > 1 and source.held is None:
        return (
            f"images of {len(folders):,} folders, {labels.some(folders)}, make one set without "
            "labels: --labels CSV gives some",
        )
    return ()


def _common_folder(names: Sequence[str]) -> PurePosixPath:
    """The innermost folder that all images are in."""
    return PurePosixPath(posixpath.commonpath({name.rpartition("/")[0] for name in names}))


def _text_of(label_file: Path) -> str:
    require(
        is_file(label_file) or not exists(label_file),
        f"labels file {label_file} cannot be read: it is no file; give --labels FILE",
    )
    try:
        return label_file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"labels file {label_file} cannot be read: {error}; save it as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(
            f"labels file {label_file} cannot be read: {error.strerror}; give --labels FILE"
        ) from error
