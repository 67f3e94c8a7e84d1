"""One image of a set: read, decoded, fitted, scaled and encoded."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgvae.data import images
from pgvae.data.pixels import LOSSY, encode_pixels, pyramid
from pgvae.data.source import Source
from pgvae.data.store import Store, crc_of
from pgvae.sizes import SQUARE, Base

RAW_UP_TO = 128


@dataclass(frozen=True)
class Made:
    """One image, encoded at every resolution, or the reason why it cannot be used.

    records: resolution -> CRC and payload; or its place, while it lies in memory of two processes.
    sides:   width and height of the source's image.
    pixels:  SHA-256 of the pixels at the highest resolution, and of what a lossy codec made of any.
    content: SHA-256 of the source's file, or of its pixels where it has none.
    old:     index in the set that it was taken from; -1 for one that was decoded.
    """

    index: int
    records: dict[int, Any] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    sides: tuple[int, int] = (0, 0)
    pixels: bytes = b""
    content: bytes = b""
    old: int = -1

    def put(self, memory: memoryview, at: int) -> tuple["Made", int]:
        """Itself with its records from byte `at` of `memory` on, if it has the room; the end."""
        end = at + sum(map(len, self.records.values()))
        if end > len(memory):
            return self, at
        places = {}
        for size, record in self.records.items():
            memory[at : at + len(record)] = record
            places[size] = (at, at + len(record))
            at += len(record)
        return replace(self, records=places), end

    def taken(self, memory: memoryview) -> "Made":
        """Itself with what `put` put there, which is not copied."""
        records = {
            size: memory[slice(*record)] if isinstance(record, tuple) else record
            for size, record in self.records.items()
        }
        return replace(self, records=records)


class Known:
    """The images of a prepared set, which need not be made again."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pixels = store.hashes()[:, 1]
        self._copies: dict[bytes, list[int]] = {}
        for old, row in enumerate(store.hashes()[:, 0]):
            self._copies.setdefault(row.tobytes(), []).append(old)

    def made(self, index: int, content: bytes, data: bytes | images.Decoded) -> Made | None:
        """Image `index` of a source, if the set has one of the same file: the first of copies."""
        if content not in self._copies:
            return None
        old = self._copies[content][0]
        records, pixels = self.store.records(old), self._pixels[old].tobytes()
        return Made(index, records, "", "", _size_of(data), pixels, content, old)

    def told_apart(self, old: dict[int, int], names: Sequence[str]) -> dict[int, int]:
        """`old`, by index in a source, with a copy of its own for each of the images of one file.

        That of the same name, else the next; further ones are taken for the first. names: of the
        source's images.
        """
        before, copies = self.store.names(), {each[0]: each for each in self._copies.values()}
        groups: dict[int, list[int]] = {}
        for index in (index for index in old if old[index] >= 0):
            groups.setdefault(old[index], []).append(index)
        apart = dict(old)
        for first, indices in groups.items():
            free = {before[copy]: copy for copy in copies[first]}
            renamed = [index for index in indices if names[index] not in free]
            for index in indices:
                apart[index] = free.pop(names[index], first)
            apart |= zip(renamed, free.values(), strict=False)
        return apart


@dataclass(frozen=True)
class Job:
    """How images are made; fields as in `prepare.Options`."""

    resolution: int
    crop: images.Crop
    channels: int
    codec: str
    upscale: bool
    base: Base = SQUARE
    known: Known | None = None

    def make(self, source: Source, index: int) -> Made:
        """Read one image and encode its pyramid."""
        try:
            data = source.read(index)
            content = _sum_of(data)
            known = self.known.made(index, content, data) if self.known else None
            if known is not None:
                return known
            decoded, image = images.fitted(
                data, self.resolution, self.crop, upscale=self.upscale, base=self.base
            )
        except images.RejectError as error:
            return Made(index, reason=str(error))
        except OSError as error:
            return Made(index, reason=error.strerror or str(error))
        levels = decoded.levels or pyramid(images.to_pixels(image, self.channels))
        records, pixels = {}, hashlib.sha256(levels[0])
        for level in levels:
            resolution = max(level.shape[1:])
            codec = codec_at(resolution, self.codec)
            payload = encode_pixels(level, codec)
            records[resolution] = crc_of(payload) + payload
            if codec in LOSSY:  # what is read is not what was encoded
                pixels.update(payload)
        return Made(
            index,
            records,
            note=decoded.note,
            sides=decoded.size,
            pixels=pixels.digest(),
            content=content,
        )


@dataclass(frozen=True)
class Look:
    """A look at the headers of images, before any is made.

    least: pixels that the longer side must have, unless `upscale`.
    """

    crop: images.Crop
    least: int
    upscale: bool
    base: Base

    def side(self, source: Source, index: int) -> int | str:
        """Pixels of the longer side that image `index` gives, or why it cannot be used."""
        try:
            size = source.size(index)
            return max(
                images.box_after(self.crop, *size, self.least, upscale=self.upscale, base=self.base)
            )
        except (images.RejectError, OSError) as error:
            return getattr(error, "strerror", None) or str(error)


def _sum_of(data: bytes | images.Decoded) -> bytes:
    if isinstance(data, bytes):
        return hashlib.sha256(data).digest()
    return data.content or hashlib.sha256(data.image.tobytes()).digest()


def _size_of(data: bytes | images.Decoded) -> tuple[int, int]:
    return images.size_of(io.BytesIO(data)) if isinstance(data, bytes) else data.size


def codec_at(resolution: int, codec: str) -> str:
    """Raw up to 128 px, `codec` above."""
    return "raw" if resolution <= RAW_UP_TO else codec
