"""A prepared set of images: read-only, at every resolution, in LMDB (docs/data-format.md)."""

import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from pgvae.data.images import decode_pixels
from pgvae.errors import CorruptFileError, InputError
from pgvae.files import sha256_of

FORMAT = 1
MANIFEST, LABELS, SPLIT, NAMES, REJECTS = (
    "manifest.json",
    "labels.npy",
    "split.npy",
    "names.json",
    "rejects.jsonl",
)
SPLITS = ("train", "val")


def folder_of(resolution: int) -> str:
    """Name of the LMDB environment of a resolution: "0064"."""
    return f"{resolution:04d}"


def key_of(index: int) -> bytes:
    """LMDB key of an image: four bytes, big-endian, so that order is by index."""
    return index.to_bytes(4, "big")


class Store:
    """A prepared set. `len(store)` is its number of images.

    path, name:  where it is and what it is called.
    digest:      SHA-256 of all pixels, labels and splits: the same data, the same digest.
    resolutions: pixels per side, ascending.
    channels:    3 or 1.
    attributes:  names of the label columns.
    labels:      float32 [N, K], K = len(attributes), NaN where unknown.

    Opening checks the manifest and the size of every file, so a truncated set is refused here
    and never faults later. Raises InputError where it is not a (finished) set of this format,
    CorruptFileError where it is damaged. Environments are opened when first used, by process.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)
        self.name: str = self.manifest["name"]
        self.digest: str = self.manifest["digest"]
        self.channels: int = self.manifest["channels"]
        self.attributes = tuple(self.manifest["attributes"])
        self._codecs = {int(r): codec for r, codec in self.manifest["codecs"].items()}
        self.resolutions = tuple(sorted(self._codecs))
        for name, entry in self.manifest["files"].items():
            file = self.path / name
            size = file.stat().st_size if file.is_file() else 0
            if size != entry["size"]:
                raise CorruptFileError(
                    f"{file} is truncated or missing: {size:,} bytes of {entry['size']:,}; "
                    f"prepare {self.name} again"
                )
        self.labels: np.ndarray = _load_array(self.path / LABELS)
        self._split: np.ndarray = _load_array(self.path / SPLIT)
        self._environments: dict[tuple[int, int], lmdb.Environment] = {}

    def __len__(self) -> int:
        return self.manifest["count"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environments": {}}

    def split(self, name: str) -> np.ndarray:
        """Ascending indices, int64, of the images of "train", "val" or "all"."""
        if name == "all":
            return np.arange(len(self))
        return np.flatnonzero(self._split == SPLITS.index(name))

    def names(self) -> list[str]:
        """The source's file names, by index."""
        return json.loads((self.path / NAMES).read_text(encoding="utf-8"))

    def get(self, index: int, resolution: int) -> np.ndarray:
        """One image: uint8 [C, R, R]. CorruptFileError, with its key, where its CRC is wrong."""
        return self.get_many(np.array([index]), resolution)[0]

    def get_many(self, indices: np.ndarray, resolution: int, workers: int = 0) -> np.ndarray:
        """Images by index: uint8 [N, C, R, R]. Raw ones are copied in this thread; encoded ones
        are decoded by `workers` threads."""
        if resolution not in self._codecs:
            raise ValueError(f"{self.name} has no {resolution} px: it has {self.resolutions}")
        codec = self._codecs[resolution]
        out = np.empty((len(indices), self.channels, resolution, resolution), np.uint8)

        def unpack(position: int, record: bytes | memoryview) -> None:
            payload = self._checked(record, int(indices[position]), resolution)
            out[position] = decode_pixels(payload, codec, self.channels, resolution)

        with self._environment(resolution).begin(buffers=codec == "raw") as txn:
            records = (self._record(txn, int(i), resolution) for i in indices)
            if codec == "raw" or workers < 2:
                for position, record in enumerate(records):
                    unpack(position, record)
            else:
                with ThreadPoolExecutor(workers) as pool:
                    list(pool.map(unpack, range(len(indices)), records))
        return out

    def verify(self) -> None:
        """Read everything: SHA-256 of each file, CRC of each record; CorruptFileError if wrong."""
        for name, entry in self.manifest["files"].items():
            if name.endswith("data.mdb"):
                resolution = int(name.split("/")[0])
                for index in range(len(self)):
                    self.get(index, resolution)
            if sha256_of(self.path / name) != entry["sha256"]:
                raise CorruptFileError(
                    f"{self.path / name} is damaged: its SHA-256 is not the manifest's; "
                    f"prepare {self.name} again"
                )

    def close(self) -> None:
        """Close this process's environments; they open again when used."""
        for environment in self._environments.values():
            environment.close()
        self._environments = {}

    def _record(self, txn: lmdb.Transaction, index: int, resolution: int) -> bytes | memoryview:
        record = txn.get(key_of(index)) if 0 <= index < len(self) else None
        if record is None:
            raise CorruptFileError(f"{self.name}: no image {index} at {resolution} px")
        return record

    def _checked(self, record: bytes | memoryview, index: int, resolution: int):
        payload = record[4:]
        if zlib.crc32(payload) != int.from_bytes(record[:4], "big"):
            raise CorruptFileError(
                f"{self.path}: image {index} (key {key_of(index).hex()}) at {resolution} px is "
                "damaged: its CRC is wrong; prepare the set again"
            )
        return payload

    def _environment(self, resolution: int) -> lmdb.Environment:
        key = (os.getpid(), resolution)
        if key not in self._environments:
            self._environments[key] = lmdb.open(
                str(self.path / folder_of(resolution)),
                readonly=True,
                lock=False,
                readahead=False,
                meminit=False,
            )
        return self._environments[key]


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(
            f"{path} is not a prepared set: it has no {MANIFEST} (if a preparation was stopped "
            "half-way, run `pgvae data prepare` again)"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        found = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{file} cannot be read: {error}; prepare the set again") from error
    if found != FORMAT:
        raise InputError(
            f"{path} has data format {found}, this version reads {FORMAT}: prepare it again"
        )
    return manifest


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
