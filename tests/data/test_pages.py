"""Damaged pages are found before LMDB follows them to where nothing is."""

import random
import struct
from pathlib import Path

import lmdb
import numpy as np
import pytest
from making import in_child

from pgvae.data.pages import require_sound
from pgvae.data.store import key_of
from pgvae.errors import CorruptFileError

SIZE = 4096


def environment(folder: Path, count: int, length: int) -> Path:
    """An LMDB environment as the writer makes it: `count` records of so many bytes."""
    folder.mkdir()
    made = lmdb.open(str(folder), map_size=1 << 26, lock=False, sync=False)
    with made, made.begin(write=True) as txn:
        for index in range(count):
            txn.put(key_of(index), bytes([index % 251]) * length, append=True)
    return folder / "data.mdb"


def read(file: Path) -> list[bytes]:
    with lmdb.open(str(file.parent), readonly=True, lock=False) as opened, opened.begin() as txn:
        return [bytes(value) for _, value in txn.cursor()]


@pytest.mark.parametrize(
    ("count", "length"), [(1, 4), (12, 52), (3000, 52), (700, 2500), (40, 3 * 64 * 64)]
)
def test_whole_files_are_sound_however_deep_their_tree(count, length, tmp_path):
    require_sound(environment(tmp_path / "e", count, length))


@pytest.mark.parametrize(("count", "length"), [(300, 52), (30, 3 * 64 * 64)])
def test_whatever_byte_is_flipped_the_process_lives(count, length, tmp_path):
    """Half of them in what leads from page to page. Bytes of records are another's to check."""
    file = environment(tmp_path / "e", count, length)
    whole, before = file.read_bytes(), read(file)
    leading = [n for n in range(len(whole) // SIZE) if n < 2 or whole[n * SIZE + 10] in (1, 2)]
    rng = random.Random(0)

    def act() -> int:
        refused = 0
        for trial in range(200):
            damaged = bytearray(whole)
            at = rng.randrange(len(whole))
            if trial % 2:
                at = rng.choice(leading) * SIZE + rng.choice((0, SIZE - 200)) + rng.randrange(200)
            damaged[at] ^= rng.randrange(1, 256)
            file.write_bytes(damaged)
            try:
                require_sound(file)
                found = read(file)
            except (CorruptFileError, lmdb.Error):
                refused += 1
                continue
            assert len(found) <= len(before)
        return refused

    ended_by, refused = in_child(act)
    assert (ended_by, refused > 0) == (0, True), refused


@pytest.mark.parametrize("length", [0, 10, 4095, 4096, 8191, 8192, 12288, 20000])
def test_a_file_that_is_cut_is_refused(length, tmp_path):
    file = environment(tmp_path / "e", 300, 52)
    whole = file.read_bytes()
    assert len(whole) > length
    file.write_bytes(whole[:length])
    with pytest.raises(CorruptFileError, match="prepare the set again"):
        require_sound(file)


def test_a_tree_that_goes_round_is_refused(tmp_path):
    file = environment(tmp_path / "e", 300, 52)
    pages = np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, SIZE).copy()
    [root] = [n for n in range(2, len(pages)) if pages[n, 10] & 1]
    first = struct.unpack_from("<H", pages[root], 16)[0]
    struct.pack_into("<HHH", pages[root], first, root, 0, 0)  # its first child is itself
    file.write_bytes(pages.tobytes())
    with pytest.raises(CorruptFileError, match="is damaged"):
        require_sound(file)
