"""Images are the same from workers and without; where none can be started one process does all."""

import errno
import os
from concurrent.futures import ProcessPoolExecutor

import pytest
from making import Memory, left_in, noise_files, prepared, recipe_of, write_files

import pgvae.data.workers


def refused(number: int):
    def start(*_, **__):
        raise OSError(number, os.strerror(number))

    return start


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOENT, errno.ENOSPC, errno.EACCES])
def test_without_shared_memory_this_process_makes_all(tmp_path, monkeypatch, number):
    source, said = Memory(noise_files(70)), []
    digest = prepared(recipe_of(source), tmp_path / "alone").digest
    monkeypatch.setattr(pgvae.data.workers, "ProcessPoolExecutor", refused(number))
    store = prepared(recipe_of(source), tmp_path / "root", workers=2, said=said)
    assert store.digest == digest
    assert [os.strerror(number) in line for line in said if line.startswith("warning")] == [True]


def test_without_processes_this_process_makes_all(tmp_path, monkeypatch):
    monkeypatch.setattr(ProcessPoolExecutor, "submit", refused(errno.EAGAIN))
    said = []
    store = prepared(recipe_of(Memory(noise_files(70))), tmp_path, workers=2, said=said)
    assert len(store) == 70
    assert any("no worker process can be started" in line for line in said)
    assert left_in(tmp_path) == ["set"]


def test_a_temporary_folder_of_any_length_will_do(tmp_path, command, monkeypatch):
    path = write_files(tmp_path / "in", noise_files(70))
    deep = tmp_path / "/".join(["scratch-of-a-job"] * 8)
    deep.mkdir(parents=True)
    assert len(str(deep)) > 108  # bytes of a socket's address
    monkeypatch.setenv("TMPDIR", str(deep))
    done = command("data", "prepare", path, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "no worker process can be started (AF_UNIX path too long)" in done.stdout
    assert "70 images" in done.stdout
