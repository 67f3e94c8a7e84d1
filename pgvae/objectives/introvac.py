"""IntroVAC (Maggipinto et al., 2020), eq. 3-7 and algorithm 1."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.checks import require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import (
    Context,
    Encoded,
    Phase,
    draw_fakes,
    draw_judged,
    draw_others,
    draw_posterior,
    halves,
)
from pgvae.objectives.vac import Vac
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class IntroVac(Vac):
    """VAC whose classifier has one logit more, "fake", for a game over the images it makes.

    encoder and C: b_ae |x - x_r| + b_cl BCE(C(z_r), [y, 0]) + b_reg KL / d
                   + b_ec (BCE(fake(E(sg x_r)), 1) + BCE(fake(E(sg x_f)), 1))
    generator:     b_ae |x - x_r| + b_g (BCE(C(E(x_r)), [y, 0]) + BCE(fake(E(x_f)), 0))

    E(x_r) and E(x_f) stand for the posterior's mean. The generator's x_r is decoded from latents
    that carry no gradient, drawn from the encoder as it then is.

    b_ec, b_g: weights of the game in the encoder and in the generator.
    """

    b_ec: float = 0.01
    b_g: float = 5.0

    name: ClassVar[str] = "introvac"
    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("encoder", trains=("encoder",)),
        Phase("generator", trains=("generator",)),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("b_ec", "b_g"):
            require_weight(name, getattr(self, name))

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return super().model_settings(attributes + 1)

    def plays_at(self, resolution: int) -> bool:
        return True

    def unreal(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        return context.mean(self._fake_logits(nets, *context.shown(images), context))

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        if phase == "encoder":
            return self._encoder_losses(nets, batch, context)
        return self._generator_losses(nets, batch, context)

    def _encoder_losses(self, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x = batch.images
        real = draw_posterior(nets, x, context)
        x_r = nets.generator(real.z, context.alpha)
        x_f = draw_fakes(nets, len(x), context)
        others = context.shown(torch.cat([x_r.detach(), x_f]))
        fake = context.whole(self._fake_logits(nets, *others, context))
        context.report(fakes_found=(fake > 0).float().mean())
        return {
            "rec": self._rec(x, x_r, context),
            "class": self.b_cl * self._classes(nets, batch, real, context),
            "kl": self._kl(real, context),
            # Twice the mean over both halves is the sum of their means.
            "fake": 2 * self.b_ec * _bce(fake, 1.0),
        }

    def _generator_losses(self, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x = batch.images
        _, others = draw_others(nets, x, context)
        codes = nets.encoder(*context.shown(others), context.alpha).mean
        logits = nets.encoder.classify(codes)
        of_r, of_f = context.whole(logits).chunk(2)
        return {
            "rec": self._rec(x, others[: len(x)], context),
            "class_rec": self.b_g
            * terms.known_bce(of_r, self._targets(context.whole(batch.labels))),
            "fake": self.b_g * _bce(of_f[:, -1], 0.0),
        }

    def _classes(self, nets: Nets, batch: Batch, real: Encoded, context: Context) -> Tensor:
        """BCE of C on codes of real images, half of it as they are shown."""
        judged = draw_judged(nets, batch.images, real, context)
        of_judged = self._classification(nets, judged, batch.labels, context)
        if judged is real:
            return of_judged
        return halves(self._classification(nets, real, batch.labels, context), of_judged)

    def _fake_logits(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        return nets.encoder.classify(nets.encoder(images, context.alpha).mean)[:, -1]

    def _targets(self, labels: Tensor) -> Tensor:
        return F.pad(labels, (0, 1))  # the last logit says fake: 0


def _bce(logits: Tensor, target: float) -> Tensor:
    """Mean binary cross entropy against one target for all."""
    return terms.known_bce(logits, torch.full_like(logits, target))
