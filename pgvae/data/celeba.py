"""CelebA and CelebA-HQ as their authors give them: labels, partitions, the order of images."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pgvae.checks import require
from pgvae.data import labels
from pgvae.data.labels import Table
from pgvae.data.matching import bare
from pgvae.data.prepare import Recipe
from pgvae.data.sources import Source, open_source
from pgvae.errors import InputError

# Training images of the 30,000, in order; the rest are for validation.
CELEBAHQ_TRAIN = {"pioneer": 27_000, "introvae": 29_000}
_CELEBAHQ_COUNT = 30_000


def celebahq(name: str, path: Path, protocol: str) -> Recipe:
    """CelebA-HQ: of 30,000 images by CelebA's index the first 27,000 (or 29,000) for training.

    The index is in CelebA-HQ-to-CelebA-mapping.txt or image_list.txt where one lies in the
    source, else the number in a file's name stands for it. Of other counts the same share.
    """
    require(
        protocol in CELEBAHQ_TRAIN,
        f"split protocol {protocol!r}: choose one of {', '.join(CELEBAHQ_TRAIN)}",
    )
    source = open_source(path)
    share = CELEBAHQ_TRAIN[protocol] / _CELEBAHQ_COUNT
    train = round(share * len(source.names))
    rank = np.argsort(np.argsort(_celeba_indices(source), kind="stable"), kind="stable")

    def split(kept: list[int], _: Table) -> np.ndarray:
        return (rank[kept] >= train).astype(np.uint8)

    return Recipe(name, source, lambda names: labels.no_labels(len(names)), split)


def celeba(name: str, path: Path, chosen: Sequence[str] = ()) -> Recipe:
    """CelebA: its attribute file and its partition (0, 1 training; 2 held out); 178 px crop."""
    source = open_source(path)
    attributes = _side_text(source, "list_attr_celeba.txt", path)
    rows = map(str.split, _side_text(source, "list_eval_partition.txt", path).splitlines())
    partition = {bare(row[0]): row[1] for row in rows if len(row) == 2}

    def split(kept: list[int], _: Table) -> np.ndarray:
        names = [source.names[i] for i in kept]
        missing = [name for name in names if bare(name) not in partition]
        require(not missing, f"list_eval_partition.txt has no row for {labels.some(missing)}")
        return np.array([partition[bare(name)] == "2" for name in names], np.uint8)

    return Recipe(
        name,
        source,
        lambda names: labels.from_celeba(attributes, names, chosen),
        split,
        crop="celeba",
    )


def _celeba_indices(source: Source) -> np.ndarray:
    """int64 [N]: for each image of CelebA-HQ what its order goes by."""
    names = list(source.names)
    numbers = [re.findall(r"\d+", Path(name).stem) for name in names]
    if not all(numbers):
        return np.arange(len(names))  # names without numbers: the order of the names
    own = [int(found[-1]) for found in numbers]
    for file in ("CelebA-HQ-to-CelebA-mapping.txt", "image_list.txt"):
        table = source.side_file(file)
        if table is None:
            continue
        rows = [line.split() for line in table.decode("utf-8-sig", "replace").splitlines()]
        index = {int(r[0]): int(r[1]) for r in rows if len(r) > 1 and (r[0] + r[1]).isdigit()}
        missing = [name for name, number in zip(names, own, strict=True) if number not in index]
        require(not missing, f"{file} has no row for {labels.some(missing)}")
        return np.array([index[number] for number in own])
    return np.array(own)


def _side_text(source: Source, name: str, path: Path) -> str:
    """One of CelebA's own files: in the source's root, or where the authors' folders have it."""
    for place in ("", "Anno/", "Eval/"):
        found = source.side_file(place + name)
        if found is not None:
            return found.decode("utf-8-sig", "replace")
    raise InputError(f"{path} has no {name}: put CelebA's own file there")
