"""Worker processes that read and make images for this one.

They are a command (`worker`) with two pipes and a file in memory for each. This process is not
forked, so its threads and locks are no matter, and neither sockets nor /dev/shm are needed, which
some systems lack.
"""

import contextlib
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import TracebackType
from typing import Any

from pgvae.data.source import Source
from pgvae.data.worker import SLOT_BYTES
from pgvae.errors import ResourceError

_TRIED = 16  # images that this process does first, to see how long one takes
_WORTH = 0.7  # seconds of work for which starting workers is worth it
_SLOTS = 4
_DIED = "a worker process died, most likely out of memory: rerun with fewer --workers"

Work = Callable[[Source, int], Any]


@dataclass
class _Worker:
    """A process with a copy of the source.

    given: number and slot of each of its chunks without an answer. free: slots without a chunk.
    """

    tasks: Connection
    results: Connection
    memory: memoryview
    given: deque[tuple[int, int]] = field(default_factory=deque)
    free: list[int] = field(default_factory=lambda: [*range(_SLOTS)])
    ready: bool = False

    def give(self, number: int, indices: Sequence[int]) -> None:
        """Have it do a chunk. This is small: a pipe holds all that wait, whatever the answers."""
        slot = self.free.pop()
        self.tasks.send((indices, slot))
        self.given.append((number, slot))

    def answer(self) -> tuple[int, int, list]:
        """Number, slot and results of the chunk that is done; raises what was raised there."""
        number, slot = self.given.popleft()
        found = self.results.recv()
        if isinstance(found, MemoryError):
            raise ResourceError(_DIED) from found
        if isinstance(found, Exception):
            raise found
        part = self.memory[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
        return number, slot, [f.taken(part) if hasattr(f, "taken") else f for f in found]

    def is_ready(self) -> bool:
        """Whether it has begun, or has ended."""
        if not self.ready and self.results.poll():
            self.ready = True
            with contextlib.suppress(EOFError, ConnectionError):  # its answer will tell
                self.results.recv()
        return self.ready

    def close(self) -> None:
        """Have it end: its next look at the pipes tells it."""
        self.tasks.close()
        self.results.close()


class Crew:
    """`workers` processes that read from `source`; none is started before it is worth it.

    As a context: all end with it, and by themselves when this process ends, however it does.
    """

    def __init__(self, source: Source, workers: int, say: Callable[[str], None]) -> None:
        self._source, self._wanted, self._say = source, workers, say
        self._workers: list[_Worker] = []
        self._process: subprocess.Popen | None = None
        self._sender: threading.Thread | None = None  # of the source, to the first worker

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._process is not None and kind is not None:
            self._process.kill()  # it only reads, and so do those that it forked
        if self._sender is not None:
            self._sender.join()
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        if self._process is not None:
            self._process.wait()

    def start(self) -> None:
        """Start the workers before it is known how long an image takes: there are many."""
        if self._wanted < 2 or self._workers:
            return
        try:
            self._process, self._workers = _started(self._wanted)
        except OSError as error:
            self._wanted = 0
            self._say(
                f"warning: no worker process can be started ({error.strerror or error}): this "
                "one makes all images"
            )
            return
        packed = ForkingPickler.dumps(self._source)
        # Beside: names of many images are more than a pipe holds before it is read.
        self._sender = threading.Thread(
            target=_send, args=(self._workers[0].tasks, packed), daemon=True
        )
        self._sender.start()

    def map(self, work: Work, indices: Sequence[int], chunk: int) -> Iterator[Any]:
        """`work(source, index)` of each image, in the order of `indices`, by chunks of so many.

        This process begins, and goes on until the workers are there; where none can be started
        it does all, with a warning said. Results do not depend on who made them; each is to be
        used before the next is asked for. Raises ResourceError where a worker dies.
        """
        spent = 0.0
        for done, index in enumerate(indices):
            rest = (len(indices) - done) * spent / max(done, 1)
            worth = self._wanted > 1 and (bool(self._workers) or rest > _WORTH)
            if done >= _TRIED and worth and self._are_ready():
                yield from self._by_workers(work, indices[done:], chunk)
                return
            begun = time.perf_counter()
            result = work(self._source, index)
            spent += time.perf_counter() - begun
            yield result

    def _are_ready(self) -> bool:
        """Whether all workers are there; they are started where they are not yet."""
        self.start()
        starting = [worker for worker in self._workers if not worker.is_ready()]
        return bool(self._workers) and not starting

    def _by_workers(self, work: Work, indices: Sequence[int], chunk: int) -> Iterator[Any]:
        chunks = deque(enumerate(indices[i : i + chunk] for i in range(0, len(indices), chunk)))
        found: dict[int, tuple[_Worker, int, list]] = {}
        due, last = 0, len(chunks)
        packed = ForkingPickler.dumps(work)  # once: it may know of all images of a set
        try:
            for worker in self._workers:
                worker.tasks.send_bytes(packed)
            while due < last:
                for worker in self._workers * _SLOTS:
                    if chunks and worker.free:
                        worker.give(*chunks.popleft())
                busy = {worker.results: worker for worker in self._workers if worker.given}
                for results in wait([*busy]):
                    number, slot, answer = busy[results].answer()
                    found[number] = busy[results], slot, answer
                while due in found:
                    worker, slot, answer = found.pop(due)
                    yield from answer
                    worker.free.append(slot)
                    due += 1
        except (EOFError, ConnectionError) as error:
            raise ResourceError(_DIED) from error


def _started(count: int) -> tuple[subprocess.Popen, list[_Worker]]:
    """The first of so many processes, and all of them; OSError where none can be started."""
    if os.name != "posix":
        raise OSError("this system hands no pipes to a new process")
    theirs: list[int] = []
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            ours, ends = _ends()
            workers.append(ours)
            theirs += ends
        home = str(Path(__file__).resolve().parents[2])
        search = os.pathsep.join([home, *(entry or str(Path.cwd()) for entry in sys.path)])
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # none that a fork loses
        process = subprocess.Popen(
            [sys.executable, "-m", "pgvae.data.worker", *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **threads, "PYTHONPATH": search},
        )
    except OSError:
        for worker in workers:
            worker.close()
        raise
    finally:
        for end in theirs:
            os.close(end)
    return process, workers


def _send(to: Connection, packed: Any) -> None:
    with contextlib.suppress(OSError):  # of a worker that is gone: its answer will tell
        to.send_bytes(packed)


def _ends() -> tuple[_Worker, list[int]]:
    """What this process has of a worker, and the three open files that the worker has."""
    (tasks_out, tasks), (results, results_in) = os.pipe(), os.pipe()
    if hasattr(os, "memfd_create"):  # a file that is only in memory
        memory = os.memfd_create("pgvae")
    else:
        memory, path = tempfile.mkstemp()
        Path(path).unlink()
    os.truncate(memory, _SLOTS * SLOT_BYTES)
    ours = _Worker(
        Connection(tasks, readable=False),
        Connection(results, writable=False),
        memoryview(mmap.mmap(memory, _SLOTS * SLOT_BYTES)),
    )
    return ours, [tasks_out, results_in, memory]
