"""Worker processes that read and make images for this one.

Each is a command with two pipes. Nothing is forked, so threads and locks of this process are no
matter, and neither sockets nor shared memory are needed, which some systems lack.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from pgvae.data.source import Source
from pgvae.errors import ResourceError

_TRIED = 16  # images that this process does first, to see how long one takes
_WORTH = 0.7  # seconds of work for which starting workers is worth it
_AHEAD = 2  # chunks that a worker has before it
_PIPE_BYTES = 1 << 20  # the most that Linux gives to any user
_DIED = "a worker process died, most likely out of memory: rerun with fewer --workers"


@dataclass
class _Worker:
    """A process with a copy of the source, and the numbers of the chunks it was given."""

    process: subprocess.Popen
    tasks: Connection
    results: Connection
    given: deque[int] = field(default_factory=deque)


class Crew:
    """`workers` processes that read from `source`; none is started before it is worth it.

    As a context: all end with it, and by themselves when this process ends, however it does.
    """

    def __init__(self, source: Source, workers: int, say: Callable[[str], None]) -> None:
        self._source, self._wanted, self._say = source, workers, say
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.kill()  # it only reads
            worker.process.wait()
            worker.tasks.close()
            worker.results.close()
        self._workers.clear()

    def map(
        self, work: Callable[[Source, int], Any], indices: Sequence[int], chunk: int
    ) -> Iterator[Any]:
        """`work(source, index)` of each image, in the order of `indices`, by chunks of so many.

        The result does not depend on the number of workers. Where none can be started this
        process does all, with a warning said. Raises ResourceError where one dies.
        """
        done, spent = 0, 0.0
        for done, index in enumerate(indices):
            rest = (len(indices) - done) * spent / max(done, 1)
            if done >= _TRIED and self._wanted > 1 and rest > _WORTH and self._start():
                break
            begun = time.perf_counter()
            result = work(self._source, index)
            spent += time.perf_counter() - begun
            yield result
        else:
            return
        yield from self._by_workers(work, indices[done:], chunk)

    def _start(self) -> bool:
        """Whether there are workers, started here where there are none yet."""
        if self._workers:
            return True
        try:
            for _ in range(self._wanted):
                self._workers.append(_started(self._source))
        except OSError as error:
            self.__exit__(None, None, None)
            self._wanted = 0
            reason = error.strerror or error
            self._say(
                f"warning: no worker process can be started ({reason}): this one makes all images"
            )
        return bool(self._workers)

    def _by_workers(
        self, work: Callable[[Source, int], Any], indices: Sequence[int], chunk: int
    ) -> Iterator[Any]:
        chunks = [indices[i : i + chunk] for i in range(0, len(indices), chunk)]
        found: dict[int, list] = {}
        given = returned = 0
        try:
            while returned < len(chunks):
                for worker in self._workers * _AHEAD:
                    ahead = given - returned < 2 * _AHEAD * len(self._workers)
                    if given < len(chunks) and len(worker.given) < _AHEAD and ahead:
                        worker.tasks.send((work, chunks[given]))
                        worker.given.append(given)
                        given += 1
                busy = {worker.results: worker for worker in self._workers if worker.given}
                for results in wait([*busy]):
                    found[busy[results].given.popleft()] = _checked(results.recv())
                while returned in found:
                    yield from found.pop(returned)
                    returned += 1
        except (EOFError, ConnectionError) as error:
            raise ResourceError(_DIED) from error


def _checked(answer: Any) -> list:
    """What a worker sent; raises what it raised."""
    if isinstance(answer, MemoryError):
        raise ResourceError(_DIED) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _wide_pipe() -> tuple[int, int]:
    """A pipe that holds a whole answer where the system allows that, so that no writer waits."""
    reader, writer = os.pipe()
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return reader, writer


def _started(source: Source) -> _Worker:
    """A worker process with its copy of the source; OSError where none can be started."""
    if os.name != "posix":
        raise OSError("this system hands no pipes to a new process")
    with contextlib.ExitStack() as stack:
        ends = []
        for _ in range(2):
            reader, writer = _wide_pipe()
            ends.append((Connection(reader, writable=False), Connection(writer, readable=False)))
            stack.callback(ends[-1][0].close)
            stack.callback(ends[-1][1].close)
        (tasks_out, tasks), (results, results_in) = ends
        theirs = (tasks_out.fileno(), results_in.fileno())
        home = str(Path(__file__).resolve().parents[2])
        search = os.pathsep.join([home, *(entry or str(Path.cwd()) for entry in sys.path)])
        process = subprocess.Popen(
            [sys.executable, "-m", "pgvae.data.worker", *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search},
        )
        stack.pop_all()
    tasks_out.close()
    results_in.close()
    with contextlib.suppress(ConnectionError):  # of one that is gone: the next look will tell
        tasks.send(source)
    return _Worker(process, tasks, results)
