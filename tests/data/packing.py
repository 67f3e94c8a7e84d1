"""Files of many images as other programs write them: 100 pictures of 16 px with classes."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import google_crc32c
import lmdb
import numpy as np
from making import encoded, noise, write_tar

COUNT, SIDE, CLASSES = 100, 16, ("cat", "dog", "owl")
CLASS_OF = [i % 3 for i in range(COUNT)]


def pictures(count: int = COUNT) -> list[np.ndarray]:
    return [noise(i, SIDE, SIDE) for i in range(count)]


def files(count: int = COUNT) -> list[bytes]:
    return [encoded(picture) for picture in pictures(count)]


def web_dataset(path: Path, data: Sequence[bytes], classes: Sequence[int]) -> Path:
    entries = {}
    for i, (file, number) in enumerate(zip(data, classes, strict=True)):
        entries[f"{i:06d}.png"] = file
        entries[f"{i:06d}.cls"] = str(number).encode()
        said = {"age": i / 2, "who": f"p{i % 7}", "b": [1] * (i % 2)}
        entries[f"{i:06d}.json"] = json.dumps(said).encode()
    return write_tar(path, entries)


def hugging_face_table(data: Sequence[bytes | None], classes: Sequence[int], row_names=True):
    """A table as `datasets` makes it: images as {bytes, path}, features noted in the schema."""
    import pyarrow as pa

    noted = {"image": {"_type": "Image"}, "label": {"names": [*CLASSES], "_type": "ClassLabel"}}
    return pa.table(
        {
            "image": pa.array(
                [{"bytes": file, "path": f"{i}.png"} for i, file in enumerate(data)],
                pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            ),
            "label": pa.array(classes, pa.int64()),
            "who": pa.array([f"p{i % 7}" for i in range(len(data))]),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": noted}})})


def write_arrow(path: Path, table) -> Path:
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=30):
            stream.write_batch(batch)
    return path


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _part(number: int, data: bytes) -> bytes:
    """A field of bytes in a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def example(**features: bytes | list[int] | list[float]) -> bytes:
    """A tf.train.Example of bytes, lists of whole numbers and lists of others."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = _part(1, _part(1, value))
        elif value and isinstance(value[0], float):
            feature = _part(2, _part(1, struct.pack(f"<{len(value)}f", *value)))
        else:
            feature = _part(3, _part(1, b"".join(map(_varint, value))))
        entries += _part(1, _part(1, name.encode()) + _part(2, feature))
    return _part(1, entries)


def crc(data: bytes) -> bytes:
    """TFRecord's."""
    value = google_crc32c.value(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_records(path: Path, records: Sequence[bytes]) -> Path:
    with path.open("wb") as file:
        for record in records:
            head = struct.pack("<Q", len(record))
            file.write(head + crc(head) + record + crc(record))
    return path


def pggan_record(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, C] as PGGAN's dataset_tool.py writes it."""
    planes = pixels.transpose(2, 0, 1)
    return example(shape=list(planes.shape), data=planes.tobytes())


def write_lmdb(path: Path, entries: Mapping[bytes, bytes]) -> Path:
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as t:
        for key, value in entries.items():
            t.put(key, value)
    return path
