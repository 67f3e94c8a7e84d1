"""Time is counted in images seen: `Schedule.at(images_seen)` says all that changes over a run.

A stage trains one resolution. It fades in (alpha linear from 0 to 1) and then stays; the first one
has no fade, the last one goes on to `total_kimg`.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pgvae.errors import InputError

if TYPE_CHECKING:
    from pgvae.request import Request


@dataclass(frozen=True)
class Moment:
    """What holds at one moment of a run.

    resolution: pixels per side.
    alpha:      share of the newest layers, 0 (just added) to 1 (faded in).
    batch_size: images per encoder update.
    lr:         learning rate of all optimisers.
    settings:   those of the objective's settings that are others now, by name.
    progress:   share of `anneal_kimg` that is done, 0 to 1, pre-training left out.
    pretraining: whether the objective is still pre-trained, as an autoencoder or a VAE.
    """

    resolution: int
    alpha: float
    batch_size: int
    lr: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    progress: float = 0.0
    pretraining: bool = False


@dataclass(frozen=True)
class Stage:
    """How one resolution trains.

    resolution:  pixels per side.
    batch_size:  images per encoder update.
    lr:          learning rate, before milestones.
    fade_kimg:   thousands of images in which it fades in; 0 for the first stage.
    stable_kimg: thousands of images after that.
    fading, settings: the objective's settings that are others while it fades in, and after.
    """

    resolution: int
    batch_size: int
    lr: float
    fade_kimg: float = 0.0
    stable_kimg: float = 0.0
    fading: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("fade_kimg", "stable_kimg"):
            _require_kimg(name, getattr(self, name))
        if self.batch_size < 1:
            raise InputError(f"batch size is {self.batch_size}: use 1 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"learning rate is {self.lr}: use a finite, positive number")


@dataclass(frozen=True)
class Schedule:
    """A pure function from images seen to `Moment`.

    stages:          each of twice the resolution of the one before.
    total_kimg:      thousands of images of the whole run.
    pretrain_kimg:   thousands of images of pre-training, at the start.
    anneal_kimg:     thousands of images in which `Moment.progress` goes from 0 to 1, pre-training
                     included; 0 means total_kimg.
    milestones_kimg: after each of these thousands of images the learning rate is multiplied by
                     `milestone_factor`.
    ema_decay:       of the running averages in each iteration, whatever its batch; None: they
                     follow `RunConfig.ema_kimg`.

    >>> schedule = Schedule((Stage(4, 16, 1e-3, 0, 1), Stage(8, 16, 1e-3, 1, 1)), total_kimg=3)
    >>> moment = schedule.at(1500)
    >>> moment.resolution, moment.alpha
    (8, 0.5)
    """

    stages: tuple[Stage, ...]
    total_kimg: float
    pretrain_kimg: float = 0.0
    anneal_kimg: float = 0.0
    milestones_kimg: tuple[float, ...] = ()
    milestone_factor: float = 0.5
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        doubles = all(b == 2 * a for a, b in itertools.pairwise(self.resolutions))
        if not (self.stages and doubles):
            raise InputError(
                f"schedule: resolutions {self.resolutions} must each be twice the one before"
            )
        if self.stages[0].fade_kimg:
            raise InputError("schedule: the first stage has nothing to fade from")
        for name in ("total_kimg", "pretrain_kimg", "anneal_kimg"):
            _require_kimg(name, getattr(self, name))
        if self.total_images == 0:
            raise InputError(
                f"total_kimg is {self.total_kimg:g}, less than an image: use 0.001 or more"
            )
        starts = [self.start_of(index) for index in range(len(self.stages))]
        if any(a == b for a, b in itertools.pairwise(starts)):
            raise InputError("a stage is less than an image: use a longer --kimg-per-stage")
        if self.pretrain_kimg >= self.total_kimg:
            raise InputError(
                f"--pretrain-kimg {self.pretrain_kimg:g} is not below the {self.total_kimg:g} kimg "
                "of the run: use less"
            )
        if not all(math.isfinite(kimg) and kimg > 0 for kimg in self.milestones_kimg):
            raise InputError(f"milestones {self.milestones_kimg}: use finite, positive numbers")
        if not 0 < self.milestone_factor <= 1:
            raise InputError(
                f"milestone_factor is {self.milestone_factor}: use a number above 0, 1 at most"
            )
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}: use 0 or more, below 1")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Pixels per side of each stage."""
        return tuple(stage.resolution for stage in self.stages)

    @property
    def total_images(self) -> int:
        """Images after which the run is done."""
        return round(self.total_kimg * 1000)

    def start_of(self, index: int) -> int:
        """Images seen when stage `index` begins."""
        before = self.stages[:index]
        return round(1000 * math.fsum(stage.fade_kimg + stage.stable_kimg for stage in before))

    def at(self, images_seen: int) -> Moment:
        """What holds after `images_seen` images (0 or more; past the end, the last stage)."""
        index = max(i for i in range(len(self.stages)) if self.start_of(i) <= images_seen)
        stage = self.stages[index]
        fade_images = stage.fade_kimg * 1000
        alpha = min(1.0, (images_seen - self.start_of(index)) / fade_images) if fade_images else 1.0
        passed = sum(images_seen >= round(1000 * kimg) for kimg in self.milestones_kimg)
        pretrain_images = round(self.pretrain_kimg * 1000)
        after = max(0, images_seen - pretrain_images)
        anneal_images = round((self.anneal_kimg or self.total_kimg) * 1000)
        return Moment(
            resolution=stage.resolution,
            alpha=alpha,
            batch_size=stage.batch_size,
            lr=stage.lr * self.milestone_factor**passed,
            settings=dict(stage.settings if alpha == 1 else stage.fading),
            progress=min(1.0, after / max(1, anneal_images - pretrain_images)),
            pretraining=images_seen < pretrain_images,
        )

    def before(self, images_seen: int, resolution: int) -> Moment:
        """What held for the last batch before, of the stage of `resolution`.

        >>> schedule = Schedule((Stage(4, 16, 1e-3, 0, 1), Stage(8, 16, 1e-3, 1, 1)), total_kimg=3)
        >>> schedule.before(1516, 8).alpha, schedule.before(1008, 4).resolution
        (0.5, 4)
        """
        index = self.resolutions.index(resolution)
        return self.at(max(self.start_of(index), images_seen - self.stages[index].batch_size))

    def trained_at(self, images_seen: int) -> int:
        """Pixels per side of the last batch before: a stage's last figure comes where it ends.

        >>> schedule = Schedule((Stage(4, 16, 1e-3, 0, 1), Stage(8, 16, 1e-3, 1, 1)), total_kimg=3)
        >>> [schedule.trained_at(images) for images in (1000, 1008, 1024)]
        [4, 4, 8]
        """
        later = [i for i in range(len(self.stages)) if self.start_of(i) < images_seen]
        index = max(later, default=0)
        before = self.stages[max(0, index - 1)]
        if index and images_seen - self.start_of(index) < before.batch_size:
            return before.resolution
        return self.stages[index].resolution

    def never_reached(self) -> tuple[int, ...]:
        """Resolutions of which there is no batch.

        Their stage would begin only after the end of the run, or is over within a batch of one
        before it.

        >>> stages = Stage(4, 16, 1e-3, 0, 1), Stage(8, 16, 1e-3, 0, 0.005), Stage(16, 16, 1e-3)
        >>> Schedule(stages, total_kimg=3).never_reached()
        (8,)
        """
        seen, never = 0, []
        ends = [*map(self.start_of, range(1, len(self.stages))), self.total_images]
        for stage, end in zip(self.stages, ends, strict=True):
            left = min(end, self.total_images) - seen
            if left <= 0:
                never.append(stage.resolution)
            else:
                seen += stage.batch_size * math.ceil(left / stage.batch_size)
        return tuple(never)

    def changed(self, asked: "Request") -> "Schedule":
        """This schedule with what a run may change as it goes on; the lengths of stages stay.

        InputError for a value of a stage that there is not.
        """
        for name, value in (("batch", asked.batch), ("lr", asked.lr)):
            missing = set(value) - set(self.resolutions) if isinstance(value, Mapping) else ()
            if missing:
                raise InputError(
                    f"--{name} at {min(missing)} px: the run's resolutions are "
                    f"{', '.join(map(str, self.resolutions))}"
                )
        whole = {
            "total_kimg": asked.total_kimg,
            "pretrain_kimg": asked.pretrain_kimg,
            "milestones_kimg": asked.lr_milestones,
        }
        stages = tuple(
            replace(
                stage,
                batch_size=at_stage(asked.batch, stage.resolution) or stage.batch_size,
                lr=at_stage(asked.lr, stage.resolution) or stage.lr,
            )
            for stage in self.stages
        )
        return replace(self, stages=stages, **_said(whole))


@dataclass(frozen=True)
class SchedulePreset:
    """A paper's schedule, before it is cut to the resolutions of a run.

    kimg_per_stage: thousands of images of a fade and the stable phase after it.
    first_share:    length of the first stage, which has no fade, as a share of that.
    pretrain_share: pre-training, as a share of the run.
    milestones:     of the learning rate, as shares of the run; each halves it.
    settings:       of the objective, in every stage once it has faded in.
    ema_decay:      see `Schedule`.
    """

    kimg_per_stage: float
    first_share: float
    batch_sizes: Mapping[int, int]
    learning_rates: Mapping[int, float]
    pretrain_share: float = 0.0
    milestones: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    ema_decay: float | None = None

    def at_rate(self, lr: float) -> "SchedulePreset":
        """The same with one learning rate for all stages."""
        return replace(self, learning_rates=of_all(lr))


_RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def of_all(*values: float) -> dict[int, Any]:
    """One value for each resolution from 4 to 1024; a single one for all."""
    every = values * len(_RESOLUTIONS) if len(values) == 1 else values
    return dict(zip(_RESOLUTIONS, every, strict=True))


# 2.4 M images a stage, alpha linear over the first half; of all objectives that have none of their
# own. PIONEER's batch of 1 at 1024 px makes the KL infinite, so 2 here.
PIONEER = SchedulePreset(
    kimg_per_stage=2400,
    first_share=1.0,
    batch_sizes=of_all(128, 128, 128, 64, 32, 16, 8, 4, 2),
    learning_rates=of_all(1e-3),
)
# As the published code has it, where the paper says otherwise or nothing.
PIONEER_CODE = replace(PIONEER, settings={"lambda_x": 15.0}, ema_decay=0.999)
# PGGAN: 600 thousand images of fade and 600 of stable training, one-GPU batches.
PGGAN = SchedulePreset(
    kimg_per_stage=1200,
    first_share=0.5,
    batch_sizes=of_all(128, 128, 128, 64, 32, 16, 8, 4, 4),
    learning_rates=of_all(*[1e-3] * 8, 1.5e-3),
)
# Those that are not the schedule of an objective.
SCHEDULES = {"pioneer_code": PIONEER_CODE}


def from_preset(
    preset: SchedulePreset, resolutions: tuple[int, ...], asked: "Request | None" = None
) -> Schedule:
    """The schedule of `preset` over `resolutions`, with what the user asked for put in place.

    Raises InputError where a value is not usable (see `Schedule`).
    """
    per_stage = (asked and asked.kimg_per_stage) or preset.kimg_per_stage
    first = per_stage * preset.first_share
    every = first + per_stage * (len(resolutions) - 1)
    total = (asked and asked.total_kimg) or every
    stages = tuple(
        Stage(
            resolution=resolution,
            batch_size=preset.batch_sizes[resolution],
            lr=preset.learning_rates[resolution],
            fade_kimg=per_stage / 2 if index else 0.0,
            stable_kimg=per_stage / 2 if index else first,
            settings=preset.settings,
        )
        for index, resolution in enumerate(resolutions)
    )
    schedule = Schedule(
        stages,
        total_kimg=total,
        pretrain_kimg=round(preset.pretrain_share * total, 6),
        anneal_kimg=total,
        milestones_kimg=tuple(round(share * total, 6) for share in preset.milestones),
        ema_decay=None if asked and asked.ema_kimg is not None else preset.ema_decay,
    )
    return schedule.changed(asked) if asked else schedule


def at_stage(value: Any, resolution: int) -> Any:
    """What a value of all stages, or of some by resolution, is at a resolution; None: left open.

    >>> at_stage(16, 64), at_stage({64: 8}, 64), at_stage({64: 8}, 32), at_stage(None, 4)
    (16, 8, None, None)
    """
    return value.get(resolution) if isinstance(value, Mapping) else value


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _require_kimg(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value}: use a finite number, 0 or more")
