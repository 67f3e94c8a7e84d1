"""The training loop."""

import contextlib
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pgvae import ops, tuning
from pgvae.choices import TrackerKind
from pgvae.config import Precision, RunConfig
from pgvae.data import Loader, Store
from pgvae.errors import NotFiniteError, Preempted, ResourceError
from pgvae.objectives import Objective, objective_from
from pgvae.schedule import Schedule
from pgvae.snapshot import Snapshot
from pgvae.training.checkpoint import load_newest
from pgvae.training.compiled import Compiler
from pgvae.training.describe import settings_lines
from pgvae.training.faults import told_errors
from pgvae.training.graphs import Graphs, graphs_on
from pgvae.training.ranks import ALONE, Ranks
from pgvae.training.record import Bystander, Record
from pgvae.training.rundir import RunDirectory
from pgvae.training.state import TrainState, derive_seed
from pgvae.training.steering import INTERVAL, Steering
from pgvae.training.step import resolve_precision, train_step
from pgvae.training.stops import Stop, stop_signals

CHECKPOINT_SECONDS = 600.0
CHECK_ITERATIONS = 10  # between two looks at whether updates were finite
_EARLY_IMAGES = (4_000, 16_000, 64_000, 256_000)  # of the first snapshots: a picture comes soon


@dataclass(frozen=True)
class Means:
    """What a run is made with on this machine, and which is no part of it.

    workers:   threads that decode images.
    batch_gpu: most images that a process works through at a time.
    compiled, graphs: whether the networks go through torch.compile, and iterations are captured.
    recompute: whether to keep no activations from 512 px on (`TrainState.recompute`).
    inception_weights: for the metrics FID and KID.
    tracker:   where figures and pictures are shown while it trains.
    """

    workers: int = 0
    batch_gpu: int | None = None
    compiled: bool = False
    graphs: bool = False
    recompute: bool = False
    inception_weights: Path | None = None
    tracker: TrackerKind = "tensorboard"


def train(
    config: RunConfig,
    store: Store,
    run: RunDirectory,
    device: torch.device,
    means: Means | None = None,
    *,
    initial: Snapshot | None = None,
    stop: Stop | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Train to the end of the schedule, from the run's newest checkpoint where it has one.

    Where numbers stop being finite, it goes back to the newest checkpoint once, and on from there
    with another order of images.

    initial: weights to start a new run from.
    stop: what may ask it to stop; a signal always may. ranks: the processes that train it
    together, each of which calls this.
    Raises Preempted, with all saved, where it was asked to stop; ResourceError when numbers stop
    being finite again, the disk or the memory is full, or files can not be written any more.
    """
    precision = resolve_precision(config.precision, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    notes: list[str] = []  # what there is to say before there is a log
    if not run.is_guarded:
        notes.append(f"warning: no locks on this drive: start no second process in {run.path}")
    state = load_newest(run.path, config, device, notes.append) or _first(config, device, initial)
    means, stop, went_back_to = means or Means(), stop or Stop(), None
    batch_gpu = means.batch_gpu
    with stop_signals(stop):
        while True:
            if ranks.told(state.images_seen) != state.images_seen:
                raise ResourceError(
                    f"{run.path}: processes read different checkpoints, this one "
                    f"{state.images_seen:,} images: is the run on a disk that all of them see?"
                )
            state.ranks, state.batch_gpu = ranks, batch_gpu
            if means.recompute:
                state.recompute()
            try:
                return _train(state, store, run, means, stop, notes)
            except Preempted:
                _leave(ranks)
                raise
            except NotFiniteError as error:
                failure = error.with_traceback(None)  # whose frames hold the networks
            at, rollbacks, batch_gpu = state.images_seen, state.rollbacks, state.batch_gpu
            del state  # before others are loaded: memory may not hold both
            state = load_newest(run.path, config, device, notes.append)
            if state is None or state.images_seen == went_back_to:
                raise failure
            notes.append(
                f"warning: {failure.what} at {at:,} images: back to the checkpoint at "
                f"{state.images_seen:,}, once, with another order of images"
            )
            state.rollbacks, went_back_to = rollbacks + 1, state.images_seen


def _train(
    state: TrainState,
    store: Store,
    run: RunDirectory,
    means: Means,
    stop: Stop,
    notes: list[str],
) -> None:
    """`train` from a state; notes: what is said first, once."""
    config, ranks, device = state.config, state.ranks, state.device
    precision = resolve_precision(config.precision, device)
    seed = derive_seed(config.seed, "order", state.rollbacks) if state.rollbacks else config.seed
    with contextlib.ExitStack() as stack:
        stack.enter_context(told_errors(state, run))
        if ranks.index == 0:
            told = (means.inception_weights, means.tracker)
            record = Record(config, store, run, device, state.images_seen, *told)
        else:
            record = Bystander()
        stack.callback(record.log.close)
        ranks.meet()  # the others hear at once where rank 0 cannot write
        loader = Loader(
            store,
            seed=seed,
            mirror=config.mirror,
            labels=config.labels,
            workers=means.workers,
            device=device,
            part=(ranks.index, ranks.count),
        )
        stack.callback(loader.close)
        ends_early = _ends_early(config.schedule)
        where = f"on {device}, {precision}, {ops.native.on(device)}"
        if ranks.count > 1:
            where += f", {ranks.count} processes"
        at = f"at {state.images_seen / 1000:g} of {config.schedule.total_kimg:g} kimg, {where}"
        lines = [*notes, *settings_lines(config), f"{run.path}: {at}", *ends_early]
        notes.clear()
        for line in lines:
            record.log.say(line)
        if state.rollbacks:
            record.log.stats(state.images_seen, {"rollbacks": state.rollbacks})
        record.status("running", state.images_seen)
        compiler = Compiler(record.log.say) if means.compiled else None
        captured = graphs_on(device, ranks.count, record.log.say) if means.graphs else None
        objective = objective_from(config.objective)
        steering = Steering(config, store, device) if config.augment else None
        _loop(state, objective, loader, precision, record, stop, compiler, captured, steering)
        for line in [f"done: {state.images_seen / 1000:g} kimg in {run.path}", *ends_early]:
            record.log.say(line)
        record.status("done", state.images_seen)
        _leave(ranks)


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
    stop: Stop,
    compiler: Compiler | None,
    graphs: Graphs | None,
    steering: Steering | None,
) -> None:
    schedule = state.config.schedule
    tick_images = min(4000, max(1, schedule.total_images // 100))
    snapshot_images = max(1, round(state.config.snapshot_kimg * 1000))
    metric_images = max(1, round(state.config.metric_kimg * 1000))
    ranks = state.ranks
    start = saved = before = state.images_seen
    measured = ranks.told(record.log.measured if state.config.metrics else math.inf)
    saved_time, iterations = time.monotonic(), 0
    # A kill may have come between a checkpoint and what is to be shown of it.
    moment = schedule.before(start, state.resolution) if start else schedule.at(0)
    shown = start - moment.batch_size if start else 0

    while True:
        # One answer for all that follows, and for all processes.
        late = time.monotonic() - saved_time > CHECKPOINT_SECONDS
        stopping, late = ranks.any(stop.requested(), late)
        now = state.images_seen
        upcoming = schedule.at(now)
        done = now >= schedule.total_images
        stage_ends = done or upcoming.resolution > state.resolution
        due = stage_ends or stopping or _is_picture_due(shown, now, snapshot_images)

        if steering and _crossed(before, now, INTERVAL):
            record.steered(state, steering.look(state, moment))

        # Say how it goes, save it, look at it.
        measures = now > measured and (done or _crossed(measured, now, metric_images))
        saves = now > saved and (due or late or measures)
        # At a checkpoint too: what goes on from it has the same means after it.
        ticks = now > start and (saves or stopping or _crossed(before, now, tick_images))
        if ticks or saves:
            state.skips.read()  # on all processes, so that they go back together
        if ticks:
            record.tick(state, moment)
        if saves:
            state.require_finite()
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
            why = "" if stop.signalled else ", as --max-hours asks,"
            raise Preempted(
                f"stopped at {now:,} images{why} and saved: `python train.py --resume "
                f"{shlex.quote(str(record.path))}` goes on"
            )

        # Grow where it is time, then learn from one batch.
        moment, before, shown = upcoming, now, now
        if moment.resolution >= tuning.LARGE_PX:
            tuning.return_large_blocks()
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
    """A warning where the run ends before it has grown, or leaves out a stage."""
    never = schedule.never_reached()
    if not never:
        return []
    last, missed = max({*schedule.resolutions} - {*never}), " and ".join(map(str, never))
    late = schedule.start_of(schedule.resolutions.index(never[0])) >= schedule.total_images
    cure = (
        "a smaller --kimg-per-stage or a larger --total-kimg"
        if late
        else "a larger --kimg-per-stage or a smaller --batch: a stage is shorter than a batch"
    )
    return [
        f"warning: {schedule.total_kimg:g} kimg end at {last} px: {missed} px are never reached; "
        f"use {cure}"
    ]


def _first(config: RunConfig, device: torch.device, initial: Snapshot | None) -> TrainState:
    """The state of a new run: fresh weights, or those of a snapshot."""
    if initial is None:
        return TrainState.create(config, device, config.schedule.at(0).resolution)
    state = TrainState.create(config, device, initial.nets.generator.resolution)
    for part, source in initial.nets.parts().items():
        source.finish_fade()
        state.nets.parts()[part].load_state_dict(source.state_dict())
    return state
