"""Sets that grow and are given out again."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pgvae.checks import require
from pgvae.data import labels
from pgvae.data.labels import Table
from pgvae.data.making import Known
from pgvae.data.paths import apart, exists, is_link
from pgvae.data.pixels import encode_pixels
from pgvae.data.prepare import Options, Recipe, prepare
from pgvae.data.recipes import Split
from pgvae.data.store import SPLITS, Store
from pgvae.files import atomic_path

Say = Callable[[str], None]


def update(
    store: Store,
    recipe: Recipe,
    options: Options,
    split: Split,
    *,
    drop_labels: bool = False,
    say: Say = print,
) -> Store:
    """The set with the images of `recipe`: new ones are made, known ones are taken as they are.

    An image is known by its file, whatever its name. It stays on its side of the split, unless two
    groups of `split.by` on both sides became one, which is then trained on, with a warning. New
    ones are on the side that the source says, if `split` asks for nothing else; of others the
    groups of `split.by` that are known follow theirs, and of the rest `split.fraction` is held out,
    or the same share as before. The old set stays until the new one is whole. InputError where the
    recipe lacks labels of the set, unless `drop_labels`, and where it has none of its images.
    """
    settings = store.manifest
    options = replace(
        options,
        resolution=store.resolutions[-1],
        base=store.base,
        channels=store.channels,
        codec=settings["codecs"][str(store.resolutions[-1])],
        crop=settings["crop"],
        seed=settings["seed"],
        about=options.about or settings["about"],
    )
    old: dict[int, int] = {}
    tables: list[Table] = []

    def table(names: list[str]) -> Table:
        found = recipe.labels(names)
        lost = sorted({*store.attributes} - {*found.attributes})
        stay = ",".join(name for name in store.attributes if name in found.attributes)
        require(
            drop_labels or not lost,
            f"{store.name} has labels that the new images lack: {labels.some(lost)}; give --labels "
            "FILE with them" + (f", or --attributes {stay} to keep the others alone" * bool(stay)),
        )
        tables.append(found)
        return found

    grown = replace(
        recipe,
        name=store.path.name,
        labels=table,
        split=_Sides(store, split, old, recipe.source.held, say),
        known=Known(store),
        old=old,
        further=lambda old: {
            "updates": [*settings.get("updates", []), _change(store, old, tables[-1])]
        },
    )
    return prepare(grown, options, store.path.parent, force=True, say=say)


class _Sides:
    """The split of a set that grew: `old` tells which images it had, `said` what a source says."""

    def __init__(
        self, store: Store, split: Split, old: dict[int, int], said: np.ndarray | None, say: Say
    ) -> None:
        self._held = np.isin(np.arange(len(store)), store.split("val"))
        self._old, self._said, self._say = old, None, say
        if split.fraction is None:
            self._said = said if split.by is None else None
            split = replace(split, fraction=float(self._held.mean()))
        self._split = split

    def __call__(self, kept: list[int], table: Table) -> np.ndarray:
        sides = np.array([self._side(index) for index in kept], np.int8)
        new = np.flatnonzero(sides < 0)
        if self._split.by is not None:
            self._split([], table.take([]))  # whether there is such a column
            groups = table.columns[self._split.by]
            known: dict[str, set[int]] = {}
            for i in np.flatnonzero(sides >= 0):
                known.setdefault(groups[i], set()).add(int(sides[i]))
            # What was trained on can be unseen no more, so a group of both sides is trained on.
            sides = np.array([min(known.get(group, {-1})) for group in groups], np.int8)
            self._say_both(sum(len(both) > 1 for both in known.values()))
            new = np.flatnonzero(sides < 0)
        if self._said is not None:
            sides[new] = self._said[kept][new]
        elif len(new):
            sides[new] = self._split([kept[i] for i in new], table.take(new.tolist()))
        return sides.astype(np.uint8)

    def _say_both(self, count: int) -> None:
        if count:
            self._say(
                f"warning: {count:,} groups of {self._split.by!r} were in train and val: all of "
                "their images are in train now"
            )

    def _side(self, index: int) -> int:
        """1 or 0 of a known image, -1 of a new one."""
        old = self._old.get(index, -1)
        return int(self._held[old]) if old >= 0 else -1


def _change(store: Store, old: dict[int, int], table: Table) -> dict[str, Any]:
    """What the manifest keeps of an update: among it the labels of before, where others came."""
    known = {index: before for index, before in old.items() if before >= 0}
    kept = len({*known.values()})
    require(
        kept > 0,
        f"none of these files is one that {store.name} was made of, so nothing of its split would "
        "stay: prepare or merge them as a set of another --name",
    )
    same = store.attributes == table.attributes and np.array_equal(
        store.labels[[*known.values()]], table.values[[*known]]
    )
    change = {"digest": store.digest, "came": len(old) - kept, "gone": len(store) - kept}
    return change if same else {**change, "labels": list(store.attributes)}


def export(store: Store, out: Path, say: Say = print) -> None:
    """A set as a folder of PNGs with labels.csv, or as a StyleGAN zip with dataset.json.

    Images are in folders train and val, so that a set that is prepared of them has the same split;
    train alone says nothing, which is said. A zip has no names of labels, nor is that silent.
    Raises InputError where there is something already, ResourceError where the disk is full.
    """
    require(not exists(out) and not is_link(out), f"{out} exists: give another path, or delete it")
    require(exists(out.parent), f"no such folder: {out.parent}")
    writable = os.access(out.parent, os.W_OK | os.X_OK)
    require(writable, f"cannot write to {out.parent}: give a path in another folder")
    names = _names_of(store)
    if len(store.split("val")) == 0:
        say(f"note: nothing is held out: prepare {out} with --val-fraction 0 for the same")
    if out.suffix.lower() == ".zip":
        with atomic_path(out) as aside, zipfile.ZipFile(aside, "w") as archive:
            for index, name in enumerate(names):
                archive.writestr(name, _png(store, index))
            rows = _style_gan(store, names)
            archive.writestr("dataset.json", json.dumps({"labels": rows}))
            _require_free(out)
        start = "class" if rows and isinstance(rows[0][1], int) else "label"
        if store.attributes != tuple(f"{start}{i}" for i in range(len(store.attributes))):
            say(
                f"note: StyleGAN's dataset.json has numbers in the place of "
                f"{labels.some(store.attributes)}: export to a folder to keep names of labels"
            )
        return
    try:
        with atomic_path(out) as aside:
            for split in SPLITS:
                (aside / split).mkdir(parents=True)
            for index, name in enumerate(names):
                (aside / name).write_bytes(_png(store, index))
            if store.attributes:
                (aside / "labels.csv").write_text(_csv(store, names), encoding="utf-8")
    except OSError as error:
        _require_free(out)
        raise error


def _require_free(out: Path) -> None:
    require(not exists(out), f"{out} came to be meanwhile: give another path")


def _names_of(store: Store) -> list[str]:
    """Where each image goes: its split, and its own name with slashes and endings taken off."""
    held = {*store.split("val").tolist()}

    def stem_of(index: int, name: str) -> str:
        stem = "_".join(PurePosixPath(name).with_suffix("").parts).replace("\\", "_").lstrip(".")
        return f"{SPLITS[index in held]}/{stem[:100] or index}"

    return [f"{stem}.png" for stem in apart(map(stem_of, range(len(store)), store.names()))]


def _png(store: Store, index: int) -> bytes:
    return encode_pixels(store.get(index, store.resolutions[-1]), "png")


def _csv(store: Store, names: Sequence[str]) -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["name", *store.attributes])
    rows.writerows([name, *row] for name, row in zip(names, store.labels.tolist(), strict=True))
    return out.getvalue()


def _style_gan(store: Store, names: Sequence[str]) -> list | None:
    """Classes where each image has exactly one label, else vectors; None without labels."""
    if not store.attributes:
        return None
    values = store.labels
    classes = ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
    rows = values.argmax(axis=1).tolist() if classes and values.shape[1] > 1 else values.tolist()
    return [[name, row] for name, row in zip(names, rows, strict=True)]
