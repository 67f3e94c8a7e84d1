"""A prepared set of images: read-only, at every resolution, in LMDB (docs/data-format.md)."""

import hashlib
import io
import json
import math
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from pgvae.checks import nearest, require, require_choice
from pgvae.config import LabelConfig
from pgvae.data.balance import decide
from pgvae.data.environments import environment_at
from pgvae.data.manifest import (
    HASHES,
    LABELS,
    NAMES,
    REJECTS,
    SPLIT,
    check_size,
    folder_of,
    read_manifest,
    require_sum,
)
from pgvae.data.pixels import decode_pixels
from pgvae.errors import CorruptFileError, one_line
from pgvae.files import content_of, require_utf8, sha256_of, sums_of_parts
from pgvae.sizes import SQUARE, Base, size_at, size_named

SPLITS = ("train", "val")


def key_of(index: int) -> bytes:
    """LMDB key of an image: four bytes, big-endian, so that order is by index."""
    return index.to_bytes(4, "big")


def crc_of(payload: bytes | memoryview) -> bytes:
    """The four bytes before a payload: its CRC32, big-endian."""
    return zlib.crc32(payload).to_bytes(4, "big")


class Store:
    """A prepared set. `len(store)` is its number of images.

    path, name:  where it is and what it is called.
    digest:      SHA-256 of all pixels, labels and splits: the same data, the same digest.
    resolutions: pixels of the longer side, ascending.
    base:        height and width of the images at 4 px.
    channels:    3 or 1.
    attributes:  names of the label columns.
    labels:      float32 [N, K], K = len(attributes).

    Opening checks the manifest, the size of every file and the sums of the small ones, so a
    truncated set is refused here and never faults later. A record's CRC is checked when a process
    first reads it. Raises InputError where this is not a (finished) set of this format, may not be
    read or, later, was replaced meanwhile; CorruptFileError where it is damaged. May be pickled,
    forked and shared by threads.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        require_utf8(self.path)
        self.manifest = read_manifest(self.path)
        self.name: str = self.manifest["name"]
        self.digest: str = self.manifest["digest"]
        self.channels: int = self.manifest["channels"]
        self.base: Base = tuple(self.manifest.get("base", SQUARE))
        self.attributes = tuple(self.manifest["attributes"])
        self._codecs = {int(r): codec for r, codec in self.manifest["codecs"].items()}
        self.resolutions = tuple(sorted(self._codecs))
        for name, entry in self.manifest["files"].items():
            check_size(self.path / name, entry["size"])
        self.labels: np.ndarray = _as_array(self._content_of(LABELS))
        self._split: np.ndarray = _as_array(self._content_of(SPLIT))
        self._forget()

    @property
    def size(self) -> str:
        """What its highest resolution is called: "128", or "128x96"."""
        return size_named(self.base, self.resolutions[-1])

    def __len__(self) -> int:
        return self.manifest["count"]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_environments", "_checked")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def split(self, name: str) -> np.ndarray:
        """Ascending indices, int64, of the images of "train", "val" or "all"."""
        if name == "all":
            return np.arange(len(self))
        require_choice("split", name, SPLITS)
        return np.flatnonzero(self._split == SPLITS.index(name))

    def said(self, labels: LabelConfig) -> np.ndarray:
        """What the labels of all images say: float32 [N, K], 1 yes, 0 no, NaN unknown."""
        for name in labels.attributes:
            require(
                name in self.attributes,
                f"{self.name} has no label {name!r}: {nearest(name, list(self.attributes))}",
            )
        columns = [self.attributes.index(name) for name in labels.attributes]
        return decide(self.labels[:, columns], labels.no_below, labels.yes_above)

    def names(self) -> list[str]:
        """The source's file names, by index.

        CorruptFileError where the file is damaged, InputError for a set of an older version.
        """
        return json.loads(self._content_of(NAMES, again=True))

    def rejects(self) -> list[dict[str, str]]:
        """The "name" of each image that was left out, and the "reason"; raises as `names`."""
        return [json.loads(line) for line in self._content_of(REJECTS, again=True).splitlines()]

    def hashes(self) -> np.ndarray:
        """uint8 [N, 2, 32]: SHA-256 of each image's file, and of its pixels at the highest size.

        Raises as `names`.
        """
        return _as_array(self._content_of(HASHES, again=True))

    def records(self, index: int) -> dict[int, bytes]:
        """One image as it is kept, with its CRC, by resolution; CorruptFileError as `get`."""
        found = {}
        for resolution in self.resolutions:
            with self._environment(resolution).begin(buffers=True) as txn:
                found[resolution] = bytes(next(self._records(txn, [index], resolution)))
        return found

    def since(self, digest: str) -> str:
        """What `pgvae data update` changed since it had another digest; "" if unknown."""
        updates = self.manifest.get("updates", [])
        start = next((i for i, u in enumerate(updates) if u["digest"] == digest), len(updates))
        came, gone = (sum(u[what] for u in updates[start:]) for what in ("came", "gone"))
        labels = next((u["labels"] for u in updates[start:] if "labels" in u), None)
        said = [f"{came:,} images came and {gone:,} went since"] if came or gone else []
        if labels and tuple(labels) != self.attributes:
            said.append(
                f"labels were {', '.join(labels)}, which `pgvae data update {self.name} PATH "
                f"--attributes {','.join(labels)}` brings back"
            )
        elif labels is not None:
            said.append("labels changed since")
        if start < len(updates) and not said:
            said.append("labels, or the order of images, changed since")
        return "; ".join(said)

    def get(self, index: int, resolution: int) -> np.ndarray:
        """One image: uint8 [C, R, R].

        CorruptFileError, with its key, where its CRC is wrong; InputError where there is none.
        """
        return self.get_many(np.array([index]), resolution)[0]

    def get_many(self, indices: np.ndarray, resolution: int, workers: int = 0) -> np.ndarray:
        """Images by index: uint8 [N, C, R, R]. Raw ones are copied in this thread; encoded ones
        are decoded by `workers` threads."""
        require(
            resolution in self._codecs,
            f"{self.name} has no {resolution} px: use one of "
            + ", ".join(map(str, self.resolutions)),
        )
        codec = self._codecs[resolution]
        size = size_at(self.base, resolution)
        out = np.empty((len(indices), self.channels, *size), np.uint8)
        chosen = [int(index) for index in indices]
        missing = next((index for index in chosen if not 0 <= index < len(self)), None)
        require(missing is None, f"{self.name} has no image {missing}: use 0 to {len(self) - 1}")

        def decode(position: int, record: memoryview) -> None:
            out[position] = decode_pixels(record[4:], codec, self.channels, size)

        try:
            with self._environment(resolution).begin(buffers=True) as txn:
                records = self._records(txn, chosen, resolution)
                if codec == "raw":
                    rows = out.reshape(len(chosen), math.prod(out.shape[1:]))
                    for position, record in enumerate(records):
                        rows[position] = np.frombuffer(record, np.uint8, offset=4)
                elif workers < 2:
                    for position, record in enumerate(records):
                        decode(position, record)
                else:
                    with ThreadPoolExecutor(workers) as pool:
                        list(pool.map(decode, range(len(chosen)), records))
        except lmdb.Error as error:
            raise CorruptFileError(
                f"{self.path} is damaged at {resolution} px: {error}; prepare the set again"
            ) from error
        return out

    def verify(self) -> None:
        """Read everything: SHA-256 of each file, CRC of each record; CorruptFileError if wrong."""
        with ThreadPoolExecutor() as pool:
            for name, entry in self.manifest["files"].items():
                file = self.path / name
                try:
                    if "parts" in entry:
                        require_sum(file, sums_of_parts(file, pool), entry["parts"])
                    else:  # an older set has but one sum of each of its environments too
                        require_sum(file, sha256_of(file), entry["sha256"])
                except CorruptFileError:
                    if file.name == "data.mdb":
                        self.check_records(int(file.parent.name))  # names the image, if it is one
                    raise
        for resolution in self.resolutions:
            self.check_records(resolution)

    def check_records(self, resolution: int) -> None:
        """Read every record of a resolution; CorruptFileError names the first that is wrong."""
        for start in range(0, len(self), 64):
            self.get_many(np.arange(start, min(start + 64, len(self))), resolution)

    def close(self) -> None:
        """Let go of the LMDB environments; they open again when used."""
        self._forget()

    def _forget(self) -> None:
        self._environments: dict[tuple[int, int], lmdb.Environment] = {}
        self._checked: dict[int, np.ndarray] = {}

    def _records(
        self, txn: lmdb.Transaction, indices: list[int], resolution: int
    ) -> Iterator[memoryview]:
        """The records, CRC first, each checked if this process has not yet done so."""
        checked = self._checked.setdefault(resolution, np.zeros(len(self), bool))
        raw = self._codecs[resolution] == "raw"
        pixels = math.prod(size_at(self.base, resolution))
        size = 4 + self.channels * pixels if raw else None
        for index in indices:
            record = txn.get(key_of(index))
            if record is None or (size is not None and len(record) != size):
                raise self._damaged(index, resolution, "it is missing or has a wrong length")
            if not checked[index]:
                if crc_of(record[4:]) != record[:4]:
                    raise self._damaged(index, resolution, "its CRC is wrong")
                checked[index] = True
            yield record

    def _damaged(self, index: int, resolution: int, why: str) -> CorruptFileError:
        return CorruptFileError(
            f"{self.path}: image {index} (key {key_of(index).hex()}) at {resolution} px is "
            f"damaged: {why}; prepare the set again"
        )

    def _environment(self, resolution: int) -> lmdb.Environment:
        key = (os.getpid(), resolution)
        if key not in self._environments:
            environment = environment_at(self.path / folder_of(resolution))
            self._require_same()
            self._environments[key] = environment
        return self._environments[key]

    def _content_of(self, name: str, again: bool = False) -> bytes:
        """A small file, whole by its sum; again: another set may lie here since."""
        entry = self.manifest["files"].get(name)
        require(entry is not None, f"{self.path} is of an older version: prepare it again")
        file = self.path / name
        try:
            content = content_of(file)
        except OSError as error:
            raise CorruptFileError(f"{file} cannot be read: {one_line(error)}") from error
        if again:
            self._require_same()
        require_sum(file, hashlib.sha256(content).hexdigest(), entry["sha256"])
        return content

    def _require_same(self) -> None:
        """InputError where another set lies here now: look after a file is opened, not before."""
        require(
            read_manifest(self.path)["checksum"] == self.manifest["checksum"],
            f"{self.path} was replaced while it was in use: start again, with the set as it is now",
        )


def _as_array(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content), allow_pickle=False)
