"""Hostile files of every kind that pgvae reads, and what each reader makes of them.

`python tests/hostile.py FOLDER` prints a line of JSON for each: what came of it, megabytes of
memory above those of the process before, CPU-seconds. Each is read in a process of its own.
"""

import contextlib
import gzip
import io
import json
import os
import pickle
import resource
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from memory import peak
from PIL import Image
from safetensors.torch import save_file

from pgvae.cli import main
from pgvae.data import load_images, open_dataset
from pgvae.data.labels import from_csv, from_dataset_json
from pgvae.errors import InputError, PgvaeError
from pgvae.interop import read_pioneer
from pgvae.report.collect import read_run
from pgvae.request import Request
from pgvae.snapshot import load_snapshot
from pgvae.training.resume import Kept

SECONDS = 60
BIG = 1 << 28  # bytes that a bomb unpacks to

Write = Callable[[Path], object]
Read = Callable[[Path], object]


class Trap:
    """Unpickling it makes the file `executed` in the folder that it is run in."""

    def __reduce__(self) -> tuple:
        return (open, ("executed", "w"))


def zeros(size: int, level: int = 9) -> bytes:
    """A deflated stream of so many zeros."""
    packer = zlib.compressobj(level)
    part, parts = bytes(1 << 20), []
    for _ in range(size >> 20):
        parts.append(packer.compress(part))
    return b"".join([*parts, packer.flush()])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n", header, *more, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"".join(parts)


def picture(kind: str = "PNG", size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(file, kind)
    return file.getvalue()


def content(data: bytes | Callable[[], bytes]) -> Write:
    return lambda path: path.write_bytes(data() if callable(data) else data)


def zipped(*entries: tuple[str, bytes], mode: int = 0o100644, flags: int = 0) -> Write:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries:
                info = zipfile.ZipInfo(name)
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
                archive.writestr(info, data)
        if flags:  # in both of its headers
            raw = bytearray(path.read_bytes())
            for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
                raw[raw.index(mark) + at] |= flags
            path.write_bytes(raw)

    return write


def tarred(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> Write:
    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(data)
            archive.addfile(member, io.BytesIO(data))

    return write


def tar_bomb(path: Path) -> None:
    member = tarfile.TarInfo("a.png")
    member.size = BIG
    with gzip.open(path, "wb") as file:
        file.write(member.tobuf())
        for _ in range(BIG >> 20):
            file.write(bytes(1 << 20))


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def run_with(name: str, text: str) -> Write:
    """A run directory with a hostile file in it."""

    def write(path: Path) -> None:
        path.mkdir()
        for file, said in {
            "config.json": "{}",
            "request.json": "{}",
            "stats.jsonl": '{"images": 1, "a": 1.0}\n',
            name: text,
        }.items():
            (path / file).write_text(said)

    return write


def image(path: Path) -> None:
    load_images([path], 16)


def data_set(path: Path) -> None:
    open_dataset(str(path), path.parent / "sets", say=lambda _: None)


def table(path: Path) -> None:
    from_csv(path.read_text(encoding="utf-8", errors="replace"), ["a.png", "b.png"])


def table_of_a_set(path: Path) -> None:
    """As `pgvae data prepare --labels` reads it."""
    photos = path.parent / f"{path.stem}-photos"
    photos.mkdir()
    for name in "ab":
        (photos / f"{name}.png").write_bytes(picture())
    words = ["data", "prepare", str(photos), "--labels", str(path), "--workers", "0"]
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            main([*words, "--data-root", str(path.parent / "sets")])
        except SystemExit as ended:
            if ended.code in (2, 3, 4):
                raise InputError("said in a line") from ended
            if ended.code:
                raise


def dataset_json(path: Path) -> None:
    from_dataset_json(path.read_text(), ["a.png", "b.png"])


def report(path: Path) -> None:
    read_run(path)


def deep(size: int = 200_000) -> str:
    return '{"a":' * size


BAD_CODE = b"cos\nsystem\n(S'touch executed'\ntR."
NAN_WEIGHTS: Write = lambda path: save_file(  # noqa: E731
    {"w": torch.full((9,), torch.nan)}, path, metadata={"pgvae": "{}"}
)
FILES: dict[str, tuple[str, Write, Read]] = {
    "a png of 60,000 px a side": ("a.png", content(png(60_000, 60_000, zeros(1 << 20))), image),
    "a png of 2^31 px a side": ("a.png", content(png(2**31 - 1, 2**31 - 1, b"x")), image),
    "a png of 0 px": ("a.png", content(png(0, 0, b"")), image),
    "a png whose text is a bomb": (
        "a.png",
        content(lambda: png(8, 8, b"", chunk(b"zTXt", b"t\0\0" + zeros(BIG)))),
        image,
    ),
    "a png whose profile is a bomb": (
        "a.png",
        content(lambda: png(8, 8, b"", chunk(b"iCCP", b"t\0\0" + zeros(BIG)))),
        image,
    ),
    "a png whose pixels are a bomb": ("a.png", content(lambda: png(8, 8, zeros(BIG))), image),
    "a png that is cut": ("a.png", content(picture(size=64)[:-40]), image),
    "a jpeg of 65,535 px a side": (
        "a.jpg",
        content(lambda: picture("JPEG").replace(b"\x00\x08\x00\x08\x03", b"\xff\xff\xff\xff\x03")),
        image,
    ),
    "a bmp of 2^30 px a side": (
        "a.bmp",
        content(lambda: picture("BMP")[:18] + struct.pack("<ii", 2**30, 2**30) + bytes(100)),
        image,
    ),
    "a webp of noise": ("a.webp", content(b"RIFF\xff\xff\xff\xffWEBPVP8L" + bytes(99)), image),
    "PostScript called png": ("a.png", content(b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run\n"), image),
    "an svg called png": ("a.png", content(b'<svg onload="x()"/>'), image),
    "a pickle called png": ("a.png", content(pickle.dumps(Trap())), image),
    "nothing": ("a.png", content(b""), image),
    "an npy of objects": (
        "a.npy",
        lambda path: np.save(path, np.array([Trap()], object), allow_pickle=True),
        data_set,
    ),
    "an npz of objects": (
        "a.npz",
        lambda path: np.savez(path, images=np.array([Trap()], object)),
        data_set,
    ),
    "an npy of 2^60 images": (
        "a.npy",
        content(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2**60, 8, 8, 3)}")),
        data_set,
    ),
    "an npy beyond its end": (
        "a.npy",
        content(npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**50}, 8, 8, 3)}}")),
        data_set,
    ),
    "an npy with code in its header": (
        "a.npy",
        content(npy("open('executed', 'w')")),
        data_set,
    ),
    "a zip with ..": ("a.zip", zipped(("../../evil.png", picture())), data_set),
    "a zip with an absolute name": ("a.zip", zipped(("/tmp/evil.png", picture())), data_set),
    "a zip with a link": ("a.zip", zipped(("a.png", b"/etc/passwd"), mode=0o120777), data_set),
    "a zip that is a bomb": (
        "a.zip",
        zipped(("a.png", bytes(BIG))),
        data_set,
    ),
    "a zip that is locked": ("a.zip", zipped(("a.png", picture()), flags=1), data_set),
    "a zip of 5,000 empty files": (
        "a.zip",
        zipped(*((f"{i}.png", b"") for i in range(5_000))),
        data_set,
    ),
    "a zip that is cut": ("a.zip", content(b"PK\x03\x04" + bytes(60)), data_set),
    "a zip with NUL in a name": ("a.zip", zipped(("a\0b.png", picture())), data_set),
    "a tar with ..": ("a.tar", tarred("../../evil.png", data=picture()), data_set),
    "a tar with an absolute name": ("a.tar", tarred("/tmp/evil.png", data=picture()), data_set),
    "a tar with a link": ("a.tar", tarred("a.png", tarfile.SYMTYPE, "/etc/passwd"), data_set),
    "a tar with a hard link": ("a.tar", tarred("a.png", tarfile.LNKTYPE, "/etc/passwd"), data_set),
    "a tar with a device": ("a.tar", tarred("a.png", tarfile.CHRTYPE), data_set),
    "a tar.gz that is a bomb": ("a.tar.gz", tar_bomb, data_set),
    "a parquet of noise": ("a.parquet", content(b"PAR1" + bytes(200) + b"PAR1"), data_set),
    "an arrow file of noise": ("a.arrow", content(b"ARROW1\0\0" + bytes(200)), data_set),
    "an h5 of noise": ("a.h5", content(b"\x89HDF\r\n\x1a\n" + bytes(200)), data_set),
    "a tfrecord of 2^63 bytes": ("a.tfrecord", content(struct.pack("<Q", 2**63) * 9), data_set),
    "a csv with NUL": ("a.csv", content(b"name,x\na.png,\0\n\0\0\0"), table_of_a_set),
    "a csv of 10^6 columns": (
        "a.csv",
        content(lambda: b"name" + b",x" * 10**6 + b"\na.png" + b",1" * 10**6 + b"\n"),
        table_of_a_set,
    ),
    "a csv with a cell of 20 MB": (
        "a.csv",
        content(lambda: b'name,x\na.png,"' + b"9" * (20 << 20) + b'"\nb.png,1\n'),
        table_of_a_set,
    ),
    "a csv of quotes": ("a.csv", content(lambda: b'name,x\n"' + b'"' * 10**6), table_of_a_set),
    "a csv of infinity": ("a.csv", content(b"name,x\na.png,inf\nb.png,1e999\n"), table_of_a_set),
    "a csv in UTF-16": ("a.csv", content("name,x\na.png,1\n".encode("utf-16")), table_of_a_set),
    "a deep dataset.json": ("dataset.json", content(deep().encode()), table_of_a_set),
    "a dataset.json of lists": (
        "dataset.json",
        content(b'{"labels": [["a.png", [[[1]]]], ["b.png", {}]]}'),
        table_of_a_set,
    ),
    "a pickle called safetensors": (
        "s.safetensors",
        content(pickle.dumps(Trap())),
        load_snapshot,
    ),
    "a snapshot whose numbers are none": ("s.safetensors", NAN_WEIGHTS, load_snapshot),
    "a checkpoint of PIONEER with a payload": (
        "604000_state",
        lambda path: torch.save({"epoch": Trap()}, path),
        read_pioneer,
    ),
    "a bare payload for a checkpoint": ("604000_state", content(BAD_CODE), read_pioneer),
    "a deep request": ("request.json", content(deep().encode()), Request.read),
    "a request of 10^6 digits": (
        "request.json",
        content(lambda: b'{"seed": ' + b"9" * 10**6 + b"}"),
        Request.read,
    ),
    "a deep config": ("run", run_with("config.json", deep()), Kept.read),
    "a config of lists": ("run", run_with("config.json", "[[[]]]"), Kept.read),
    "a deep config for the report": ("run", run_with("config.json", deep()), report),
    "deep lines in stats.jsonl": ("run", run_with("stats.jsonl", deep() + "\n" + deep()), report),
    "a deep evaluation": ("run", run_with("evaluation.json", deep()), report),
    "names that are markup": (
        "run",
        run_with("stats.jsonl", '{"images": 1, "<script>x()</script>": 1}\n'),
        report,
    ),
}


def came_of(read: Read, path: Path) -> str:
    """In words: refused with a line, taken, or an error that is none of ours."""
    try:
        read(path)
    except PgvaeError as error:
        one_line = "\n" not in str(error) and len(str(error)) < 2000
        return f"{type(error).__name__}" if one_line else f"many lines: {str(error)[:300]!r}"
    except BaseException as error:
        return f"not ours: {error!r:.300}"
    return "taken"


def try_one(name: str, folder: Path) -> dict:
    """Read one file in a process of its own."""
    file, write, read = FILES[name]
    folder.mkdir()
    write(folder / file)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        before, started = peak(), time.process_time()
        came = came_of(read, folder / file)
        row = {"came": came, "mb": (peak() - before) / 1024, "s": time.process_time() - started}
        os.write(theirs, json.dumps(row).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    executed = (folder / "executed").exists() or (folder.parent / "evil.png").exists()
    path = folder / file
    size = path.stat().st_size / 2**20 if path.is_file() else 0.0
    row = json.loads(said) if said else {"came": f"killed: {status}", "mb": 0.0, "s": 0.0}
    return {"name": name, "executed": executed, "size_mb": size, **row}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for index, name in enumerate(sys.argv[2:] or FILES):
        print(json.dumps(try_one(name, place / f"{index:02d}")), flush=True)
