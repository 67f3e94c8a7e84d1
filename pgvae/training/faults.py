"""How a run ends that does not come to its end: in a line, and in its status.json."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from pgvae.errors import PgvaeError, Preempted, ResourceError, is_out_of_memory
from pgvae.files import disk_errors, path_of
from pgvae.training.rundir import RunDirectory
from pgvae.training.state import TrainState


@contextlib.contextmanager
def told_errors(state: TrainState, run: RunDirectory) -> Iterator[None]:
    """Say in status.json how a run ended that did not come to its end.

    Turns a full disk, files that can not be read or written, and a full memory into ResourceError.
    """
    try:
        with _memory_errors(state), _file_errors(run.path), disk_errors(run.path):
            yield
    except BaseException as error:
        code = error.exit_code if isinstance(error, PgvaeError) else 1
        name = "preempted" if isinstance(error, Preempted) else "failed"
        with contextlib.suppress(PgvaeError, OSError):
            if state.ranks.index == 0:
                run.write_status(name, code, state.images_seen, str(error))
        raise


@contextlib.contextmanager
def _file_errors(run_dir: Path) -> Iterator[None]:
    """Turn what a drive that fails, is gone or became read-only raises into a ResourceError."""
    try:
        yield
    except OSError as error:
        where = path_of(error) or run_dir
        raise ResourceError(
            f"cannot go on, {where}: {error.strerror or error}; see to it, then `python train.py "
            f"--resume {shlex.quote(str(run_dir))}` goes on from its newest checkpoint"
        ) from error


@contextlib.contextmanager
def _memory_errors(state: TrainState) -> Iterator[None]:
    """Turn running out of memory into a ResourceError that says how to go on."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # CUDA's OutOfMemoryError is a RuntimeError
        if is_out_of_memory(error):
            moment = state.config.schedule.at(state.images_seen)
            raise ResourceError(
                f"out of memory at {moment.resolution} px with batch {moment.batch_size}: go on "
                "with --resume and " + _less_at_once(state, moment.batch_size)
            ) from error
        raise


def _less_at_once(state: TrainState, batch: int) -> str:
    """What to do where memory does not hold what it has to."""
    at_once = min(state.batch_gpu or batch, -(-batch // state.ranks.count))
    model = state.config.model
    if model.has_batch_norm or at_once <= model.images_together:
        return f"a smaller --batch, such as {max(1, batch // 2)}"
    return f"--batch-gpu {-(-at_once // 2)}"
