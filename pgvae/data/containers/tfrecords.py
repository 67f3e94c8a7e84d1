"""TFRecord files of PGGAN and StyleGAN, and others with encoded images. TensorFlow is not needed.

A file is a row of records: length (8 bytes), its CRC, that many bytes, their CRC; the bytes are a
`tf.train.Example`, a protocol buffer of lists by name.
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.containers.base import (
    FileSource,
    bad_record,
    beside,
    checked_size,
    columns_of,
    damaged,
    needed,
    numbered,
    pixels_as_image,
)
from pgvae.data.labels import Columns
from pgvae.data.paths import some
from pgvae.errors import InputError

_HEAD, _FOOT = 12, 4  # bytes around a record
_MASK = 0xA282EAD8  # TFRecord adds it to each CRC, rotated by 15 bits
_ENCODED = ("image/encoded", "image", "image_raw", "jpeg", "png", "encoded", "data")
_CLASSES = ("image/class/label", "label", "class")
_IS_OF_PIXELS = re.compile(r"(.*/)?(shape|height|width|depth|channels)")
_MAX_RECORDS = 5_000_000
_LEVEL = re.compile(r"(.*)-r(\d\d)\.tfrecords?")  # PGGAN's: 2 ** dd pixels
_KINDS = {1: "bytes", 2: "float", 3: "int64"}  # fields of tf.train.Feature


class TfRecordSource(FileSource):
    """The images of a TFRecord file: pixels with a shape, as PGGAN writes them, or encoded.

    Labels are in the set's NAME-rxx.labels, or in the records. Raises InputError for a file that
    ends within a record or has a wrong CRC of a length.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with damaged(path, "TFRecord file"), path.open("rb") as file:
            self._offsets = np.array([*_offsets_in(file, path)], np.int64)
        self.names = numbered(len(self._offsets))

    def read(self, index: int) -> bytes | images.Decoded:
        example = self._example(index)
        if "shape" in example and example.get("data"):
            with bad_record():
                pixels = np.frombuffer(example["data"][0], np.uint8).reshape(example["shape"])
                return pixels_as_image(pixels)
        for name in _ENCODED:
            if example.get(name) and isinstance(example[name][0], bytes):
                return example[name][0]
        raise images.RejectError(f"no image among its fields: {', '.join(example) or 'none'}")

    def columns(self) -> Columns | None:
        set_name = _LEVEL.fullmatch(self.path.name)
        stem = set_name[1] if set_name else self.path.stem
        own = beside(self.path.with_name(f"{stem}-rxx.labels"), len(self.names))
        if own is not None:
            return own
        readable = (self._or_none(index) for index in range(len(self.names)))
        first = next((example for example in readable if example is not None), {})
        titles = [name for name in _CLASSES if first.get(name)]
        title = next((name for name in titles if not isinstance(first[name][0], bytes)), "")
        left = {*titles} | {name for name in first if _is_number(first, name)}
        left = sorted(name for name in left - {title} if not _IS_OF_PIXELS.fullmatch(name))
        note = f"fields that are not taken as labels: {some(left)}; such are {', '.join(_CLASSES)}"
        found = columns_of(self.path, self._cells(title, first[title]) if title else {})
        found = replace(found, notes=(*found.notes, note)) if left else found
        return found if found.cells or found.notes else None

    def _cells(self, title: str, first: list) -> dict[str, list]:
        """What all records say in a field: numbers, where none has more than one, or lists.

        Of a record that cannot be read, and will be refused by name, what the first one says.
        """
        examples = (self._or_none(index) for index in range(len(self.names)))
        values = [first if row is None else row.get(title, []) for row in examples]
        single = all(len(value) < 2 for value in values)
        return {title: [value[0] if value else None for value in values] if single else values}

    def _or_none(self, index: int) -> dict[str, list] | None:
        try:
            return self._example(index)
        except images.RejectError:
            return None

    def _example(self, index: int) -> dict[str, list]:
        """The lists of a record by name; RejectError where its CRC is wrong."""
        offset = int(self._offsets[index])
        head = _read(self._file(), offset, _HEAD)
        size = struct.unpack("<Q", head[:8])[0]
        checked_size(size, self.names[index])
        data = _read(self._file(), offset + _HEAD, size + _FOOT)
        if len(data) < size + _FOOT or _masked_crc(data[:size]) != _number(data[size:]):
            raise images.RejectError("its CRC is wrong")
        with bad_record():
            return _example_of(data[:size])

    def _open(self) -> BinaryIO:
        return self.path.open("rb")


def only_largest(paths: list[Path]) -> list[Path]:
    """Of PGGAN's files of one set at each resolution the largest; all others stay.

    >>> [path.name for path in only_largest([Path("a-r02.tfrecords"), Path("a-r03.tfrecords")])]
    ['a-r03.tfrecords']
    """
    largest: dict[str, Path] = {}
    for path in sorted(paths):
        found = _LEVEL.fullmatch(path.name)
        largest[str(path.with_name(found[1])) if found else str(path)] = path
    return sorted(largest.values())


def _offsets_in(file: BinaryIO, path: Path) -> Iterator[int]:
    """Where each record begins."""
    end, offset, count = os.fstat(file.fileno()).st_size, 0, 0
    while offset < end:
        head = _read(file, offset, _HEAD)
        if len(head) < _HEAD or _masked_crc(head[:8]) != _number(head[8:]):
            packed = " (packed by gzip? unpack it)" if head[:2] == b"\x1f\x8b" else ""
            raise InputError(
                f"{path} is damaged at byte {offset:,}, after {count:,} records{packed}"
            )
        yield offset
        offset += _HEAD + struct.unpack("<Q", head[:8])[0] + _FOOT
        count += 1
        require(count <= _MAX_RECORDS, f"{path} has more than {_MAX_RECORDS:,} records: refused")
    require(offset == end, f"{path} is cut off: its last record, of {count:,}, is not whole")


def _example_of(data: bytes) -> dict[str, list]:
    """A tf.train.Example: {name: values}."""
    lists: dict[str, list] = {}
    for _, features in _fields(data):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            for kind, values in _fields(parts.get(2, b"")):
                lists[parts[1].decode("utf-8", "replace")] = _values(_KINDS.get(kind, ""), values)
    return lists


def _values(kind: str, data: bytes) -> list:
    """A BytesList, FloatList or Int64List, packed or not."""
    values: list = []
    for _, value in _fields(data):
        if kind == "bytes":
            values.append(value)
        elif kind == "float":
            values += np.frombuffer(value, "<f4").tolist()
        elif isinstance(value, int):
            values.append(value)
        else:
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                values.append(number)
    return values


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message; ValueError where it is none."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = (_varint(data, at)) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if size < 0 or at + size > len(data):
            raise ValueError("it is no tf.train.Example")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, signed at 64 bits, and where it ends."""
    value = shift = 0
    while shift < 64:
        byte = data[at] if at < len(data) else -1
        if byte < 0:
            break
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value - (1 << 64) if value >> 63 else value), at
    raise ValueError("it is no tf.train.Example")


def _is_number(example: dict[str, list], name: str) -> bool:
    return bool(example[name]) and not isinstance(example[name][0], bytes)


def _masked_crc(data: bytes) -> int:
    crc = _crc32c().value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, offset)


def _crc32c() -> ModuleType:
    def load() -> ModuleType:
        import google_crc32c

        return google_crc32c

    return needed(load, "TFRecord")
