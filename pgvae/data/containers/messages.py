"""What the messages of an Arrow file say of their size, read before anything is unpacked."""

import struct
from collections.abc import Iterable
from typing import Any

_HEADER = 2  # fields of a Message, a DictionaryBatch and a RecordBatch, in Arrow's schemas
_DATA, _BUFFERS, _COMPRESSION = 1, 2, 3


def unpacked_bytes(messages: Iterable[Any]) -> int:
    """The bytes that all compressed buffers of Arrow messages say they unpack to.

    Buffers that are not compressed are mapped, so they count for nothing. Raises struct.error for
    damaged messages.
    """
    return sum(_unpacked(m) for m in messages if m.type in ("dictionary", "record batch"))


def _unpacked(message: Any) -> int:
    data, body = memoryview(message.metadata), memoryview(message.body)
    batch = _followed(data, _field(data, _followed(data, 0), _HEADER))
    if message.type == "dictionary":
        batch = _followed(data, _field(data, batch, _DATA))
    if not _field(data, batch, _COMPRESSION):
        return 0
    vector = _followed(data, _field(data, batch, _BUFFERS))
    (count,) = struct.unpack_from("<I", data, vector)
    pairs = struct.unpack_from(f"<{2 * count}q", data, vector + 4)
    starts = [start for start, size in zip(pairs[::2], pairs[1::2], strict=True) if size]
    said = (struct.unpack_from("<q", body, start)[0] for start in starts)
    return sum(max(size, 0) for size in said)  # -1: this one is not compressed


def _field(data: memoryview, table: int, number: int) -> int:
    """Where a field of a table of FlatBuffers is; 0 where it has its default."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    at = 4 + 2 * number
    if at >= struct.unpack_from("<H", data, fields)[0]:
        return 0
    offset = struct.unpack_from("<H", data, fields + at)[0]
    return table + offset if offset else 0


def _followed(data: memoryview, at: int) -> int:
    """Where the offset at a place leads."""
    return at + struct.unpack_from("<I", data, at)[0]
