"""All that a run leaves in its directory as it goes: log, checkpoints, snapshots, metrics."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from pgvae.choices import PriorKind, TrackerKind
from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.errors import PgvaeError
from pgvae.inference import Model, describe, directions_path, fit_prior
from pgvae.prior import FittedPrior
from pgvae.schedule import Moment, Schedule
from pgvae.snapshot import Snapshot, save_snapshot, snapshots_in
from pgvae.training.checkpoint import save_checkpoint
from pgvae.training.gallery import Gallery, grid_path
from pgvae.training.log import RunLog
from pgvae.training.referee import Referee
from pgvae.training.rundir import RunDirectory
from pgvae.training.state import TrainState
from pgvae.training.watch import Watch


class Record:
    """What one process writes about its run.

    log:  for what there is to say beside.
    path: the run directory.
    """

    def __init__(
        self,
        config: RunConfig,
        store: Store,
        run: RunDirectory,
        device: torch.device,
        images_seen: int,
        inception_weights: Path | None = None,
        tracker: TrackerKind = "tensorboard",
    ) -> None:
        self._config, self._run, self.path = config, run, run.path
        self._store, self._device = store, device
        self._priors: dict[int, FittedPrior | None] = {}  # the newest, by images seen
        total = config.schedule.total_images
        self.log = RunLog(run.path, images_seen, total, tracker, config.to_dict())
        self._gallery = Gallery(store, config.labels, device, config.seed)
        self._referee = Referee(config, store, run.path, device, inception_weights)
        self._watch = Watch(config.model.head)
        if images_seen == 0:
            self._gallery.save_reals(run.path / "reals.png", config.model.resolution)

    def status(self, status: str, images_seen: int, code: int = 0, message: str = "") -> None:
        """Say in `status.json` how the run stands."""
        self._run.write_status(status, code, images_seen, message)

    def tick(self, state: TrainState, moment: Moment) -> None:
        """Say how it goes."""
        skipped, _ = state.skips.read()
        means = self.log.tick(state.images_seen, moment, skipped_steps=skipped)
        for warning in self._watch.warnings(means):
            self.log.say(warning)

    def steered(self, state: TrainState, figures: Mapping[str, float]) -> None:
        """Keep what decides how much a critic's images are augmented."""
        if figures:
            named = {f"augment/{name}": value for name, value in figures.items()}
            self.log.stats(state.images_seen, named)

    def save(self, state: TrainState) -> None:
        """Write a checkpoint: from here on nothing before it can be lost."""
        save_checkpoint(self._run.path, state)
        self.status("running", state.images_seen)
        self.log.restart_clock(state.images_seen)

    def has_shown(self, state: TrainState) -> bool:
        """Whether all is there that `show` makes of this moment, whose figures come last."""
        if not self._snapshot_path(state).exists():
            return False
        if self._config.model.encoder:
            return self.log.looked >= state.images_seen
        return grid_path("fakes", self._run.path, state.images_seen).exists()

    def show(self, state: TrainState, moment: Moment) -> None:
        """Write a snapshot and the grids; say how well unseen images are reconstructed, if so."""
        snapshot, path, gallery = (
            self._snapshot(state, moment),
            self._snapshot_path(state),
            self._gallery,
        )
        save_snapshot(path, snapshot)
        self._delete_old()
        figures = gallery.look(snapshot, self._run.path, self.log)
        if figures:
            self.log.stats(state.images_seen, figures)
            self.log.say(f"{path.name}: {_told(figures, gallery.split, moment.resolution)}")
        else:
            self.log.say(f"{path.name}: samples at {moment.resolution} px; there is no encoder")
        if snapshot.prior:
            self.log.say(describe(snapshot.prior))
        self.log.restart_clock(state.images_seen)

    def judge(self, state: TrainState, moment: Moment) -> None:
        """Measure, and keep the best snapshot."""
        self._referee.judge(self._snapshot(state, moment), self.log)
        self.log.restart_clock(state.images_seen)

    def _delete_old(self) -> None:
        """Make room: delete the snapshots that the run is not asked to keep."""
        found = {int(path.stem[9:]): path for path in snapshots_in(self._run.path)}
        keep = self._config.keep_snapshots
        for images in superfluous(found, self._config.schedule, keep) if keep else ():
            if not directions_path(found[images]).exists():  # fitted to it: somebody's work
                with contextlib.suppress(OSError):  # some drives keep what another program reads
                    found[images].unlink()

    def _snapshot_path(self, state: TrainState) -> Path:
        return self._run.path / f"snapshot-{state.images_seen:09d}.safetensors"

    def _snapshot(self, state: TrainState, moment: Moment) -> Snapshot:
        bare = Snapshot(
            nets=state.nets,
            config=self._config.model,
            alpha=moment.alpha,
            images_seen=state.images_seen,
            objective=dict(self._config.objective),
            attributes=self._config.labels.attributes,
            dataset=self._config.dataset,
            mean_image=self._gallery.mean_image(moment.resolution),
        )
        if state.images_seen not in self._priors:
            self._priors = {state.images_seen: self._fit_prior(bare)}
        return dataclasses.replace(bare, prior=self._priors[state.images_seen])

    def _fit_prior(self, snapshot: Snapshot) -> FittedPrior | None:
        """Fitted to training images, the last one of the run with more time: of several Gaussians
        where those are better. None, and a word why, where that cannot be."""
        if not self._config.model.encoder:
            return None
        done = snapshot.images_seen >= self._config.schedule.total_images
        kind: PriorKind = "mixture" if done else "gaussian"
        try:
            return fit_prior(Model(snapshot, self._device), self._store, kind)[0]
        except PgvaeError as error:
            self.log.say(f"no prior is fitted: {error}")
            return None


def _told(figures: Mapping[str, float], split: str, resolution: int) -> str:
    """The gallery's figures in words."""
    psnr, gain = figures[f"{split}/psnr"], figures[f"{split}/psnr_gain"]
    what = "unseen" if split == "val" else "training (there are no unseen)"
    accuracy = {k.split("/", 1)[1]: v for k, v in figures.items() if "accuracy" in k}
    return (
        f"{what} images reconstructed at {resolution} px with PSNR {psnr:.2f} dB, {gain:+.2f} dB "
        "against the mean training image"
        + "".join(f", {name} {value:.1%}" for name, value in accuracy.items())
    )


def superfluous(images: Iterable[int], schedule: Schedule, keep: int) -> list[int]:
    """Of snapshots, by images seen, those that are neither of the newest nor of a stage's end.

    At the end of a stage is the first one from where the next begins.

    >>> from pgvae.schedule import Stage
    >>> schedule = Schedule((Stage(4, 2, 1e-3, 0, 1), Stage(8, 2, 1e-3, 1, 1)), total_kimg=3)
    >>> superfluous([500, 1001, 1500, 2000, 2500], schedule, keep=2)
    [500, 1500]
    """
    ordered = sorted(images)
    starts = [schedule.start_of(index) for index in range(1, len(schedule.stages))]
    ends = {next((seen for seen in ordered if seen >= start), None) for start in starts}
    return [seen for seen in ordered[:-keep] if seen not in ends]


class Bystander:
    """In a `Record`'s place where another process of the run writes: does nothing, says nothing."""

    measured = 0

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any) -> None:
        return None
