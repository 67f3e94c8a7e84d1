"""Whether the pages of a data.mdb lead nowhere outside of it.

LMDB trusts what its pages say of where things are: one bit that has changed on the disk, and the
process that reads is killed by the system. So all that points is looked at before LMDB does. What
is pointed at, the images, has sums of its own.

The layout is LMDB's: two meta pages, of which the newer one counts; from its root a tree of
branch and leaf pages; records that do not fit into a leaf on pages of their own.
"""

import struct
from pathlib import Path

import numpy as np

from pgvae.errors import CorruptFileError

_HEADER = 16  # bytes of a page: number, padding, flags, where free space begins and ends
_BRANCH, _LEAF, _DIRTY, _BIG = 1, 2, 16, 1
_MAGIC, _VERSION = 0xBEEFC0DE, 1
KEY = 4  # bytes of a key of a prepared set
_LONGEST_KEY = 511
_DEEPEST = 32
_AT_ONCE = 4 << 20  # bytes of pages that are looked at together
# After a page's header: magic, version, address, map size; of the free list and the main tree
# page size or nothing, flags, depth, three counts of pages, entries, root; last page, transaction.
_META = struct.Struct("<IIQQ" + 2 * "IHHQQQQQ" + "QQ")


class _WrongError(Exception):
    """Something points to where nothing can be."""


def require_sound(file: Path, key: int | None = KEY) -> None:
    """Raise CorruptFileError where a page of a data.mdb points outside of it, or round and round.

    key: bytes of each key; None: any that LMDB allows, as in others' files. Reads no image. Raises
    OSError where it cannot be read.
    """
    advice = "get it anew" if key is None else "prepare the set again"
    try:
        content = np.memmap(file, np.uint8, "r")
    except ValueError as error:  # an empty file
        raise CorruptFileError(f"{file} is empty; {advice}") from error
    try:
        _Pages(content, key).walk()
    except _WrongError as error:
        raise CorruptFileError(f"{file} is damaged: {error}; {advice}") from error


class _Pages:
    def __init__(self, content: np.ndarray, key: int | None) -> None:
        self._content = content
        self._keys = (1, _LONGEST_KEY) if key is None else (key, key)
        first = self._meta(0)
        self._size = first[4]
        if self._size not in (1 << k for k in range(9, 17)):
            raise _WrongError(f"pages of {self._size} bytes")
        newer = max(first, self._meta(self._size), key=lambda meta: meta[-1])
        _, flags, _, *_, self._entries, self._root, last, _ = newer[12:]
        self._count = len(content) // self._size
        if flags or last >= self._count:
            raise _WrongError("its meta page")

    def walk(self) -> None:
        """Look at every page of the tree once, those of a level together."""
        level, seen, entries = np.array([self._root], np.uint64), 0, 0
        at_once = _AT_ONCE // self._size
        for _ in range(_DEEPEST):
            following = []
            for start in range(0, len(level), at_once):
                numbers = level[start : start + at_once]
                seen += len(numbers)
                outside = numbers >= self._count
                if outside.any() or seen > self._count:
                    raise _WrongError(f"page {numbers[outside.argmax()]}")
                below, found = self._nodes(numbers.astype(np.int64))
                following.append(below)
                entries += found
            level = np.concatenate(following)
            if not len(level):
                break
        if entries != self._entries or len(level):
            raise _WrongError(f"{entries} records of {self._entries}")

    def _meta(self, at: int) -> tuple[int, ...]:
        raw = self._content[at + _HEADER : at + _HEADER + _META.size].tobytes()
        if len(raw) < _META.size:
            raise _WrongError("it is too short")
        meta = _META.unpack(raw)
        if meta[:2] != (_MAGIC, _VERSION):
            raise _WrongError("its meta page")
        return meta

    def _nodes(self, numbers: np.ndarray) -> tuple[np.ndarray, int]:
        """Of pages, the numbers of those below them, in order, and how many records they have."""
        size = self._size
        pages = self._content[: self._count * size].reshape(-1, size)[numbers]
        words = pages.view("<u2").astype(np.int64)
        flags, lower, upper = words[:, 5] & ~_DIRTY, words[:, 6], words[:, 7]
        kinds = (flags == _BRANCH) | (flags == _LEAF)
        self._require(numbers, kinds & (lower > _HEADER) & (lower <= upper) & (upper <= size))
        counts = (lower - _HEADER) // 2
        page = np.repeat(np.arange(len(numbers)), counts)  # of each node
        place = np.arange(len(page)) - np.repeat(counts.cumsum() - counts, counts)  # in its page
        offsets = words[page, _HEADER // 2 + place]
        sound = (offsets >= upper[page]) & (offsets + 8 <= size) & (offsets % 2 == 0)
        self._require(numbers[page], sound)
        low, high, kind, key = (words[page, offsets // 2 + k] for k in range(4))
        known = (key >= self._keys[0]) & (key <= self._keys[1])
        branch = flags[page] == _BRANCH
        inside = offsets + 8 + key <= size
        self._require(numbers[page], ~branch | (inside & (known | (place == 0))))  # a first key may
        below = (low | high << 16 | kind << 32)[branch].astype(np.uint64)  # be missing
        length, big = low | high << 16, (kind == _BIG) & ~branch
        ends = offsets + 8 + key + np.where(big, 8, length)
        self._require(numbers[page], branch | (known & (kind & ~_BIG == 0) & (ends <= size)))
        at = (offsets + 8 + key)[big][:, None] + np.arange(8)
        first = pages[page[big][:, None], at].copy().view("<u8")[:, 0]
        needed = -(-(_HEADER + length[big]) // size)
        held = (first < self._count) & (first.astype(np.float64) + needed <= self._count)
        self._require(numbers[page[big]], held)
        return below, int((~branch).sum())

    @staticmethod
    def _require(numbers: np.ndarray, sound: np.ndarray) -> None:
        if not sound.all():
            raise _WrongError(f"page {numbers[sound.argmin()]}")
