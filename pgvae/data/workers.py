"""Images made by worker processes: read, decoded, fitted, scaled and encoded, in order."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait

from pgvae.data import images
from pgvae.data.sources import Source
from pgvae.data.store import crc_of
from pgvae.data.writer import Made
from pgvae.errors import ResourceError

RAW_UP_TO = 128
_CHUNK = 16  # images a worker makes at a time
_FEW = 64  # images for which starting workers is not worth it


@dataclass(frozen=True)
class Job:
    """What a worker needs to make any of the images; fields as in `prepare.Options`."""

    source: Source
    resolution: int
    crop: images.Crop
    channels: int
    codec: str
    upscale: bool

    def make(self, index: int) -> Made:
        """Read one image and encode its pyramid."""
        try:
            data = self.source.read(index)
            decoded = data if isinstance(data, images.Decoded) else images.decode(data)
            image = images.fit(decoded.image, self.resolution, self.crop, upscale=self.upscale)
        except images.RejectError as error:
            return Made(index, reason=str(error))
        except OSError as error:
            return Made(index, reason=error.strerror or str(error))
        levels = images.pyramid(images.to_pixels(image, self.channels))
        records = {}
        for level in levels:
            payload = images.encode_pixels(level, codec_at(level.shape[-1], self.codec))
            records[level.shape[-1]] = crc_of(payload) + payload
        width, height = decoded.image.size
        return Made(
            index,
            records,
            note=decoded.note,
            square=width == height,
            pixels=hashlib.sha256(levels[0].tobytes()).digest(),
            content=hashlib.sha256(decoded.image.tobytes() if data is decoded else data).digest(),
        )


def codec_at(resolution: int, codec: str) -> str:
    """Raw up to 128 px, `codec` above."""
    return "raw" if resolution <= RAW_UP_TO else codec


def made_in_order(
    job: Job, indices: range, workers: int, say: Callable[[str], None] = print
) -> Iterator[Made]:
    """Images of the source, made by `workers` processes, in the order of `indices`.

    The result does not depend on the number of workers. Where none can be started this process
    does all, with a warning said. Raises ResourceError where one dies.
    """
    pool = _started(job, workers, say) if workers > 1 and len(indices) >= _FEW else None
    if pool is None:
        yield from map(job.make, indices)
        job.source.close()
        return
    chunks = (indices[i : i + _CHUNK] for i in range(0, len(indices), _CHUNK))
    try:
        waiting: deque = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_make_chunk, chunk))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "a worker process died, most likely out of memory: rerun with fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _started(job: Job, workers: int, say: Callable[[str], None]) -> ProcessPoolExecutor | None:
    """A pool that has its first worker; None where the system has no room for sockets or locks."""
    # Forking would copy the threads' locks; a fork server imports once, before any thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pgvae.data.workers"])
    try:
        pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(job,))
        pool.submit(_make_chunk, range(0))
    except OSError as error:  # a long TMPDIR, a /dev/shm that is missing or read-only, ...
        reason = error.strerror or error
        say(f"warning: no worker process can be started ({reason}): this one makes all images")
        return None
    return pool


_job: Job | None = None


def _start(job: Job) -> None:
    """In a worker: keep the job, and end with the process that started it, however that ends."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _make_chunk(chunk: range) -> list[Made]:
    assert _job is not None
    return [_job.make(index) for index in chunk]
