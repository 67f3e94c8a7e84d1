"""TensorBoard's file, read without TensorBoard."""

import struct
from pathlib import Path

import google_crc32c


def records_of(file: Path) -> list[bytes]:
    """The events of a file; AssertionError where one is cut or its sum is wrong.

    Each has its length, the sum of that, itself, and its own sum: tensorflow/core/lib/io/record.
    """
    content, at, found = file.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        whole = content[at : at + 16 + length]
        assert len(whole) == 16 + length, f"{file.name} is cut after {len(found)} events"
        for part, said in ((whole[:8], whole[8:12]), (whole[12:-4], whole[-4:])):
            assert _masked(part) == said, f"event {len(found)} of {file.name} is damaged"
        found.append(whole[12:-4])
        at += len(whole)
    return found


def _masked(data: bytes) -> bytes:
    """CRC32C, turned by 15 bits and moved, little-endian."""
    sum_ = google_crc32c.value(data)
    return struct.pack("<I", ((sum_ >> 15 | sum_ << 17) + 0xA282EAD8) & 0xFFFFFFFF)
