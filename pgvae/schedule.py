"""Time is counted in images seen: `Schedule.at(images_seen)` says all that changes over a run.

The first resolution trains for `first_kimg`; each later one fades in over `fade_kimg` (alpha
linear from 0 to 1) and then stays for `stable_kimg`. The last one goes on to `total_kimg`.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pgvae.errors import InputError


@dataclass(frozen=True)
class Stage:
    """What holds at one moment of a run.

    resolution: pixels per side.
    alpha:      share of the newest layers, 0 (just added) to 1 (faded in).
    batch_size: images per encoder update.
    lr:         learning rate of all optimisers.
    settings:   those of the objective's settings that are others now, by name.
    progress:   share of `anneal_kimg` that is done, 0 to 1, pre-training left out.
    pretraining: whether the objective is still pre-trained (as a VAE).
    """

    resolution: int
    alpha: float
    batch_size: int
    lr: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    progress: float = 0.0
    pretraining: bool = False


@dataclass(frozen=True)
class Schedule:
    """A pure function from images seen to `Stage`.

    resolutions:    pixels per side of each stage, each twice the one before.
    batch_sizes:    one for each stage.
    learning_rates: one for each stage.
    first_kimg, fade_kimg, stable_kimg, total_kimg: thousands of images, see the module.
    settings:       `Stage.settings` of each phase: the first stage, then fade and stable phase
                    of every later one (2 n - 1 in all); empty where they never change.
    pretrain_kimg:  thousands of images of pre-training, at the start.
    anneal_kimg:    thousands of images in which `Stage.progress` goes from 0 to 1, pre-training
                    included; 0 means total_kimg.
    milestones_kimg: after each of these thousands of images the learning rate is multiplied by
                    `milestone_factor`.
    """

    resolutions: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    learning_rates: tuple[float, ...]
    first_kimg: float
    fade_kimg: float
    stable_kimg: float
    total_kimg: float
    settings: tuple[Mapping[str, Any], ...] = ()
    pretrain_kimg: float = 0.0
    anneal_kimg: float = 0.0
    milestones_kimg: tuple[float, ...] = ()
    milestone_factor: float = 0.5

    def __post_init__(self) -> None:
        n = len(self.resolutions)
        doubles = all(b == 2 * a for a, b in itertools.pairwise(self.resolutions))
        if n == 0 or not doubles:
            raise InputError(
                f"schedule: resolutions {self.resolutions} must each be twice the one before"
            )
        if len(self.batch_sizes) != n or len(self.learning_rates) != n:
            raise InputError("schedule: give one batch size and one learning rate per resolution")
        if len(self.settings) not in (0, 2 * n - 1):
            raise InputError("schedule: give the settings of every fade and stable phase, or none")
        for name in (
            "first_kimg",
            "fade_kimg",
            "stable_kimg",
            "total_kimg",
            "pretrain_kimg",
            "anneal_kimg",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}: use a finite number, 0 or more")
        if self.pretrain_kimg >= self.total_kimg:
            raise InputError(
                f"pretrain_kimg is {self.pretrain_kimg} of {self.total_kimg} in all: use less"
            )
        if not all(math.isfinite(kimg) and kimg > 0 for kimg in self.milestones_kimg):
            raise InputError(f"milestones {self.milestones_kimg}: use finite, positive numbers")
        if not 0 < self.milestone_factor <= 1:
            raise InputError(
                f"milestone_factor is {self.milestone_factor}: use a number above 0, 1 at most"
            )
        if self.total_kimg <= 0:
            raise InputError(f"total_kimg is {self.total_kimg}: use a positive number")
        for batch in self.batch_sizes:
            if batch < 1:
                raise InputError(f"batch size is {batch}: use 1 or more")
        for lr in self.learning_rates:
            if not (math.isfinite(lr) and lr > 0):
                raise InputError(f"learning rate is {lr}: use a finite, positive number")

    @property
    def total_images(self) -> int:
        """Images after which the run is done."""
        return round(self.total_kimg * 1000)

    def start_of(self, index: int) -> int:
        """Images seen when stage `index` begins."""
        later = (self.fade_kimg + self.stable_kimg) * (index - 1)
        return 0 if index == 0 else round((self.first_kimg + later) * 1000)

    def at(self, images_seen: int) -> Stage:
        """The stage after `images_seen` images (0 or more; past the end, the last stage)."""
        last = len(self.resolutions) - 1
        index = max(i for i in range(last + 1) if self.start_of(i) <= images_seen)
        fade_images = self.fade_kimg * 1000
        fading = index > 0 and fade_images > 0
        alpha = min(1.0, (images_seen - self.start_of(index)) / fade_images) if fading else 1.0
        phase = max(0, 2 * index - (alpha < 1))
        passed = sum(images_seen >= round(1000 * kimg) for kimg in self.milestones_kimg)
        pretrain_images = round(self.pretrain_kimg * 1000)
        after = max(0, images_seen - pretrain_images)
        anneal_images = round((self.anneal_kimg or self.total_kimg) * 1000)
        return Stage(
            resolution=self.resolutions[index],
            alpha=alpha,
            batch_size=self.batch_sizes[index],
            lr=self.learning_rates[index] * self.milestone_factor**passed,
            settings=dict(self.settings[phase]) if self.settings else {},
            progress=min(1.0, after / max(1, anneal_images - pretrain_images)),
            pretraining=images_seen < pretrain_images,
        )


@dataclass(frozen=True)
class SchedulePreset:
    """A paper's schedule, before it is cut to the resolutions of a run.

    kimg_per_stage: thousands of images of a fade and the stable phase after it.
    first_share:    length of the first stage, which has no fade, as a share of that.
    pretrain_share: pre-training, as a share of the run.
    milestones:     of the learning rate, as shares of the run; each halves it.
    """

    kimg_per_stage: float
    first_share: float
    batch_sizes: Mapping[int, int]
    learning_rates: Mapping[int, float]
    pretrain_share: float = 0.0
    milestones: tuple[float, ...] = ()


_RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def _of_all(*values: float) -> dict[int, Any]:
    """One value for each resolution; a single one for all."""
    every = values * len(_RESOLUTIONS) if len(values) == 1 else values
    return dict(zip(_RESOLUTIONS, every, strict=True))


PRESETS: Mapping[str, SchedulePreset] = {
    # PIONEER: 2.4 M images a stage, alpha linear over the first half; its batch of 1 at
    # 1024 px makes the KL infinite, so 2 here.
    "pioneer": SchedulePreset(
        kimg_per_stage=2400,
        first_share=1.0,
        batch_sizes=_of_all(128, 128, 128, 64, 32, 16, 8, 4, 2),
        learning_rates=_of_all(1e-3),
    ),
    # Balanced PIONEER: the same stages, half the rate up to 32 px, larger batches above.
    "balanced_pioneer": SchedulePreset(
        kimg_per_stage=2400,
        first_share=1.0,
        batch_sizes=_of_all(128, 128, 128, 64, 32, 32, 32, 4, 2),
        learning_rates=_of_all(5e-4, 5e-4, 5e-4, 5e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3),
    ),
    # PGGAN: 600 thousand images of fade and 600 of stable training, one-GPU batches.
    "pggan": SchedulePreset(
        kimg_per_stage=1200,
        first_share=0.5,
        batch_sizes=_of_all(128, 128, 128, 64, 32, 16, 8, 4, 4),
        learning_rates=_of_all(*[1e-3] * 8, 1.5e-3),
    ),
    # IntroVAE's batches and rate; 200 epochs of CelebA-HQ's 29,000, the first as a VAE. The paper
    # does not give the length.
    "introvae": SchedulePreset(
        kimg_per_stage=5800,
        first_share=1.0,
        batch_sizes=_of_all(64, 64, 64, 64, 64, 64, 32, 12, 8),
        learning_rates=_of_all(2e-4),
        pretrain_share=1 / 200,
    ),
    # IntroVAC: 150 epochs, the rate halved after 60, 90 and 120; of 30,000 images, as its parts
    # of CelebA are about that large when balanced.
    "introvac": SchedulePreset(
        kimg_per_stage=4500,
        first_share=1.0,
        batch_sizes=_of_all(64, 64, 64, 64, 64, 64, 32, 12, 8),
        learning_rates=_of_all(2e-4),
        milestones=(0.4, 0.6, 0.8),
    ),
}


def from_preset(
    preset: SchedulePreset,
    resolutions: tuple[int, ...],
    *,
    kimg_per_stage: float | None = None,
    total_kimg: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    pretrain_kimg: float | None = None,
    milestones_kimg: tuple[float, ...] | None = None,
    settings: tuple[Mapping[str, Any], ...] = (),
) -> Schedule:
    """The schedule of `preset` over `resolutions`, with what the user asked for put in place.

    Raises InputError where a value is not usable (see `Schedule`).
    """
    per_stage = preset.kimg_per_stage if kimg_per_stage is None else kimg_per_stage
    first = per_stage * preset.first_share
    every = first + per_stage * (len(resolutions) - 1)
    total = every if total_kimg is None else total_kimg
    if pretrain_kimg is None:
        pretrain_kimg = round(preset.pretrain_share * total, 6)
    if milestones_kimg is None:
        milestones_kimg = tuple(round(share * total, 6) for share in preset.milestones)
    return Schedule(
        resolutions=resolutions,
        batch_sizes=tuple(
            preset.batch_sizes[r] if batch_size is None else batch_size for r in resolutions
        ),
        learning_rates=tuple(preset.learning_rates[r] if lr is None else lr for r in resolutions),
        first_kimg=first,
        fade_kimg=per_stage / 2,
        stable_kimg=per_stage / 2,
        total_kimg=total,
        settings=settings,
        pretrain_kimg=pretrain_kimg,
        anneal_kimg=total,
        milestones_kimg=milestones_kimg,
    )
