"""Balanced PIONEER (Heljakka et al., 2020): PIONEER with a margin on the encoder's game."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgvae.checks import require_weight
from pgvae.objectives.age import Age
from pgvae.objectives.base import Context
from pgvae.schedule import SchedulePreset, of_all

# PIONEER's stages, half the rate up to 32 px, larger batches above.
_SCHEDULE = SchedulePreset(
    kimg_per_stage=2400,
    first_share=1.0,
    batch_sizes=of_all(128, 128, 128, 64, 32, 32, 32, 4, 2),
    learning_rates=of_all(5e-4, 5e-4, 5e-4, 5e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3),
)


@dataclass(frozen=True)
class BalancedPioneer(Age):
    """PIONEER whose encoder stops pushing fakes away once they are `margin` from the reals.

    encoder:   max(-10 d margin, KL(E(x)) - KL(E(sg x_f))) + lambda_x d |x - G(E(x))|
    generator: as PIONEER

    At the margin the gradient of both KL vanishes. Spectral normalisation in both networks, no
    pixel norm and no equalized learning rate.

    margin: in units of 10 d nats, as the published code states it (0.1 KL per dimension). Its
            values for CelebA-HQ are those of `stage_settings`.
    """

    margin: float = 0.05

    name: ClassVar[str] = "balanced_pioneer"
    schedule: ClassVar[SchedulePreset] = _SCHEDULE
    pool: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    betas: ClassVar[tuple[float, float]] = (0.0, 0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weight("margin", self.margin)

    def stage_settings(self, resolution: int, *, faded: bool, grown: bool) -> Mapping[str, Any]:
        """The margin of CelebA-HQ's runs: 0.05 up to 32 px, 0 while 64 px fade in, then 0.02."""
        if resolution <= 32:
            margin = 0.05
        elif resolution == 64:
            margin = 0.02 if faded else 0.0
        else:
            margin = 0.02 if resolution == 128 else 0.04
        return {"margin": margin}

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "sphere", "encoder_norm": "spectral", "generator_norm": "spectral"}

    def _game(
        self, kl_real: Tensor, kl_fake: Tensor, latent_dim: int, context: Context
    ) -> dict[str, Tensor]:
        least = -10 * latent_dim * self.margin
        difference = kl_real - kl_fake
        context.report(
            kl_real=kl_real, kl_fake=kl_fake, saturated=(difference <= least).to(torch.float32)
        )
        return {"kl_hinge": difference.clamp(min=least)}
