"""Images are the same from workers and without; where none can be started one process does all."""

import contextlib
import errno
import os
import subprocess
import threading
import time
from multiprocessing.connection import Connection

import pytest
from making import Memory, left_in, noise_files, prepared, recipe_of, workers_at_once

from pgvae.data import workers
from pgvae.data.workers import Crew
from pgvae.errors import ResourceError


def refused(number: int):
    def start(*_, **__):
        raise OSError(number, os.strerror(number))

    return start


@pytest.fixture(autouse=True)
def any_work_is_worth_it(monkeypatch):
    workers_at_once(monkeypatch)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_without_processes_this_process_makes_all(tmp_path, monkeypatch, number):
    source, said = Memory(noise_files(70)), []
    digest = prepared(recipe_of(source), tmp_path / "alone").digest
    monkeypatch.setattr(subprocess, "Popen", refused(number))
    store = prepared(recipe_of(source), tmp_path / "root", workers=2, said=said)
    assert store.digest == digest
    assert [os.strerror(number) in line for line in said if line.startswith("warning")] == [True]
    assert left_in(tmp_path / "root") == ["set"]


def number_of(source: Memory, index: int) -> tuple[int, int]:
    return index, os.getpid()


def test_work_comes_back_in_order_from_several_processes():
    said: list[str] = []
    with Crew(Memory({}), 3, said.append) as crew:
        found = [*crew.map(number_of, range(500), chunk=7)]
        again = [*crew.map(number_of, [9] * 40, chunk=1)]
    assert [index for index, _ in found] == [*range(500)]
    assert len({pid for _, pid in found}) > 2
    assert {index for index, _ in again} == {9}
    assert said == []


class Large:
    """Work that knows more than a pipe holds, and counts how often it is packed."""

    packed = 0

    def __init__(self) -> None:
        self.known = bytes(1 << 20)

    def __getstate__(self) -> dict:
        Large.packed += 1
        return self.__dict__

    def __call__(self, source: Memory, index: int) -> tuple[int, bytes]:
        return len(self.known) + index, bytes(1 << 17)


def test_work_that_knows_much_is_sent_once_for_all_chunks():
    with Crew(Memory({}), 2, print) as crew:
        found = [number for number, _ in crew.map(Large(), range(80), chunk=1)]
    assert found == [(1 << 20) + index for index in range(80)]
    assert Large.packed == 1


def test_little_work_is_done_by_this_process(monkeypatch):
    monkeypatch.setattr("pgvae.data.workers._WORTH", 60)
    with Crew(Memory({}), 3, print) as crew:
        assert {pid for _, pid in crew.map(number_of, range(500), chunk=7)} == {os.getpid()}


def test_workers_may_be_started_before_there_is_work_and_once(monkeypatch):
    started = workers._started
    calls: list[int] = []
    monkeypatch.setattr(workers, "_started", lambda count: calls.append(count) or started(count))
    with Crew(Memory({}), 2, print) as crew:
        crew.start()
        crew.start()
        found = [*crew.map(number_of, range(500), chunk=7)]
    assert calls == [2]
    assert [index for index, _ in found] == [*range(500)]
    with Crew(Memory({}), 1, print) as alone:
        alone.start()
    assert calls == [2]


def raise_at_30(source: Memory, index: int) -> int:
    if index == 30:
        raise ValueError("at 30")
    return index


def run_out_of_memory(source: Memory, index: int) -> int:
    if index >= 16:
        raise MemoryError
    return index


def test_what_a_worker_raises_is_raised_here():
    with Crew(Memory({}), 2, print) as crew, pytest.raises(ValueError, match="at 30"):
        [*crew.map(raise_at_30, range(60), chunk=4)]
    with Crew(Memory({}), 2, print) as crew, pytest.raises(ResourceError, match="out of memory"):
        [*crew.map(run_out_of_memory, range(60), chunk=4)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_pipe_is_open_as_long_as_the_source_is_sent_through_it(error, monkeypatch):
    """Else the thread that sends would end with a traceback after an interrupt."""
    crew, closed, send = Crew(Memory({}), 2, print), [], workers._send

    def sent_slowly(to: Connection, packed: object) -> None:
        send(to, packed)
        while crew._process is None or crew._process.poll() is None:
            time.sleep(0.01)
        closed.append(to.closed)

    monkeypatch.setattr(workers, "_send", sent_slowly)
    with contextlib.suppress(error), crew:
        for _ in crew.map(number_of, range(500), chunk=7):
            if crew._process is not None:
                raise error
    for thread in {*threading.enumerate()} - {threading.current_thread()}:
        thread.join(30)
    assert closed == [False]


def test_a_temporary_folder_of_any_length_will_do(tmp_path, monkeypatch):
    deep = tmp_path / "/".join(["scratch-of-a-job"] * 8)
    deep.mkdir(parents=True)
    assert len(str(deep)) > 108  # bytes of a socket's address
    monkeypatch.setenv("TMPDIR", str(deep))
    said: list[str] = []
    store = prepared(recipe_of(Memory(noise_files(70))), tmp_path, workers=2, said=said)
    assert (len(store), said) == (70, [])
