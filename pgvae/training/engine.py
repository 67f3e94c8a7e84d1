"""The training loop."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pgvae import ops
from pgvae.config import Precision, RunConfig
from pgvae.data import Loader, Store
from pgvae.errors import PgvaeError, Preempted, ResourceError
from pgvae.files import disk_errors
from pgvae.objectives import Objective, objective_from
from pgvae.schedule import Schedule
from pgvae.snapshot import Snapshot
from pgvae.training.checkpoint import load_newest
from pgvae.training.compiled import Compiler
from pgvae.training.describe import settings_lines
from pgvae.training.graphs import Graphs, graphs_on
from pgvae.training.ranks import ALONE, Ranks
from pgvae.training.record import Bystander, Record
from pgvae.training.rundir import RunDirectory
from pgvae.training.state import TrainState
from pgvae.training.step import is_out_of_memory, resolve_precision, train_step

CHECKPOINT_SECONDS = 600.0
CHECK_ITERATIONS = 10  # between two looks at whether updates were finite
_ECHO_SECONDS = 2.0  # in which a second SIGTERM is the first one's
_STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # Windows has the first two
_EARLY_IMAGES = (4_000, 16_000, 64_000, 256_000)  # of the first snapshots: a picture comes soon


@dataclass
class StopFlag:
    """Whether a signal asked the run to stop."""

    requested: bool = False


@contextlib.contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """A signal to stop sets the flag, once; a second one stops the process at once.

    But for a SIGTERM that comes within two seconds: torchrun and queues send it to a process and
    to those that it started, which hand it on.

    SIGINT and SIGTERM; SIGHUP, where it is not ignored (nohup), as the terminal is gone; SIGUSR1
    and SIGUSR2, which queues send before their time limit.
    """
    flag = StopFlag()
    there = [getattr(signal, name) for name in _STOPS if hasattr(signal, name)]
    numbers = [
        number
        for number in there
        if number.name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN
    ]

    def handle(number: int, _frame: object) -> None:
        flag.requested = True
        first = time.monotonic()

        def again(number: int, _frame: object) -> None:
            if time.monotonic() - first > _ECHO_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        # Not what was there before: a shell has a background job ignore SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, again)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    config: RunConfig,
    store: Store,
    run: RunDirectory,
    device: torch.device,
    *,
    workers: int = 0,
    batch_gpu: int | None = None,
    compiled: bool = False,
    graphs: bool = False,
    recompute: bool = False,
    initial: Snapshot | None = None,
    inception_weights: Path | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Train to the end of the schedule, from the run's newest checkpoint where it has one.

    batch_gpu: most images that a process works through at a time.
    compiled, graphs: whether the networks go through torch.compile, and iterations are captured.
    recompute: whether to keep no activations from 512 px on (`TrainState.recompute`).
    initial: weights to start a new run from. inception_weights: for the metrics FID and KID.
    ranks: the processes that train it together, each of which calls this.
    Raises Preempted, with all saved, after a signal to stop; ResourceError when numbers stop
    being finite, or the disk or the memory is full.
    """
    objective = objective_from(config.objective)
    precision = resolve_precision(config.precision, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    notes: list[str] = []  # what there is to say before there is a log
    if not run.is_guarded:
        notes.append(f"warning: no locks on this drive: start no second process in {run.path}")
    state = load_newest(run.path, config, device, notes.append) or _first(config, device, initial)
    if ranks.told(state.images_seen) != state.images_seen:
        raise ResourceError(
            f"{run.path}: processes read different checkpoints, this one {state.images_seen:,} "
            "images: is the run on a disk that all of them see?"
        )
    state.ranks, state.batch_gpu = ranks, batch_gpu
    if recompute:
        state.recompute()
    if ranks.index == 0:
        record = Record(config, store, run, device, state.images_seen, inception_weights)
    else:
        record = Bystander()
    loader = Loader(
        store,
        seed=config.seed,
        mirror=config.mirror,
        labels=config.labels,
        workers=workers,
        device=device,
        part=(ranks.index, ranks.count),
    )
    say, schedule = record.log.say, config.schedule
    for line in [*notes, *settings_lines(config)]:
        say(line)
    where = f"on {device}, {precision}, {ops.native.on(device)}"
    if ranks.count > 1:
        where += f", {ranks.count} processes"
    say(f"{run.path}: at {state.images_seen / 1000:g} of {schedule.total_kimg:g} kimg, {where}")
    ends_early = _ends_early(schedule)
    compiler = Compiler(say) if compiled else None
    captured = graphs_on(device, ranks.count, say) if graphs else None
    try:
        with stop_signals() as stop, disk_errors(run.path), _memory_errors(state):
            for line in ends_early:
                say(line)
            record.status("running", state.images_seen)
            _loop(state, objective, loader, precision, record, stop, compiler, captured)
        for line in [f"done: {state.images_seen / 1000:g} kimg in {run.path}", *ends_early]:
            say(line)
        record.status("done", state.images_seen)
        _leave(ranks)
    except BaseException as error:
        code = error.exit_code if isinstance(error, PgvaeError) else 1
        name = "preempted" if isinstance(error, Preempted) else "failed"
        with contextlib.suppress(PgvaeError, OSError):
            record.status(name, state.images_seen, code, str(error))
        if isinstance(error, Preempted):
            _leave(ranks)
        raise
    finally:
        loader.close()
        record.log.close()


def _leave(ranks: Ranks) -> None:
    """Once rank 0 has said how it went: torchrun ends all as soon as one ends with a code."""
    with contextlib.suppress(ResourceError):
        ranks.any(False)


def _loop(
    state: TrainState,
    objective: Objective,
    loader: Loader,
    precision: Precision,
    record: Record,
    stop: StopFlag,
    compiler: Compiler | None,
    graphs: Graphs | None,
) -> None:
    schedule = state.config.schedule
    tick_images = min(4000, max(1, schedule.total_images // 100))
    snapshot_images = max(1, round(state.config.snapshot_kimg * 1000))
    metric_images = max(1, round(state.config.metric_kimg * 1000))
    ranks = state.ranks
    start = saved = before = state.images_seen
    measured = ranks.told(record.log.measured if state.config.metrics else math.inf)
    saved_time, iterations = time.monotonic(), 0
    moment = schedule.at(start)
    if moment.resolution > state.resolution:  # resumed where a stage ends
        moment = schedule.at(start - 1)
        measured = max(measured, start)  # which is not measured now

    while True:
        # One answer for all that follows, and for all processes.
        late = time.monotonic() - saved_time > CHECKPOINT_SECONDS
        stopping, late = ranks.any(stop.requested, late)
        now = state.images_seen
        upcoming = schedule.at(now)
        done = now >= schedule.total_images
        stage_ends = done or upcoming.resolution > state.resolution
        due = stage_ends or stopping or _is_picture_due(before, now, snapshot_images)

        # Say how it goes, save it, look at it.
        if now > start and (done or stopping or _crossed(before, now, tick_images)):
            record.tick(state, moment)
        measures = now > measured and (done or _crossed(measured, now, metric_images))
        if now > saved and (due or late or measures):
            record.save(state)
            saved, saved_time = now, time.monotonic()
        if due and (now > start or (now > 0 and not record.has_shown(state))):
            record.show(state, moment)
        if measures:  # once all is saved: it may take minutes
            record.judge(state, moment)
            measured = now
        if due or late or measures:
            ranks.meet()
        if done:
            return
        if stopping:
            raise Preempted(
                f"stopped at {now:,} images and saved: `python train.py --resume {record.path}` "
                "goes on"
            )

        # Grow where it is time, then learn from one batch.
        moment, before = upcoming, now
        state.enter(moment)
        batch = loader.batch(now, moment.batch_size, moment.resolution, moment.alpha)
        at_once = state.batch_gpu
        take = graphs.step if graphs else train_step
        with compiler.around(state.nets) if compiler else contextlib.nullcontext():
            scalars = take(state, objective, moment, batch, precision)
        if state.batch_gpu != at_once:
            record.log.say(
                f"out of memory at {moment.resolution} px: from here on {state.batch_gpu} images "
                f"at a time; the batch is still of {moment.batch_size}"
            )
        iterations += 1
        if iterations % CHECK_ITERATIONS == 0:
            state.skips.read()
        record.log.step(scalars, state.images_seen, moment)


def _crossed(before: int, now: int, interval: int) -> bool:
    """Whether a multiple of `interval` lies in (before, now]."""
    return now // interval > before // interval


def _is_picture_due(before: int, now: int, interval: int) -> bool:
    """Whether a snapshot falls in (before, now]: every `interval` images, and some early ones."""
    early = any(before < images <= now for images in _EARLY_IMAGES if images < interval)
    return early or _crossed(before, now, interval)


def _ends_early(schedule: Schedule) -> list[str]:
    """A warning where the run ends before it has grown."""
    never = schedule.never_reached()
    if not never:
        return []
    last = schedule.at(schedule.total_images - 1).resolution
    missed = " and ".join(map(str, never))
    return [
        f"warning: {schedule.total_kimg:g} kimg end at {last} px: {missed} px are never reached; "
        "use a smaller --kimg-per-stage or a larger --total-kimg"
    ]


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
    if state.config.model.has_batch_norm or at_once == 1:
        return f"a smaller --batch, such as {max(1, batch // 2)}"
    return f"--batch-gpu {-(-at_once // 2)}"


def _first(config: RunConfig, device: torch.device, initial: Snapshot | None) -> TrainState:
    """The state of a new run: fresh weights, or those of a snapshot."""
    if initial is None:
        return TrainState.create(config, device, config.schedule.at(0).resolution)
    state = TrainState.create(config, device, initial.nets.generator.resolution)
    for part, source in initial.nets.parts().items():
        source.finish_fade()
        state.nets.parts()[part].load_state_dict(source.state_dict())
    return state
