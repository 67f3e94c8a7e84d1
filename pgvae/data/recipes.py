"""What `pgvae data prepare` knows how to prepare: where images and labels are, how to split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pgvae.config import require
from pgvae.data import labels
from pgvae.data.avatars import AvatarSource
from pgvae.data.labels import Table
from pgvae.data.prepare import Recipe
from pgvae.data.sources import Source, open_source
from pgvae.errors import InputError

# Training images of the 30,000, in order; the rest are for validation.
CELEBAHQ_TRAIN = {"pioneer": 27_000, "introvae": 29_000}
_CELEBAHQ_COUNT = 30_000

# Recipe -> what a user must bring, for the command that a message shows.
NEEDS = {
    "avatars": "--resolution 64 --count 10000",
    "celebahq": "--source FOLDER_OR_ZIP",
    "celeba": "--source FOLDER",
    "folder": "--source FOLDER_OR_ZIP --name NAME",
}


@dataclass(frozen=True)
class Split:
    """How images are held out: by fraction, by groups of a label column, seeded."""

    fraction: float = 0.05
    by: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.fraction < 1, f"val fraction is {self.fraction}: use 0 or more, below 1")

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
        return labels.split_by_fraction(len(kept), self.fraction, self.seed, groups)


def avatars(name: str, count: int, seed: int, resolution: int, split: Split) -> Recipe:
    """`count` cartoon faces with labels glasses, facial_hair and hat."""
    source = AvatarSource(count, seed, resolution)
    return Recipe(name, source, lambda _: source.labels, split)


def folder(
    name: str, path: Path, split: Split, label_file: Path | None = None, chosen: Sequence[str] = ()
) -> Recipe:
    """A folder or zip, with labels from a csv, or from the dataset.json that lies in it."""
    source = open_source(path)
    return Recipe(name, source, lambda names: _labels(source, names, label_file, chosen), split)


def celebahq(name: str, path: Path, protocol: str) -> Recipe:
    """CelebA-HQ: 30,000 images in order, the first 27,000 (or 29,000) for training."""
    require(
        protocol in CELEBAHQ_TRAIN,
        f"split protocol {protocol!r}: choose one of {', '.join(CELEBAHQ_TRAIN)}",
    )
    source = open_source(path)
    share = CELEBAHQ_TRAIN[protocol] / _CELEBAHQ_COUNT
    train = round(share * len(source.names))

    def split(kept: list[int], _: Table) -> np.ndarray:
        return (np.array(kept) >= train).astype(np.uint8)

    return Recipe(name, source, lambda names: labels.no_labels(len(names)), split)


def celeba(name: str, path: Path, chosen: Sequence[str] = ()) -> Recipe:
    """CelebA: its attribute file and its partition (0, 1 training; 2 held out); 178 px crop."""
    source = open_source(path)
    attributes = _side_text(source, "list_attr_celeba.txt", path)
    partition = dict(
        line.split()[:2]
        for line in _side_text(source, "list_eval_partition.txt", path).splitlines()
        if line.strip()
    )

    def split(kept: list[int], _: Table) -> np.ndarray:
        names = [Path(source.names[i]).name for i in kept]
        missing = [n for n in names if n not in partition]
        require(not missing, f"list_eval_partition.txt has no row for {labels.some(missing)}")
        return np.array([partition[n] == "2" for n in names], np.uint8)

    return Recipe(
        name,
        source,
        lambda names: labels.from_celeba(attributes, names, chosen),
        split,
        crop="celeba",
    )


def _labels(
    source: Source, names: list[str], label_file: Path | None, chosen: Sequence[str]
) -> Table:
    if label_file is not None:
        try:
            text = label_file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"labels file {label_file} cannot be read: {error}") from error
        return labels.from_csv(text, names, chosen)
    found = source.side_file("dataset.json")
    if found is not None:
        return labels.from_dataset_json(found.decode("utf-8"), names)
    return labels.no_labels(len(names))


def _side_text(source: Source, name: str, path: Path) -> str:
    found = source.side_file(name)
    require(found is not None, f"{path} has no {name}: put CelebA's own file there")
    return found.decode("utf-8")
