"""Processes that work on images for another one: `python -m pgvae.data.worker`, see `workers`.

Three open files for each are named: tasks, results, memory. The first process reads the source and
imports what is needed, then forks the others: so that is done once, and kept in memory once.
"""

import contextlib
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from pgvae import tuning
from pgvae.data import making

SLOT_BYTES = 4 << 20  # of memory that an answer may use


def serve(source: Any, tasks: Connection, results: Connection, memory: memoryview) -> None:
    """Do what comes until the other process ends: a function, and then indices for it.

    These name a slot of the memory too, where what has much to say (`making.Made`) puts it.
    """
    results.send("ready")
    work: Any = None
    while True:
        task = tasks.recv()
        if callable(task):
            work = task
            continue
        indices, slot = task
        try:
            part = memory[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
            answer: Any = _put([work(source, index) for index in indices], part)
        except Exception as error:
            answer = error
        results.send(answer)


def _put(answer: list, memory: memoryview) -> list:
    at, done = 0, []
    for item in answer:
        if isinstance(item, making.Made):
            item, at = item.put(memory, at)
        done.append(item)
    return done


def main(files: Sequence[int]) -> None:
    """Become as many processes as there are files for."""
    mine, *others = [files[i : i + 3] for i in range(0, len(files), 3)]
    source = Connection(os.dup(mine[0]), writable=False).recv()
    for i, other in enumerate(others):
        if os.fork() == 0:
            mine, others = other, [mine, *others[:i], *others[i + 1 :]]
            break
    for handle in (handle for other in others for handle in other):
        os.close(handle)  # else nobody would see the end of that process
    tasks, results = Connection(mine[0], writable=False), Connection(mine[1], readable=False)
    serve(source, tasks, results, memoryview(mmap.mmap(mine[2], 0)))


if __name__ == "__main__":
    tuning.keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process to handle
    try:
        main([*map(int, sys.argv[1:])])
    except (EOFError, OSError):  # the other process is gone, or needs no more
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        os._exit(0)
