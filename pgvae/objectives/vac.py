"""VAC, the variational classifier of IntroVAC's paper (Maggipinto et al., 2020), eq. 4 and 5."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgvae.checks import require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import (
    INTROVAE_BATCHES,
    Context,
    Encoded,
    Objective,
    Phase,
    Preset,
    draw_posterior,
)
from pgvae.schedule import SchedulePreset, of_all
from pgvae.types import Batch, Nets

# IntroVAC's: 150 epochs, the rate halved after 60, 90 and 120; of 30,000 images, as its parts of
# CelebA are about that large when balanced.
_INTROVAC = SchedulePreset(
    kimg_per_stage=4500,
    first_share=1.0,
    batch_sizes=INTROVAE_BATCHES,
    learning_rates=of_all(2e-4),
    milestones=(0.4, 0.6, 0.8),
)


@dataclass(frozen=True)
class Vac(Objective):
    """A VAE with a linear classifier C of the attributes on its latents; one joint phase.

    b_ae |x - x_r| + b_cl BCE(C(z_r), y) + b_reg KL / d

    |.| is the mean over batch and pixels, BCE the mean over the labels that are known, KL / d the
    mean over dimensions (the published code's; the paper writes the sum). z_r is drawn from E(x).

    b_ae, b_cl, b_reg: weights.
    """

    b_ae: float = 100.0
    b_cl: float = 10.0
    b_reg: float = 3.0

    name: ClassVar[str] = "vac"
    phases: ClassVar[tuple[Phase, ...]] = (Phase("both", trains=("encoder", "generator")),)
    schedule: ClassVar[SchedulePreset] = _INTROVAC
    grows: ClassVar[bool] = False
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("b_ae", "b_cl", "b_reg"):
            require_weight(name, getattr(self, name))

    @classmethod
    def preset(cls, resolution: int) -> Preset:
        """The paper's networks; its weights, of means, hold at any resolution."""
        return Preset(arch="residual", latent_dim=256)

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "gaussian", "classes": attributes}

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        real = draw_posterior(nets, batch.images, context)
        return {
            "rec": self._rec(batch.images, nets.generator(real.z, context.alpha), context),
            "class": self.b_cl * self._classification(nets, real, batch.labels, context),
            "kl": self._kl(real, context),
        }

    def _rec(self, x: Tensor, x_r: Tensor, context: Context) -> Tensor:
        error = context.mean(terms.abs_error(x, x_r))
        context.report(l1=error)
        return self.b_ae * error

    def _kl(self, real: Encoded, context: Context) -> Tensor:
        kl = context.mean(real.kl)
        context.report(kl_real=kl)
        return self.b_reg * kl / real.mu.shape[1]

    def _classification(
        self, nets: Nets, real: Encoded, labels: Tensor, context: Context
    ) -> Tensor:
        """BCE of C(z_r); also logs the accuracy of C on the posteriors' means."""
        with torch.no_grad():
            guesses = context.whole(nets.encoder.classify(real.mu)[:, : labels.shape[1]])
        labels = context.whole(labels)
        context.report(accuracy=terms.known_accuracy(guesses, labels))
        logits = context.whole(nets.encoder.classify(real.z))
        return terms.known_bce(logits, self._targets(labels))

    def _targets(self, labels: Tensor) -> Tensor:
        """What C should say of real images."""
        return labels
