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
from pgvae.errors import PgvaeError, Preempted
from pgvae.files import disk_errors
from pgvae.objectives import Objective, objective_from
from pgvae.schedule import Stage
from pgvae.snapshot import Snapshot, save_snapshot
from pgvae.training.checkpoint import load_newest, save_checkpoint
from pgvae.training.gallery import Gallery
from pgvae.training.log import RunLog
from pgvae.training.referee import Referee
from pgvae.training.rundir import RunDirectory
from pgvae.training.state import TrainState
from pgvae.training.step import resolve_precision, train_step
from pgvae.training.watch import Watch

CHECKPOINT_SECONDS = 600.0


@dataclass
class StopFlag:
    """Whether a signal asked the run to stop."""

    requested: bool = False


@contextlib.contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """SIGINT and SIGTERM set the flag, once; a second one stops the process at once."""
    flag = StopFlag()
    before = {}

    def handle(number: int, _frame: object) -> None:
        flag.requested = True
        # Not what was there before: a shell has a background job ignore SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
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
    initial: Snapshot | None = None,
    inception_weights: Path | None = None,
) -> None:
    """Train to the end of the schedule, from the run's newest checkpoint where it has one.

    initial: weights to start a new run from. inception_weights: for the metrics FID and KID.
    Raises Preempted, with all saved, after SIGINT or SIGTERM; ResourceError when numbers stop
    being finite or the disk is full.
    """
    objective = objective_from(config.objective)
    precision = resolve_precision(config.precision, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    notes: list[str] = []  # what there is to say before there is a log
    state = load_newest(run.path, config, device, notes.append) or _first(config, device, initial)
    log = RunLog(run.path, state.images_seen, config.schedule.total_images)
    loader = Loader(
        store,
        seed=config.seed,
        mirror=config.mirror,
        labels=config.labels,
        workers=workers,
        device=device,
    )
    gallery = Gallery(store, config.labels, device, config.seed)
    referee = Referee(config, store, run.path, device, inception_weights)
    for note in notes:
        log.say(note)
    where = f"on {device}, {precision}, {ops.native.on(device)}"
    log.say(f"{run.path}: at {state.images_seen / 1000:g} kimg, {where}")
    if state.images_seen == 0:
        gallery.save_reals(run.path / "reals.png", config.model.resolution)
    try:
        with stop_signals() as stop, disk_errors(run.path):
            run.write_status("running", 0, state.images_seen)
            _loop(state, objective, loader, precision, log, gallery, referee, run, stop)
        run.write_status("done", 0, state.images_seen)
    except BaseException as error:
        code = error.exit_code if isinstance(error, PgvaeError) else 1
        name = "preempted" if isinstance(error, Preempted) else "failed"
        with contextlib.suppress(PgvaeError, OSError):
            run.write_status(name, code, state.images_seen, str(error))
        raise
    finally:
        loader.close()
        log.close()


def _loop(
    state: TrainState,
    objective: Objective,
    loader: Loader,
    precision: Precision,
    log: RunLog,
    gallery: Gallery,
    referee: Referee,
    run: RunDirectory,
    stop: StopFlag,
) -> None:
    schedule = state.config.schedule
    tick_images = min(4000, max(1, schedule.total_images // 100))
    snapshot_images = max(1, round(state.config.snapshot_kimg * 1000))
    metric_images = max(1, round(state.config.metric_kimg * 1000))
    start = saved = before = state.images_seen
    measured = log.measured if state.config.metrics else math.inf
    saved_time = time.monotonic()
    stage = schedule.at(start)
    if stage.resolution > state.resolution:  # resumed where a stage ends, which is not measured now
        measured = max(measured, start)
    watch = Watch(state.config.model.head)

    while True:
        now = state.images_seen
        upcoming = schedule.at(now)
        done = now >= schedule.total_images
        due = (
            done or upcoming.resolution > state.resolution or _crossed(before, now, snapshot_images)
        )
        late = time.monotonic() - saved_time > CHECKPOINT_SECONDS

        # Say how it goes, look at it, save it.
        if now > start and (done or stop.requested or _crossed(before, now, tick_images)):
            means = log.tick(now, stage, skipped_steps=state.skipped_steps)
            for warning in watch.warnings(means):
                log.say(warning)
        if now > saved and due:
            _show(state, stage, gallery, run, log)
        measures = now > measured and (done or _crossed(measured, now, metric_images))
        if now > saved and (due or late or measures or stop.requested):
            save_checkpoint(run.path, state)
            saved, saved_time = now, time.monotonic()
            log.restart_clock(now)
        if measures:  # once all is saved: it may take minutes
            referee.judge(_snapshot(state, stage, gallery), log)
            measured = now
            log.restart_clock(now)
        if done:
            return
        if stop.requested:
            raise Preempted(
                f"stopped at {now:,} images and saved in {run.path}: rerun with --resume to go on"
            )

        # Grow where it is time, then learn from one batch.
        stage, before = upcoming, now
        state.enter(stage)
        batch = loader.batch(now, stage.batch_size, stage.resolution, stage.alpha)
        scalars = train_step(state, objective, stage, batch, precision)
        log.step(scalars, state.images_seen, stage)


def _crossed(before: int, now: int, interval: int) -> bool:
    """Whether a multiple of `interval` lies in (before, now]."""
    return now // interval > before // interval


def _snapshot(state: TrainState, stage: Stage, gallery: Gallery) -> Snapshot:
    return Snapshot(
        nets=state.nets,
        config=state.config.model,
        alpha=stage.alpha,
        images_seen=state.images_seen,
        objective=dict(state.config.objective),
        attributes=state.config.labels.attributes,
        dataset=state.config.dataset,
        mean_image=gallery.mean_image(stage.resolution),
    )


def _show(
    state: TrainState, stage: Stage, gallery: Gallery, run: RunDirectory, log: RunLog
) -> None:
    """Write a snapshot and the grids, and say how well unseen images are reconstructed."""
    snapshot = _snapshot(state, stage, gallery)
    path = run.path / f"snapshot-{state.images_seen:09d}.safetensors"
    save_snapshot(path, snapshot)
    figures = gallery.look(snapshot, run.path, log)
    log.stats(state.images_seen, figures)
    psnr, gain = figures[f"{gallery.split}/psnr"], figures[f"{gallery.split}/psnr_gain"]
    what = "unseen" if gallery.split == "val" else "training (there are no unseen)"
    log.say(
        f"{path.name}: {what} images reconstructed at {stage.resolution} px with PSNR "
        f"{psnr:.2f} dB, {gain:+.2f} dB against the mean training image"
        + "".join(f", {k.split('/', 1)[1]} {v:.1%}" for k, v in figures.items() if "accuracy" in k)
    )


def _first(config: RunConfig, device: torch.device, initial: Snapshot | None) -> TrainState:
    """The state of a new run: fresh weights, or those of a snapshot."""
    if initial is None:
        return TrainState.create(config, device, config.schedule.at(0).resolution)
    state = TrainState.create(config, device, initial.nets.generator.resolution)
    for part in ("encoder", "generator", "ema"):
        source = getattr(initial.nets, part)
        source.finish_fade()
        getattr(state.nets, part).load_state_dict(source.state_dict())
    return state
