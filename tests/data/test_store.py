"""A damaged set is refused with a reason, never a fault; a whole one is read from anywhere."""

import hashlib
import os
import pickle
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from making import Memory, encoded, in_child, noise, noise_files, prepared, recipe_of

from pgvae.data import Store, environments
from pgvae.errors import InputError

SIZES = (4, 8, 16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 12 pictures at 4 to 16 px."""
    return prepared(recipe_of(Memory(noise_files(12))), tmp_path_factory.mktemp("whole")).path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy of that set, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


# Whole


def test_a_set_that_was_replaced_is_not_mixed_with_the_old_one(tmp_path):
    store = prepared(recipe_of(Memory(noise_files(12))), tmp_path)
    before = store.get(0, 8)
    prepared(recipe_of(Memory(noise_files(12, seed=1))), tmp_path, force=True)
    np.testing.assert_array_equal(store.get(0, 8), before)  # that file is still open
    for read in (lambda: store.get(0, 4), store.names, store.hashes):
        with pytest.raises(InputError, match="was replaced while it was in use"):
            read()
    with pytest.raises(InputError, match="was replaced"):
        pickle.loads(pickle.dumps(store)).get(0, 8)


def test_a_store_says_what_it_holds(whole):
    store = Store(whole)
    assert len(store) == 12
    assert (store.name, store.channels, store.resolutions) == ("set", 3, SIZES)
    assert (store.attributes, store.labels.shape) == ((), (12, 0))
    assert store.names() == list(noise_files(12))
    assert sorted([*store.split("train"), *store.split("val")]) == store.split("all").tolist()
    with pytest.raises(InputError, match="test"):
        store.split("test")
    store.verify()


def test_get_many_is_get_of_each_and_may_be_changed(whole):
    store = Store(whole)
    indices = np.array([7, 0, 7, 11])
    for resolution in SIZES:
        many = store.get_many(indices, resolution)
        assert many.dtype == np.uint8
        np.testing.assert_array_equal(many, [store.get(int(i), resolution) for i in indices])
        kept = many.copy()
        many[:] = 0
        np.testing.assert_array_equal(store.get_many(indices, resolution), kept)


@pytest.mark.parametrize("codec", ["webp", "png", "jpeg"])
def test_decoding_by_threads_changes_nothing(tmp_path, codec):
    files = {f"{i}.png": encoded(noise(i, 256, 256)) for i in range(5)}
    store = prepared(recipe_of(Memory(files)), tmp_path, codec=codec)
    indices = np.array([4, 1, 1, 0, 3])
    alone = store.get_many(indices, 256)
    np.testing.assert_array_equal(store.get_many(indices, 256, workers=3), alone)


def test_a_resolution_or_index_that_it_has_not_is_refused(whole):
    for resolution in (2, 12, 32, 1024):
        with pytest.raises(InputError, match=f"no {resolution} px: use one of 4, 8, 16"):
            Store(whole).get(0, resolution)
    for index in (-1, 12, 10**6, 2**32, 2**70):
        with pytest.raises(InputError, match=f"has no image {index}: use 0 to 11"):
            Store(whole).get(index, 4)


# From anywhere


def test_a_store_that_was_used_can_be_used_in_a_forked_child(whole):
    store = Store(whole)
    expected = hashlib.sha256(store.get(3, 16).tobytes()).hexdigest()
    ended_by, read = in_child(lambda: hashlib.sha256(store.get(3, 16).tobytes()).hexdigest())
    assert (ended_by, read) == (0, expected)
    ended_by, read = in_child(lambda: store.verify() or Store(whole).get(11, 4).shape[0])
    assert (ended_by, read) == (0, 3)
    assert hashlib.sha256(store.get(3, 16).tobytes()).hexdigest() == expected


def test_a_fork_while_another_thread_opens_a_store_does_not_hang(whole):
    def act():
        signal.alarm(5)  # ends the child if it waits for the parent's thread
        return Store(whole).get(3, 16).shape[0]

    with environments._lock:
        assert in_child(act) == (0, 3)


def test_a_store_that_was_used_can_be_pickled(whole):
    store = Store(whole)
    expected = store.get(3, 16)
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.get(3, 16), expected)
    np.testing.assert_array_equal(copy.split("val"), store.split("val"))
    assert copy.digest == store.digest


def test_a_store_can_be_closed_and_used_again_and_another_beside_it(whole):
    first, second = Store(whole), Store(whole)
    expected = first.get(3, 16)
    first.close()
    first.close()
    np.testing.assert_array_equal(second.get(3, 16), expected)
    np.testing.assert_array_equal(first.get(3, 16), expected)


def test_threads_share_a_store_from_its_first_use(whole):
    expected = Store(whole).get_many(np.arange(12), 16)
    for _ in range(10):
        store, read, start = Store(whole), {}, threading.Barrier(4)

        def use(number, store=store, read=read, start=start):
            start.wait()
            read[number] = store.get_many(np.arange(12), 16)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(read) == 4
        assert all((pixels == expected).all() for pixels in read.values())
        store.close()


@pytest.fixture
def anyones_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    for item in [path, *path.rglob("*")]:
        item.chmod(0o755)
    shutil.rmtree(path)


def test_a_read_only_set_is_read_by_one_who_may_not_write(whole, anyones_folder):
    path = Path(shutil.copytree(whole, anyones_folder / "set"))
    for item in [path, *path.rglob("*")]:
        item.chmod(0o555 if item.is_dir() else 0o444)

    def act():
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere
        store = Store(path)
        store.verify()
        return [os.access(path, os.W_OK), store.get(2, 16).tobytes().hex()]

    ended_by, answer = in_child(act)
    assert (ended_by, answer) == (0, [False, Store(whole).get(2, 16).tobytes().hex()])


def test_reading_changes_nothing_in_the_folder(path):
    def state():
        files = sorted(path.rglob("*"))
        return [(str(f), f.stat().st_mtime_ns, f.stat().st_size, f.stat().st_mode) for f in files]

    before = state()
    store = Store(path)
    store.get(0, 4)
    store.verify()
    store.close()
    assert state() == before


def test_a_set_can_be_moved(whole, path, tmp_path):
    moved = path.rename(tmp_path / "elsewhere")
    Store(moved).verify()
    np.testing.assert_array_equal(Store(moved).get(4, 16), Store(whole).get(4, 16))


@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o077, 0o700, 0o600), (0o002, 0o775, 0o664)]
)
def test_who_may_read_a_set_is_as_the_umask_says(umask, folder, file, tmp_path):
    before = os.umask(umask)
    try:
        made = prepared(recipe_of(Memory(noise_files(2)), "set"), tmp_path).path
    finally:
        os.umask(before)
    modes = {(p.is_dir(), stat.S_IMODE(p.stat().st_mode)) for p in [made, *made.rglob("*")]}
    assert modes == {(True, folder), (False, file)}


@pytest.mark.parametrize("name", ["", "manifest.json", "0008", "0008/data.mdb", "labels.npy"])
def test_what_may_not_be_read_is_refused_by_name_and_not_called_damaged(path, name, monkeypatch):
    access = os.access
    closed = path / name  # root has every right, so the answer is made

    def may(what, mode):
        return Path(what) != closed and access(what, mode)

    monkeypatch.setattr(os, "access", may)
    with pytest.raises(InputError, match=f"{closed} may not be read: ask its owner"):
        Store(path)
