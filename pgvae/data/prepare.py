"""Build a store: read, check, crop, scale, write every resolution, and only then show it."""

import contextlib
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from tqdm import tqdm

from pgvae.config import check_resolution, nearest, require, resolutions_between
from pgvae.data import images
from pgvae.data.labels import Table, some
from pgvae.data.sources import Source
from pgvae.data.store import (
    FORMAT,
    LABELS,
    MANIFEST,
    NAMES,
    REJECTS,
    SPLIT,
    Store,
    folder_of,
    key_of,
)
from pgvae.errors import InputError
from pgvae.files import disk_errors, fsync, remove, sha256_of

RAW_UP_TO = 128
CODECS = ("webp", "png", "jpeg", "raw")
_CHUNK = 16  # images a worker makes at a time
_FEW = 64  # images for which starting workers is not worth it


@dataclass(frozen=True)
class Recipe:
    """What to prepare, before what the user asked for is put in place.

    labels: of all the source's images, by their names; None for a set without labels.
    split:  of the images that are kept, given their indices in the source and their `Table`.
    """

    name: str
    source: Source
    labels: Callable[[list[str]], Table]
    split: Callable[[list[int], Table], np.ndarray]
    crop: images.Crop = "center"


@dataclass(frozen=True)
class Options:
    """How to prepare. resolution None: the largest power of two that the images have.

    codec:    of the resolutions above 128 px; those up to it are raw.
    skip_bad: leave out images that cannot be used, at most `max_bad` of them.
    """

    resolution: int | None = None
    crop: images.Crop = "center"
    channels: int = 3
    codec: str = "webp"
    upscale: bool = False
    skip_bad: bool = False
    max_bad: int | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    seed: int = 0
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """What a worker needs to make any of the images."""

    source: Source
    resolution: int
    crop: images.Crop
    channels: int
    codec: str
    upscale: bool

    def make(self, index: int) -> "_Made":
        """Read one image and encode its pyramid."""
        try:
            data = self.source.read(index)
            decoded = images.decode(data)
            image = images.fit(decoded.image, self.resolution, self.crop, upscale=self.upscale)
        except (images.RejectError, OSError) as error:
            return _Made(index, reason=str(error))
        records = {}
        for pixels in images.pyramid(images.to_pixels(image, self.channels)):
            payload = images.encode_pixels(pixels, codec_at(pixels.shape[-1], self.codec))
            records[pixels.shape[-1]] = zlib.crc32(payload).to_bytes(4, "big") + payload
        width, height = decoded.image.size
        return _Made(
            index,
            records,
            note=decoded.note,
            square=width == height,
            content=hashlib.sha256(data).digest(),
        )

    def make_some(self, indices: list[int]) -> list["_Made"]:
        """`make` for a chunk of images: what one worker does at a time."""
        return [self.make(index) for index in indices]


@dataclass(frozen=True)
class _Made:
    """One image, encoded at every resolution, or the reason why it cannot be used."""

    index: int
    records: dict[int, bytes] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    square: bool = True
    content: bytes = b""


def codec_at(resolution: int, codec: str) -> str:
    """Raw up to 128 px, `codec` above."""
    return "raw" if resolution <= RAW_UP_TO else codec


def prepare(
    recipe: Recipe,
    options: Options,
    data_root: Path,
    *,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> Store:
    """Prepare `recipe` as `data_root/NAME` and open it.

    Nothing is visible there before all of it is written and flushed. Raises InputError for data
    or options that cannot be used (and where NAME exists and not `force`), ResourceError when
    the disk is full.
    """
    require(bool(recipe.name) and "/" not in recipe.name, f"{recipe.name!r} cannot be a name")
    require(
        options.codec in CODECS,
        f"unknown codec {options.codec!r}: {nearest(options.codec, [*CODECS])}",
    )
    final = data_root / recipe.name
    require(
        force or not final.exists(),
        f"{final} exists: use --force to replace it or --name for another",
    )
    table = recipe.labels(list(recipe.source.names))  # wrong labels fail before any work
    resolution = options.resolution or _largest_resolution(recipe.source, options.crop)
    check_resolution(resolution)
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        lock = (data_root / f".{recipe.name}.lock").open("w")
    except OSError as error:
        raise InputError(f"cannot write to {data_root}: {error.strerror}") from error
    with lock, _aside(data_root, recipe.name, lock) as aside, disk_errors(final):
        _write(recipe, options, resolution, table, aside, say)
        if final.exists():
            old = data_root / f"{recipe.name}.old.tmp"
            remove(old)
            final.rename(old)
            aside.rename(final)
            remove(old)
        else:
            aside.rename(final)
        fsync(data_root)
    (data_root / f".{recipe.name}.lock").unlink(missing_ok=True)
    return Store(final)


@contextlib.contextmanager
def _aside(data_root: Path, name: str, lock: Any) -> Iterator[Path]:
    """An empty `NAME.tmp` that is ours alone; what a killed run left there is removed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"{data_root / name} is being prepared by another process") from error
    aside = data_root / f"{name}.tmp"
    remove(aside)
    aside.mkdir()
    try:
        yield aside
    finally:
        remove(aside)


def _largest_resolution(source: Source, crop: images.Crop) -> int:
    """The largest power of two, at most 1024, that every readable image has."""
    sides = []
    for index in range(len(source.names)):
        # An unreadable image says so when it is made; here it only has no size.
        with contextlib.suppress(images.RejectError, OSError):
            sides.append(images.side_after(crop, *images.size_of(io.BytesIO(source.read(index)))))
    require(bool(sides), "none of the images can be read: give PNG, JPEG, WebP or BMP files")
    require(min(sides) >= 4, f"the smallest image has {min(sides)} px: 4 or more are needed")
    return 2 ** min(10, min(sides).bit_length() - 1)


def _write(
    recipe: Recipe,
    options: Options,
    resolution: int,
    table: Table,
    aside: Path,
    say: Callable[[str], None],
) -> None:
    """All files of a store, the manifest last."""
    sizes = resolutions_between(4, resolution)
    job = _Job(
        recipe.source, resolution, options.crop, options.channels, options.codec, options.upscale
    )
    with _Writer(aside, sizes) as writer:
        for made in _in_order(job, options.workers):
            if made.reason:
                writer.reject(recipe.source.names[made.index], made.reason)
                _check_rejects(writer.rejects, options)
            else:
                writer.add(made, recipe.source.names[made.index])
    kept = writer.kept
    require(bool(kept), f"none of the {len(recipe.source.names)} images can be used")
    labels = table.values[kept]
    chosen = Table(
        table.attributes, labels, {k: [v[i] for i in kept] for k, v in table.columns.items()}
    )
    split = recipe.split(kept, chosen)
    np.save(aside / LABELS, labels)
    np.save(aside / SPLIT, split)
    (aside / NAMES).write_text(json.dumps([recipe.source.names[i] for i in kept]))
    rejects = [*recipe.source.skipped, *writer.rejects]
    (aside / REJECTS).write_text("".join(json.dumps(r) + "\n" for r in rejects))
    writer.digest.update(labels.tobytes() + split.tobytes())
    manifest = {
        "format": FORMAT,
        "name": recipe.name,
        "count": len(kept),
        "channels": options.channels,
        "codecs": {str(r): codec_at(r, options.codec) for r in sizes},
        "attributes": list(table.attributes),
        "splits": {"train": int((split == 0).sum()), "val": int((split == 1).sum())},
        "crop": options.crop,
        "background": list(images.BACKGROUND),
        "seed": options.seed,
        "rejected": len(rejects),
        "duplicates": writer.duplicates,
        "digest": writer.digest.hexdigest(),
        "about": options.about,
        "files": _files_of(aside),
    }
    (aside / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in [*aside.rglob("*"), aside]:
        fsync(path)
    _say_what_happened(manifest, writer, options, say)


class _Writer:
    """Adds images to one LMDB environment per resolution, in order."""

    def __init__(self, root: Path, sizes: tuple[int, ...]) -> None:
        self.kept: list[int] = []
        self.rejects: list[dict[str, str]] = []
        self.digest = hashlib.sha256()
        self.notes: Counter[str] = Counter()
        self.not_square = 0
        self._contents: set[bytes] = set()
        self._environments = {}
        for size in sizes:
            folder = root / folder_of(size)
            folder.mkdir()
            # Without writemap a full disk is an error, not a fault. No lock: it is ours alone.
            self._environments[size] = lmdb.open(
                str(folder), map_size=1 << 44, lock=False, sync=False, meminit=True
            )
        self._transactions = {s: e.begin(write=True) for s, e in self._environments.items()}

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for size, environment in self._environments.items():
            if kind is None:
                self._transactions[size].commit()
                environment.sync(True)
            else:
                self._transactions[size].abort()
            environment.close()

    @property
    def duplicates(self) -> int:
        """Images whose file is byte for byte another's."""
        return len(self.kept) - len(self._contents)

    def add(self, made: _Made, name: str) -> None:
        """Write one image at every resolution."""
        key = key_of(len(self.kept))
        for size, record in made.records.items():
            self._transactions[size].put(key, record, append=True)
            self.digest.update(record)
        self.kept.append(made.index)
        self._contents.add(made.content)
        self.not_square += not made.square
        if made.note:
            self.notes[made.note] += 1
        if len(self.kept) % 1000 == 0:
            for size, environment in self._environments.items():
                self._transactions[size].commit()
                self._transactions[size] = environment.begin(write=True)

    def reject(self, name: str, reason: str) -> None:
        """Note an image that cannot be used."""
        self.rejects.append({"name": name, "reason": reason})


def _in_order(job: _Job, workers: int) -> Iterator[_Made]:
    """Every image of the source, made by worker processes, in the source's order."""
    count = len(job.source.names)
    bar = tqdm(total=count, unit="img", desc="prepare", disable=None, dynamic_ncols=True)
    chunks = [list(range(i, min(i + _CHUNK, count))) for i in range(0, count, _CHUNK)]
    with bar:
        if workers < 2 or count < _FEW:
            for index in range(count):
                yield job.make(index)
                bar.update()
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            waiting: deque = deque()
            try:
                for chunk in chunks:
                    waiting.append(pool.submit(job.make_some, chunk))
                    if len(waiting) > 2 * workers:
                        done = waiting.popleft().result()
                        yield from done
                        bar.update(len(done))
                while waiting:
                    done = waiting.popleft().result()
                    yield from done
                    bar.update(len(done))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _check_rejects(rejects: list[dict[str, str]], options: Options) -> None:
    """Raise InputError at the first bad image, or with `skip_bad` at one too many."""
    last = rejects[-1]
    if not options.skip_bad:
        raise InputError(
            f"{last['name']!r}: {last['reason']}; mend or remove it, or use --skip-bad"
            + (", --upscale or a lower --resolution" if "below" in last["reason"] else "")
        )
    if options.max_bad is not None and len(rejects) > options.max_bad:
        names = some([r["name"] for r in rejects])
        raise InputError(f"more than {options.max_bad} images cannot be used: {names}")


def _files_of(root: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file, by path."""
    return {
        str(path.relative_to(root)): {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock.mdb"
    }


def _say_what_happened(
    manifest: dict[str, Any], writer: _Writer, options: Options, say: Callable[[str], None]
) -> None:
    if writer.not_square:
        say(f"{writer.not_square:,} images are not square: crop policy {options.crop!r} applied")
    for note, count in writer.notes.items():
        say(f"warning: {count:,} images: {note}")
    if manifest["duplicates"]:
        say(f"warning: {manifest['duplicates']:,} images are byte-for-byte duplicates (kept)")
    if manifest["rejected"]:
        say(f"warning: {manifest['rejected']:,} images left out: see {REJECTS}")
    if manifest["count"] == 1:
        say("warning: one image only: it is used for training, and nothing is held out")
