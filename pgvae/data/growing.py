"""Sets that grow, are put together and given out again."""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from pgvae.checks import require
from pgvae.data import images, labels
from pgvae.data.containers.base import Joined
from pgvae.data.labels import Columns, Table
from pgvae.data.making import Known
from pgvae.data.paths import apart, exists
from pgvae.data.pixels import encode_pixels
from pgvae.data.prepare import Options, Recipe, prepare
from pgvae.data.recipes import Split
from pgvae.data.source import Source
from pgvae.data.store import SPLITS, Store
from pgvae.files import atomic_path, disk_errors, remove
from pgvae.sizes import size_at

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

    An image is known by its file, whatever its name. It stays on its side of the split. New ones
    are on the side that the source says, if `split` asks for nothing else; of others the groups of
    `split.by` that are known follow theirs, and of the rest `split.fraction` is held out, or the
    same share as before. The old set stays until the new one is whole. InputError where the recipe
    lacks labels of the set, unless `drop_labels`.
    """
    settings = store.manifest
    codecs = {*settings["codecs"].values()} - {"raw"} or {options.codec}
    options = replace(
        options,
        resolution=store.resolutions[-1],
        base=store.base,
        channels=store.channels,
        codec=min(codecs),
        crop=settings["crop"],
        seed=settings["seed"],
        about=options.about or settings["about"],
    )
    old: dict[int, int] = {}

    def table(names: list[str]) -> Table:
        found = recipe.labels(names)
        lost = sorted({*store.attributes} - {*found.attributes})
        stay = ",".join(name for name in store.attributes if name in found.attributes)
        require(
            drop_labels or not lost,
            f"{store.name} has labels that the new images lack: {labels.some(lost)}; give --labels "
            "FILE with them" + (f", or --attributes {stay} to keep the others alone" * bool(stay)),
        )
        return found

    grown = replace(
        recipe,
        name=store.path.name,
        labels=table,
        split=_Sides(store, split, old, recipe.source.held),
        known=Known(store),
        old=old,
        further=lambda old: {"updates": [*settings.get("updates", []), _change(store, old)]},
    )
    return prepare(grown, options, store.path.parent, force=True, say=say)


class _Sides:
    """The split of a set that grew: `old` tells which images it had, `said` what a source says."""

    def __init__(
        self, store: Store, split: Split, old: dict[int, int], said: np.ndarray | None
    ) -> None:
        self._held = np.isin(np.arange(len(store)), store.split("val"))
        self._old, self._said = old, None
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
            of_group = {groups[i]: sides[i] for i in np.flatnonzero(sides >= 0)}
            sides[new] = [of_group.get(groups[i], -1) for i in new]
            new = np.flatnonzero(sides < 0)
        if self._said is not None:
            sides[new] = self._said[kept][new]
        elif len(new):
            sides[new] = self._split([kept[i] for i in new], table.take(new.tolist()))
        return sides.astype(np.uint8)

    def _side(self, index: int) -> int:
        """1 or 0 of a known image, -1 of a new one."""
        old = self._old.get(index, -1)
        return int(self._held[old]) if old >= 0 else -1


def _change(store: Store, old: dict[int, int]) -> dict[str, Any]:
    """What the manifest keeps of an update."""
    kept = len({index for index in old.values() if index >= 0})
    return {"digest": store.digest, "came": len(old) - kept, "gone": len(store) - kept}


class StoreSource:
    """The images of a prepared set as a source, at one of its resolutions."""

    tables: Sequence[str] = ()
    notes: Sequence[str] = ()

    def __init__(self, store: Store, resolution: int, attributes: Sequence[str]) -> None:
        self._store, self._resolution, self._attributes = store, resolution, attributes
        self.names = store.names()
        self.skipped: list[dict[str, str]] = []
        self.held = np.isin(np.arange(len(store)), store.split("val")).astype(np.uint8)

    def read(self, index: int) -> images.Decoded:
        """Its pixels, in RGB."""
        pixels = self._store.get(index, self._resolution)
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        return images.Decoded(image.convert("RGB"))

    def size(self, index: int) -> tuple[int, int]:
        """Of all the same."""
        height, width = size_at(self._store.base, self._resolution)
        return width, height

    def side_file(self, name: str) -> None:
        """There is none."""

    def columns(self) -> Columns | None:
        """Its labels."""
        chosen = [self._store.attributes.index(name) for name in self._attributes]
        cells = {self._store.attributes[i]: self._store.labels[:, i] for i in chosen}
        return Columns(cells) if cells else None

    def fingerprint(self) -> str:
        """Its digest."""
        return self._store.digest

    def close(self) -> None:
        """Of the store."""
        self._store.close()


def merge(stores: Sequence[Store], name: str, data_root: Path, options: Options, say: Say) -> Store:
    """The images of several sets as one, with the labels and the split that they have.

    At the highest resolution that all have, with the labels that all have.
    """
    require(len(stores) > 1, "one set is given: name those to put together")
    require(not exists(data_root / name), f"{data_root / name} exists: use --name for another name")
    channels = {store.channels for store in stores}
    require(len(channels) == 1, "some of the sets are grey and others in colour: prepare one anew")
    bases = {store.base for store in stores}
    require(len(bases) == 1, "the sets have images of different ratios: prepare one anew")
    resolution = min(store.resolutions[-1] for store in stores)
    attributes = [a for a in stores[0].attributes if all(a in store.attributes for store in stores)]
    parts = {store.name: StoreSource(store, resolution, attributes) for store in stores}
    require(len(parts) == len(stores), "two of the sets have the same name: prepare one anew")
    source: Source = Joined(data_root, parts)
    held = np.concatenate([part.held for part in parts.values()])

    def table(names: list[str]) -> Table:
        columns = source.columns() if attributes else None
        return labels.from_columns(columns, names) if columns else labels.no_labels(len(names))

    lost = sorted({a for store in stores for a in store.attributes} - {*attributes})
    if lost:
        say(f"warning: labels that not all of the sets have are left out: {labels.some(lost)}")
    codecs = {codec for store in stores for codec in store.manifest["codecs"].values()} - {"raw"}
    options = replace(
        options,
        resolution=resolution,
        base=bases.pop(),
        channels=channels.pop(),
        codec=min(codecs or {options.codec}),
        about={"recipe": "merge", "sets": {store.name: store.digest for store in stores}},
    )
    return prepare(
        Recipe(name, source, table, lambda kept, _: held[kept]), options, data_root, say=say
    )


def export(store: Store, out: Path, say: Say = print) -> None:
    """A set as a folder of PNGs with labels.csv, or as a StyleGAN zip with dataset.json.

    Images are in folders train and val, so that a set that is prepared of them has the same split.
    A zip has no names of labels, which is said where it loses some.
    Raises InputError where there is something already, ResourceError where the disk is full.
    """
    require(not exists(out), f"{out} exists: give another path, or delete it")
    require(exists(out.parent), f"no such folder: {out.parent}")
    names = _names_of(store)
    if out.suffix.lower() == ".zip":
        with atomic_path(out) as aside, zipfile.ZipFile(aside, "w") as archive:
            for index, name in enumerate(names):
                archive.writestr(name, _png(store, index))
            rows = _style_gan(store, names)
            archive.writestr("dataset.json", json.dumps({"labels": rows}))
        start = "class" if rows and isinstance(rows[0][1], int) else "label"
        if store.attributes != tuple(f"{start}{i}" for i in range(len(store.attributes))):
            say(
                f"note: StyleGAN's dataset.json has numbers in the place of "
                f"{labels.some(store.attributes)}: export to a folder to keep names of labels"
            )
        return
    aside = out.with_name(f".{out.name}.tmp")
    remove(aside)
    try:
        with disk_errors(out):
            for split in SPLITS:
                (aside / split).mkdir(parents=True)
            for index, name in enumerate(names):
                (aside / name).write_bytes(_png(store, index))
            if store.attributes:
                (aside / "labels.csv").write_text(_csv(store, names), encoding="utf-8")
            aside.rename(out)
    finally:
        remove(aside)


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
