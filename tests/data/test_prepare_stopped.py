"""A preparation that is stopped half-way leaves nothing that could be taken for a set."""

import errno
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from making import (
    Memory,
    in_child,
    kill_self,
    left_in,
    noise_files,
    prepared,
    recipe_of,
    workers_at_once,
    write_files,
)

import pgvae.data.prepare
import pgvae.data.writer
from pgvae.data import Store, prepared_in
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError, ResourceError


@pytest.mark.parametrize(
    ("error", "met", "words"),
    [
        (KeyboardInterrupt, KeyboardInterrupt, None),
        (MemoryError, MemoryError, None),
        (OSError(5, "disk"), ResourceError, "set: disk; see to the drive and rerun"),
        (OSError(28, "full"), ResourceError, r"disk full while writing .*set.* bytes free"),
    ],
)
def test_an_error_half_way_leaves_nothing(tmp_path, error, met, words, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(pgvae.data.writer, "fsync", fail)
    with pytest.raises(met, match=words):
        prepared(recipe_of(Memory(noise_files(3))), tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        lmdb.Error("mdb_txn_commit: Input/output error"),
        OSError("1200000 requested and 781280 written"),
    ],
    ids=["lmdb", "numpy"],
)
@pytest.mark.parametrize("full", [True, False])
def test_a_write_cut_short_is_a_full_disk_where_it_is_full(tmp_path, error, full, monkeypatch):
    def fail(*_):
        if full:
            monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
        raise error

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pgvae.data.writer, "fsync", fail)
    words = r"disk full while writing .*set: [\d,]+ bytes free" if full else f"set: {error}; see to"
    with pytest.raises(ResourceError, match=words):
        prepared(recipe_of(Memory(noise_files(3))), tmp_path)
    assert left_in(tmp_path) == []


def test_a_file_that_may_not_grow_is_a_line_that_says_so(tmp_path):
    def act():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            prepared(recipe_of(Memory(noise_files(40, size=64))), tmp_path)
        except ResourceError as error:
            return str(error)

    ended_by, said = in_child(act)
    assert ended_by == 0
    assert "set.tmp cannot be written" in said
    assert "the size that files may have" in said
    assert left_in(tmp_path) == []


def test_too_few_addresses_are_a_line_that_says_so(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise lmdb.MemoryError("Cannot allocate memory")

    whole = prepared(recipe_of(Memory(noise_files(3))), tmp_path / "whole")
    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(ResourceError, match=r"0004 needs [\d,]+ bytes of address space.*ulimit -v"):
        prepared(recipe_of(Memory(noise_files(3))), tmp_path)
    with pytest.raises(ResourceError, match=r"data\.mdb needs [\d,]+ bytes of address space"):
        whole.get(0, 4)


def kill_at_40(index: int) -> None:
    if index >= 40:
        kill_self()


def test_a_worker_that_dies_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    workers_at_once(monkeypatch)
    recipe = recipe_of(Memory(noise_files(66), kill_at_40))
    with pytest.raises(ResourceError, match="worker process died"):
        prepared(recipe, tmp_path, resolution=16, workers=2)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("call", [0, 1, 5, 8, 9, 10, 11])
def test_a_kill_while_flushing_leaves_nothing_visible(tmp_path, call):
    recipe = recipe_of(Memory(noise_files(3)))
    digest = prepared(recipe, tmp_path / "whole").digest

    def act():
        calls = iter(range(100))
        flush = pgvae.data.writer.fsync

        def fsync(path):
            if next(calls) == call:
                kill_self()
            flush(path)

        pgvae.data.writer.fsync = pgvae.data.prepare.fsync = fsync
        prepared(recipe, tmp_path / "root")

    ended_by, _ = in_child(act)
    assert ended_by == signal.SIGKILL
    visible = prepared_in(tmp_path / "root")
    assert visible in ([], ["set"])
    if visible:  # killed while the rename itself was flushed: it is whole
        Store(tmp_path / "root" / "set").verify()
    assert prepared(recipe, tmp_path / "root", force=True).digest == digest
    assert left_in(tmp_path / "root") == ["set"]


@pytest.mark.parametrize("rename", [0, 1])
def test_a_kill_while_replacing_loses_neither_set(tmp_path, rename):
    old = prepared(recipe_of(Memory(noise_files(3))), tmp_path).digest
    recipe = recipe_of(Memory(noise_files(3, seed=1)))

    def act():
        calls, plain = iter(range(100)), Path.rename

        def renamed(self, target):
            if next(calls) == rename:
                kill_self()
            return plain(self, target)

        Path.rename = renamed
        prepared(recipe, tmp_path, force=True)

    ended_by, _ = in_child(act)
    assert ended_by == signal.SIGKILL
    with pytest.raises(InputError):  # of another preparation, which fails: the old one is back
        prepared(recipe_of(Memory({"text.jpg": b"text"})), tmp_path, force=True)
    assert Store(tmp_path / "set").digest == old
    assert left_in(tmp_path) == ["set"]


def started(path: Path, root: Path, workers: int) -> subprocess.Popen:
    """A process that prepares `path` as `set` and has begun to write."""
    line = [sys.executable, "-m", "pgvae", "data", "prepare", path, "--name", "set"]
    process = subprocess.Popen(
        [*map(str, line), "--data-root", str(root), "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for((root / "set.tmp").exists)
    return process


def wait_for(event: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < until
        time.sleep(0.002)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and that those did."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:  # it has just ended
        return []
    return [d for child in map(int, text.split()) for d in (child, *descendants(child))]


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"  # ended, and not yet buried


def test_no_worker_outlives_a_killed_preparation(tmp_path):
    path = write_files(tmp_path / "in", noise_files(600, size=256))
    with started(path, tmp_path / "root", workers=2) as process:
        wait_for(lambda: len(descendants(process.pid)) >= 2)
        started_by_it = descendants(process.pid)
        process.kill()
    wait_for(lambda: not any(map(is_running, started_by_it)), seconds=10)


def kill_while_preparing(tmp_path: Path, delays: list[float]) -> int:
    """Kill `data prepare` so long after its first file; how many kills met it at work."""
    path = write_files(tmp_path / "in", noise_files(400, size=64))
    digest = prepared(folder("set", path, Split()), tmp_path / "whole").digest
    root, killed = tmp_path / "root", 0
    for delay in delays:
        with started(path, root, workers=0) as process:
            time.sleep(delay)
            process.kill()
        if (root / "set").exists():  # it had finished, or had only to end
            Store(root / "set").verify()
        else:
            assert process.returncode == -signal.SIGKILL
            assert prepared_in(root) == []
            killed += 1
        assert prepared(folder("set", path, Split()), root, force=True).digest == digest
        assert left_in(root) == ["set"]
        for file in sorted((root / "set").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (root / "set").rmdir()
    return killed


def test_a_killed_preparation_shows_nothing_and_its_rerun_is_the_same(tmp_path):
    assert kill_while_preparing(tmp_path, [0.0, 0.1]) == 2


@pytest.mark.slow
def test_twenty_killed_preparations_show_nothing_and_rerun_the_same(tmp_path):
    delays = np.random.default_rng(0).uniform(0, 0.4, 20)
    assert kill_while_preparing(tmp_path, delays.tolist()) >= 5
