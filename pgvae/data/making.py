"""One image of a set: read, decoded, fitted, scaled and encoded."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from pgvae.data import images
from pgvae.data.source import Source
from pgvae.data.store import crc_of

RAW_UP_TO = 128


@dataclass(frozen=True)
class Made:
    """One image, encoded at every resolution, or the reason why it cannot be used.

    records: resolution -> CRC and payload; or its place, while it lies in memory of two processes.
    sides:   width and height of the source's image.
    pixels:  SHA-256 of the pixels at the highest resolution.
    content: SHA-256 of the source's file.
    """

    index: int
    records: dict[int, Any] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    sides: tuple[int, int] = (0, 0)
    pixels: bytes = b""
    content: bytes = b""

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


@dataclass(frozen=True)
class Job:
    """How images are made; fields as in `prepare.Options`."""

    resolution: int
    crop: images.Crop
    channels: int
    codec: str
    upscale: bool

    def make(self, source: Source, index: int) -> Made:
        """Read one image and encode its pyramid."""
        try:
            data = source.read(index)
            decoded, image = images.fitted(data, self.resolution, self.crop, upscale=self.upscale)
        except images.RejectError as error:
            return Made(index, reason=str(error))
        except OSError as error:
            return Made(index, reason=error.strerror or str(error))
        levels = images.pyramid(images.to_pixels(image, self.channels))
        records = {}
        for level in levels:
            payload = images.encode_pixels(level, codec_at(level.shape[-1], self.codec))
            records[level.shape[-1]] = crc_of(payload) + payload
        return Made(
            index,
            records,
            note=decoded.note,
            sides=decoded.size,
            pixels=hashlib.sha256(levels[0]).digest(),
            content=hashlib.sha256(decoded.image.tobytes() if data is decoded else data).digest(),
        )


@dataclass(frozen=True)
class Look:
    """A look at the headers of images, before any is made.

    least: pixels a side that they must have, unless `upscale`.
    """

    crop: images.Crop
    least: int
    upscale: bool

    def side(self, source: Source, index: int) -> int | str:
        """Pixels a side that image `index` gives, or why it cannot be used."""
        try:
            return images.side_after(
                self.crop, *source.size(index), self.least, upscale=self.upscale
            )
        except (images.RejectError, OSError) as error:
            return getattr(error, "strerror", None) or str(error)


def codec_at(resolution: int, codec: str) -> str:
    """Raw up to 128 px, `codec` above."""
    return "raw" if resolution <= RAW_UP_TO else codec
