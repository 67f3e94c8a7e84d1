"""The files of a store as they are written: LMDB in order, then labels, then the manifest."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np

from pgvae.data.journal import JOURNAL, Journal
from pgvae.data.making import Made
from pgvae.data.manifest import (
    FORMAT,
    HASHES,
    LABELS,
    MANIFEST,
    NAMES,
    REJECTS,
    SPLIT,
    checksum_of,
    folder_of,
)
from pgvae.data.store import key_of
from pgvae.errors import CorruptFileError, ResourceError
from pgvae.files import fsync, sha256_of, sums_of_parts
from pgvae.sizes import SQUARE, Base

_COMMIT_BYTES = 16 << 20  # what a transaction may hold in memory
_PAGE = 4096
_THREADS = 4  # that flush and sum files


class Writer:
    """Adds images to one LMDB environment per resolution, in order.

    As a context: on success everything is committed, on an error nothing more is. `finish` flushes.
    """

    def __init__(
        self,
        root: Path,
        sizes: tuple[int, ...],
        channels: int,
        most: int,
        what: dict[str, Any],
        base: Base = SQUARE,
    ) -> None:
        """`most`: at most so many images will come; it bounds the files' size. what: as `Journal`.

        Where `root` has what a killed preparation of the same wrote, it goes on with that; then
        `due` is the first image that is to be made.
        """
        self.root, self.sizes, self.channels, self.base = root, sizes, channels, base
        self.kept: list[int] = []
        self.rejects: list[dict[str, str]] = []
        self.digest = hashlib.sha256()
        self.notes: Counter[str] = Counter()
        self.not_square = 0  # or of another ratio than the base
        self.sides: Counter[int] = Counter()  # by the power of two that the shorter one has
        self.hashes = bytearray()  # of files and of pixels, by image
        self.old: dict[int, int] = {}  # index in the set that an image was taken from
        self._pending, self._committed = 0, False
        self._environments = {}
        for size in sizes:
            folder = root / folder_of(size)
            folder.mkdir(exist_ok=True)
            with _lmdb_errors(root):
                self._environments[size] = _new_environment(folder, _map_size(size, channels, most))
        self.due, self._noted = 0, (0, 0)
        self._journal = Journal(root, what)
        for line in self._journal.lines:
            self._go_on(line)
        self._transactions = {s: e.begin(write=True) for s, e in self._environments.items()}
        for transaction in self._transactions.values() if self.due else ():
            _forget_after(transaction, len(self.kept))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            for transaction in self._transactions.values():
                if kind is None:
                    with _lmdb_errors(self.root):
                        transaction.commit()
                else:
                    transaction.abort()
        finally:
            for environment in self._environments.values():
                environment.close()

    @property
    def duplicates(self) -> int:
        """Images whose file is byte for byte another's."""
        contents = np.frombuffer(self.hashes, "V32").reshape(-1, 2)[:, 0]
        return len(contents) - len({content.tobytes() for content in contents})

    def add(self, made: Made) -> None:
        """Write one image at every resolution."""
        self._put(key_of(len(self.kept)), made.records)
        self.digest.update(made.pixels)
        self.kept.append(made.index)
        self.hashes += made.content + made.pixels
        self.old[made.index] = made.old
        self.not_square += made.sides[0] * self.base[0] != made.sides[1] * self.base[1]
        self.sides[1 << (min(made.sides).bit_length() - 1)] += 1
        if made.note:
            self.notes[made.note] += 1
        self.due = made.index + 1
        if self._committed:
            self._note()

    def _put(self, key: bytes, records: dict[int, bytes]) -> None:
        """Write the records of an image, and now and then what waits in memory."""
        with _lmdb_errors(self.root):
            for size, record in records.items():
                self._transactions[size].put(key, record, append=True)
                self._pending += len(record)
            if self._pending > _COMMIT_BYTES:
                for size, environment in self._environments.items():
                    self._transactions[size].commit()
                    self._transactions[size] = environment.begin(write=True)
                self._pending = 0
                self._committed = True

    def _note(self) -> None:
        """Write what was committed into the journal."""
        kept, rejects = self._noted
        self._journal.add(
            {
                "due": self.due,
                "kept": self.kept[kept:],
                "old": [self.old[index] for index in self.kept[kept:]],
                "hashes": self.hashes[64 * kept :].hex(),
                "rejects": self.rejects[rejects:],
                "notes": self.notes,
                "sides": self.sides,
                "not_square": self.not_square,
            }
        )
        self._noted, self._committed = (len(self.kept), len(self.rejects)), False

    def _go_on(self, line: dict[str, Any]) -> None:
        """Take over a line of the journal."""
        hashes = bytes.fromhex(line["hashes"])
        self.hashes += hashes
        for at in range(32, len(hashes), 64):
            self.digest.update(hashes[at : at + 32])
        self.kept += line["kept"]
        self.old |= dict(zip(line["kept"], line["old"], strict=True))
        self.rejects += line["rejects"]
        self.notes = Counter(line["notes"])
        self.sides = Counter({int(side): count for side, count in line["sides"].items()})
        self.not_square, self.due = line["not_square"], line["due"]
        self._noted = (len(self.kept), len(self.rejects))

    def reject(self, index: int, name: str, reason: str) -> None:
        """Note an image that cannot be used."""
        self.rejects.append({"name": name, "reason": reason})
        self.due = index + 1

    def finish(
        self,
        names: list[str],
        labels: np.ndarray,
        split: np.ndarray,
        rejects: list[dict[str, str]],
        about: dict[str, Any],
    ) -> dict[str, Any]:
        """Write all else, the manifest last, flush it, and return the manifest.

        names, labels, split: of the images that were kept. about: further entries.
        """
        np.save(self.root / HASHES, np.frombuffer(self.hashes, np.uint8).reshape(-1, 2, 32))
        np.save(self.root / LABELS, labels)
        np.save(self.root / SPLIT, split)
        (self.root / NAMES).write_text(json.dumps(names), encoding="utf-8")
        lines = "".join(json.dumps(reject) + "\n" for reject in rejects)
        (self.root / REJECTS).write_text(lines, encoding="utf-8")
        self.digest.update(labels.tobytes() + split.tobytes())
        if self.base != SQUARE:  # the same bytes are other images in another shape
            self.digest.update(bytes(self.base))
        with ThreadPoolExecutor(_THREADS) as pool:  # the disk and the sums, at the same time
            flushed = [pool.submit(fsync, path) for path in self.root.rglob("*")]
            files = _files_of(self.root, pool)
            for flush in flushed:
                flush.result()
        manifest = {
            "format": FORMAT,
            "count": len(self.kept),
            "channels": self.channels,
            "splits": {"train": int((split == 0).sum()), "val": int((split == 1).sum())},
            "rejected": len(rejects),
            "duplicates": self.duplicates,
            "digest": self.digest.hexdigest(),
            "sides": {str(side): count for side, count in sorted(self.sides.items())},
            "files": files,
            **about,
        }
        manifest["checksum"] = checksum_of(manifest)
        self._journal.remove()
        text = json.dumps(manifest, indent=1)
        (self.root / MANIFEST).write_text(text, encoding="utf-8")
        fsync(self.root / MANIFEST)
        fsync(self.root)
        return manifest


@contextlib.contextmanager
def _lmdb_errors(root: Path) -> Iterator[None]:
    """Turn LMDB's into ResourceError: it calls a write that was cut short an input/output error."""
    try:
        yield
    except lmdb.Error as error:
        raise ResourceError(
            f"{root} cannot be written: {error}; look at the disk and the size that files may have"
        ) from error


def _new_environment(folder: Path, map_size: int) -> lmdb.Environment:
    """One to write to; ResourceError where the process may not have so many addresses."""
    try:
        # Without writemap a full disk is an error, not a fault. No lock: it is ours alone.
        # The mode is what the umask takes from.
        return lmdb.open(str(folder), map_size=map_size, lock=False, sync=False, mode=0o777)
    except lmdb.MemoryError as error:
        raise ResourceError(
            f"{folder} needs {map_size:,} bytes of address space: raise the limit (ulimit -v), or "
            "take a lower --resolution or --count"
        ) from error


def _forget_after(transaction: lmdb.Transaction, count: int) -> None:
    """Delete what was committed and is not in the journal; CorruptFileError where less is there."""
    cursor = transaction.cursor()
    there = cursor.set_range(key_of(count))
    while there:
        there = cursor.delete()
    if transaction.stat()["entries"] != count:
        raise CorruptFileError("what a killed preparation left is damaged: run it again")


def _map_size(resolution: int, channels: int, count: int) -> int:
    """Bytes that an environment can need: records in whole pages, and as much again.

    No encoding makes an image more than a little larger than its pixels. Address space alone,
    but not endless: nine environments of 16 TiB are more than a process may map.
    """
    record = channels * resolution**2 * 5 // 4 + 2 * _PAGE
    return 2 * count * record // _PAGE * _PAGE + (16 << 20)


def _files_of(root: Path, pool: ThreadPoolExecutor) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file, of the environments' by parts; by path."""
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted(root.rglob("*")):
        if path.name == JOURNAL or not path.is_file():
            continue
        pages = path.name == "data.mdb"
        said = {"parts": sums_of_parts(path, pool)} if pages else {"sha256": sha256_of(path)}
        entries[path.relative_to(root).as_posix()] = {"size": path.stat().st_size} | said
    return entries
