"""Time is counted in images seen: `Schedule.at(images_seen)` says all that changes over a run.

The first resolution trains for `first_kimg`; each later one fades in over `fade_kimg` (alpha
linear from 0 to 1) and then stays for `stable_kimg`. The last one goes on to `total_kimg`.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pgvae.errors import InputError


@dataclass(frozen=True)
class Stage:
    """What holds at one moment of a run.

    resolution: pixels per side.
    alpha:      share of the newest layers, 0 (just added) to 1 (faded in).
    batch_size: images per encoder update.
    lr:         learning rate of all optimisers.
    weights:    factors on the objective's weights, by name; absent means 1.
    """

    resolution: int
    alpha: float
    batch_size: int
    lr: float
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """A pure function from images seen to `Stage`.

    resolutions:    pixels per side of each stage, each twice the one before.
    batch_sizes:    one for each stage, 2 or more.
    learning_rates: one for each stage.
    first_kimg, fade_kimg, stable_kimg, total_kimg: thousands of images, see the module.
    grown_weights:  `Stage.weights` once the last resolution has faded in after growth.
    """

    resolutions: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    learning_rates: tuple[float, ...]
    first_kimg: float
    fade_kimg: float
    stable_kimg: float
    total_kimg: float
    grown_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.resolutions)
        doubles = all(b == 2 * a for a, b in itertools.pairwise(self.resolutions))
        if n == 0 or not doubles:
            raise InputError(
                f"schedule: resolutions {self.resolutions} must each be twice the one before"
            )
        if len(self.batch_sizes) != n or len(self.learning_rates) != n:
            raise InputError("schedule: give one batch size and one learning rate per resolution")
        for name in ("first_kimg", "fade_kimg", "stable_kimg", "total_kimg"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}: use a finite number, 0 or more")
        if self.total_kimg <= 0:
            raise InputError(f"total_kimg is {self.total_kimg}: use a positive number")
        for batch in self.batch_sizes:
            if batch < 2:
                raise InputError(
                    f"batch size is {batch}: use 2 or more (the KL of one image is infinite)"
                )
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
        grown = last > 0 and index == last and alpha == 1.0
        return Stage(
            resolution=self.resolutions[index],
            alpha=alpha,
            batch_size=self.batch_sizes[index],
            lr=self.learning_rates[index],
            weights=dict(self.grown_weights) if grown else {},
        )


@dataclass(frozen=True)
class Preset:
    """A paper's schedule, before it is cut to the resolutions of a run.

    kimg_per_stage: thousands of images of a fade and the stable phase after it.
    first_share:    length of the first stage, which has no fade, as a share of that.
    """

    kimg_per_stage: float
    first_share: float
    batch_sizes: Mapping[int, int]
    learning_rates: Mapping[int, float]


_RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)

PRESETS: Mapping[str, Preset] = {
    # PIONEER: 2.4 M images a stage, alpha linear over the first half; its batch of 1 at
    # 1024 px makes the KL infinite, so 2 here.
    "pioneer": Preset(
        kimg_per_stage=2400,
        first_share=1.0,
        batch_sizes=dict(zip(_RESOLUTIONS, (128, 128, 128, 64, 32, 16, 8, 4, 2), strict=True)),
        learning_rates=dict.fromkeys(_RESOLUTIONS, 1e-3),
    ),
    # PGGAN: 600 thousand images of fade and 600 of stable training, one-GPU batches.
    "pggan": Preset(
        kimg_per_stage=1200,
        first_share=0.5,
        batch_sizes=dict(zip(_RESOLUTIONS, (128, 128, 128, 64, 32, 16, 8, 4, 4), strict=True)),
        learning_rates={**dict.fromkeys(_RESOLUTIONS, 1e-3), 1024: 1.5e-3},
    ),
}


def from_preset(
    preset: Preset,
    resolutions: tuple[int, ...],
    *,
    kimg_per_stage: float | None = None,
    total_kimg: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    grown_weights: Mapping[str, float] | None = None,
) -> Schedule:
    """The schedule of `preset` over `resolutions`, with what the user asked for put in place.

    Raises InputError where a value is not usable (see `Schedule`).
    """
    per_stage = preset.kimg_per_stage if kimg_per_stage is None else kimg_per_stage
    first = per_stage * preset.first_share
    every = first + per_stage * (len(resolutions) - 1)
    return Schedule(
        resolutions=resolutions,
        batch_sizes=tuple(
            preset.batch_sizes[r] if batch_size is None else batch_size for r in resolutions
        ),
        learning_rates=tuple(preset.learning_rates[r] if lr is None else lr for r in resolutions),
        first_kimg=first,
        fade_kimg=per_stage / 2,
        stable_kimg=per_stage / 2,
        total_kimg=every if total_kimg is None else total_kimg,
        grown_weights=dict(grown_weights or {}),
    )
