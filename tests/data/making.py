"""Pictures, folders and sets for the tests of the data room."""

import io
import json
import os
import signal
import struct
import tarfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pgvae.data import Store
from pgvae.data.images import size_of
from pgvae.data.labels import no_labels, split_by_fraction
from pgvae.data.prepare import Options, Recipe, prepare
from pgvae.data.workers import Crew


def noise(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Random uint8 [H, W, C], or [H, W] for one channel."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file, with its right CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(width: int, height: int, body: bytes) -> bytes:
    """An 8-bit RGB PNG whose header says width x height, whatever is in its body."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", body)
        + png_chunk(b"IEND", b"")
    )


def truncated_png(size: int = 64) -> bytes:
    """A PNG with half its rows, in chunks that are all well formed."""
    rows = b"".join(b"\0" + row.tobytes() for row in noise(9, size, size))
    body = zlib.compress(rows)
    return png_file(size, size, body[: len(body) // 2])


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of those files, with the folders between."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def zip_of(
    path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], deflate: bool = False
) -> Path:
    """A zip of those entries."""
    method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def write_tar(path: Path, entries: Mapping[str, bytes]) -> Path:
    """A tar of those files."""
    with tarfile.open(path, "w") as archive:
        for name, data in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def noise_files(count: int, size: int = 16, seed: int = 0) -> dict[str, bytes]:
    """Different pictures by name: 000.png, 001.png, ..."""
    return {f"{i:03d}.png": encoded(noise(seed * 1000 + i, size, size)) for i in range(count)}


class Memory:
    """A source that holds its files, and calls `before` with an index before each reading."""

    def __init__(
        self, files: Mapping[str, bytes], before: Callable[[int], object] | None = None
    ) -> None:
        self.names: Sequence[str] = list(files)
        self.skipped: list[dict[str, str]] = []
        self._data, self._before = list(files.values()), before

    def read(self, index: int) -> bytes:
        if self._before is not None:
            self._before(index)
        return self._data[index]

    def size(self, index: int) -> tuple[int, int]:
        return size_of(io.BytesIO(self._data[index]))

    def side_file(self, name: str) -> bytes | None:
        return None

    def fingerprint(self) -> str:
        return "memory"

    def close(self) -> None:
        """Nothing is open."""


def recipe_of(source: Any, name: str = "set", **changes: Any) -> Recipe:
    """A recipe without labels that holds out a quarter."""

    def split(kept, table):
        return split_by_fraction(len(kept), 0.25, seed=0)

    return Recipe(
        name,
        source,
        **{"labels": lambda names: no_labels(len(names)), "split": split, **changes},
    )


def workers_at_once(monkeypatch: Any) -> None:
    """Have all work done by workers, if there are to be any, after this process's first images."""
    plain = Crew._are_ready

    def ready(crew: Crew) -> bool:
        while not plain(crew) and crew._workers:
            time.sleep(0.01)
        return bool(crew._workers)

    monkeypatch.setattr(Crew, "_are_ready", ready)
    monkeypatch.setattr("pgvae.data.workers._WORTH", 0)


def unread(recipe: Recipe) -> Recipe:
    """A recipe of which no image may be looked at."""

    def read(index):
        raise AssertionError("read")

    recipe.source.read = recipe.source.size = read
    return recipe


def prepared(
    recipe: Recipe, root: Path, *, said: list[str] | None = None, force: bool = False, **options
) -> Store:
    """`prepare` in this process, what it says kept in `said`."""
    say = (lambda _: None) if said is None else said.append
    return prepare(recipe, Options(**{"workers": 0, **options}), root, force=force, say=say)


def damage(store: Store, index: int, resolution: int, at: int = 0) -> None:
    """Flip a bit of byte `at` of an image in a store of raw pixels."""
    pixels = store.get(index, resolution).tobytes()
    file = store.path / f"{resolution:04d}/data.mdb"
    data = bytearray(file.read_bytes())
    assert data.count(pixels) == 1
    data[data.index(pixels) + at] ^= 1
    file.write_bytes(data)


def left_in(root: Path) -> list[str]:
    """What a user sees in a data root, and what lies there aside."""
    return sorted(p.name for p in root.iterdir() if not p.name.endswith(".lock"))


def in_child(act: Callable[[], Any]) -> tuple[int, Any]:
    """(signal that ended it or 0, what `act` returned) of a forked process."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
        pid = os.fork()
    if pid == 0:
        answer: Any = "raised"
        try:
            os.close(read_end)
            answer = act()
        except BaseException as error:
            answer = f"raised {error!r}"
        finally:
            os.write(write_end, json.dumps(answer).encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, json.loads(answer or "null")


def kill_self(*_: object) -> None:
    """End this process as the system does when it is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
