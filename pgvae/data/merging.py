"""Several prepared sets as one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pgvae.checks import require
from pgvae.choices import Codec, Crop
from pgvae.data import images, labels
from pgvae.data.containers.base import Joined
from pgvae.data.labels import Columns, Table
from pgvae.data.paths import exists
from pgvae.data.pixels import LOSSY
from pgvae.data.prepare import Options, Recipe, prepare
from pgvae.data.source import Source
from pgvae.data.store import Store
from pgvae.sizes import size_at

Say = Callable[[str], None]


class StoreSource:
    """The images of a prepared set as a source, at one of its resolutions."""

    tables: Sequence[str] = ()
    notes: Sequence[str] = ()

    def __init__(self, store: Store, resolution: int, attributes: Sequence[str]) -> None:
        self._store, self._resolution, self._attributes = store, resolution, attributes
        self.names = store.names()
        self._contents = store.hashes()[:, 0]
        self.skipped: list[dict[str, str]] = []
        self.held = np.isin(np.arange(len(store)), store.split("val")).astype(np.uint8)

    def read(self, index: int) -> images.Decoded:
        """Its pixels, in RGB and at every resolution, and by which file `update` knows it."""
        sizes = [r for r in self._store.resolutions if r <= self._resolution]
        levels = tuple(self._store.get(index, resolution) for resolution in reversed(sizes))
        pixels = levels[0]
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        content = self._contents[index].tobytes()
        return images.Decoded(image.convert("RGB"), content=content, levels=levels)

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

    At the highest resolution that all have, with the labels that all have, and by a lossless codec
    if one of them has one. An `update` knows their images, and asks what all were asked: a way to
    split, say. Raises InputError for sets that do not go together.
    """
    require(len(stores) > 1, "one set is given: name those to put together")
    require(not exists(data_root / name), f"{data_root / name} exists: use --name for another name")
    channels = {store.channels for store in stores}
    require(len(channels) == 1, "some of the sets are grey and others in colour: prepare one anew")
    bases = {store.base for store in stores}
    require(len(bases) == 1, "the sets have images of different ratios: prepare one anew")
    resolution = min(store.resolutions[-1] for store in stores)
    higher = [store.path.name for store in stores if store.resolutions[-1] > resolution]
    if higher:
        say(
            f"warning: the set goes to {resolution} px, as one of the sets does: "
            f"{labels.some(higher)} went further"
        )
    attributes = [a for a in stores[0].attributes if all(a in store.attributes for store in stores)]
    parts = {store.path.name: StoreSource(store, resolution, attributes) for store in stores}
    require(len(parts) == len(stores), "two of the sets have the same name: rename a folder")
    source: Source = Joined(data_root, parts)
    held = np.concatenate([part.held for part in parts.values()])

    def table(names: list[str]) -> Table:
        columns = source.columns() if attributes else None
        return labels.from_columns(columns, names) if columns else labels.no_labels(len(names))

    lost = sorted({a for store in stores for a in store.attributes} - {*attributes})
    if lost:
        say(f"warning: labels that not all of the sets have are left out: {labels.some(lost)}")
    options = replace(
        options,
        resolution=resolution,
        base=bases.pop(),
        channels=channels.pop(),
        codec=_codec_of([store.manifest["codecs"][str(resolution)] for store in stores], say),
        crop=_crop_of([store.manifest["crop"] for store in stores], say),
        about={
            "recipe": "merge",
            "sets": {store.path.name: store.digest for store in stores},
            "asked": _asked_of_all(stores, say),
        },
    )
    return prepare(
        Recipe(name, source, table, lambda kept, _: held[kept]), options, data_root, say=say
    )


def _codec_of(codecs: Sequence[Codec], say: Say) -> Codec:
    """Of several sets' codecs the first that is lossless, which is said where they differ."""
    chosen = next((codec for codec in codecs if codec not in LOSSY), codecs[0])
    others = sorted({*codecs} - {chosen})
    if others:
        say(f"note: images are kept as {chosen}, also those of the sets in {', '.join(others)}")
    return chosen


def _crop_of(crops: Sequence[Crop], say: Say) -> Crop:
    """How an update is to crop what it adds; the sets' own images are as they are."""
    alike = "pad" if {*crops} == {"pad"} else "center"
    others = sorted({*crops} - {alike})
    if others:
        say(f"note: what an update adds is cropped by {alike}, not by {labels.some(others)}")
    return alike


def _asked_of_all(stores: Sequence[Store], say: Say) -> dict[str, Any]:
    """What all sets were asked alike; a column to split by that is not of all is named."""
    every = [store.manifest["about"].get("asked", {}) for store in stores]
    alike = {k: v for k, v in every[0].items() if all(asked.get(k) == v for asked in every)}
    for store, asked in zip(stores, every, strict=True):
        by = asked.get("split_by")
        if by is not None and "split_by" not in alike:
            say(
                f"warning: {store.name} is split by {by!r}, and not all of the sets are: what an "
                f"update adds is divided so by `pgvae data update ... --split-by {by}`"
            )
    return alike
