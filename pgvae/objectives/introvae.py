"""IntroVAE (Huang et al., 2018), eq. 11 and 12 and algorithm 1."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from pgvae.checks import require_choice, require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import (
    Context,
    Preset,
    draw_fakes,
    draw_judged,
    draw_others,
    draw_posterior,
    halves,
    nearest_of,
)
from pgvae.objectives.introspective import Introspective, report_kl
from pgvae.types import Nets

Hinge = Literal["sample", "batch"]

# Final resolution: margin, alpha, beta, latent_dim (section 4.1 and appendix D).
_PAPER = {
    128: (110.0, 0.25, 0.5, 256),
    256: (120.0, 0.25, 0.05, 512),
    1024: (90.0, 0.25, 0.0025, 512),
}


@dataclass(frozen=True)
class IntroVae(Introspective):
    """Encoder and generator play over the KL of reconstructed and generated images.

    encoder:   KL(E(x)) + alpha sum_{s in r, f} [margin - KL(E(sg x_s))]_+ + beta rec  (eq. 11)
    generator: alpha sum_{s in r, f} KL(E(x_s)) + beta rec                             (eq. 12)

    KL: nats, summed over dimensions. rec: squared error of images in [0, 1], summed over the
    pixels of the final resolution (the published code's; the paper halves it). Both are means
    over the batch. x_r = G(z), z drawn from E(x); the generator's phase draws it again, from the
    encoder as it then is, with no gradient to it.

    margin: KL in nats up to which the encoder drives images that are not real from the prior.
    alpha:  weight of the game; 0 is a VAE.
    beta:   weight of rec.
    hinge:  [.]_+ of each image's KL ("sample", the paper) or of the batch's mean ("batch", the
            published code).
    """

    margin: float = 110.0
    alpha: float = 0.25
    beta: float = 0.5
    hinge: Hinge = "sample"

    name: ClassVar[str] = "introvae"

    def __post_init__(self) -> None:
        for name in ("margin", "alpha", "beta"):
            require_weight(name, getattr(self, name))
        require_choice("hinge", self.hinge, get_args(Hinge))

    @classmethod
    def preset(cls, resolution: int) -> Preset:
        """The paper's; beta is scaled to the pixels of a resolution that it does not give."""
        known, (margin, alpha, beta, latent_dim) = nearest_of(_PAPER, resolution)
        beta *= (known / resolution) ** 2
        settings = {"margin": margin, "alpha": alpha, "beta": beta}
        return Preset(settings, "residual", latent_dim)

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "gaussian"}

    def plays_at(self, resolution: int) -> bool:
        return self.alpha > 0

    def _rec(self, nets: Nets, x: Tensor, x_r: Tensor, context: Context) -> Tensor:
        context.report(l1=context.mean(terms.abs_error(x, x_r)))
        error = context.mean(terms.unit_pixel_sum("mse", x, x_r))
        # The paper's beta is for squares: other images count as squares of their longer side.
        pixels = nets.generator.config.resolution**2 / math.prod(x.shape[2:])
        return self.beta * pixels * error

    def _pretraining_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        real = draw_posterior(nets, x, context)
        x_r = nets.generator(real.z, context.alpha)
        kl = context.mean(real.kl)
        context.report(kl_real=kl)
        return {"rec": self._rec(nets, x, x_r, context), "kl": kl}

    def _encoder_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        real = draw_posterior(nets, x, context)
        x_r = nets.generator(real.z, context.alpha)
        x_f = draw_fakes(nets, len(x), context)
        judged = draw_judged(nets, x, real, context)
        others = context.shown(torch.cat([x_r.detach(), x_f]))
        both = draw_posterior(nets, *others, context)
        reconstructed, fake = both.split()
        report_kl(context, judged, reconstructed, fake)
        context.report(saturated=context.mean((both.kl >= self.margin).float()))
        return {
            "rec": self._rec(nets, x, x_r, context),
            "kl": context.mean(halves(real.kl, judged.kl)),
            "hinge_rec": self.alpha * self._below_margin(context.whole(reconstructed.kl)),
            "hinge_fake": self.alpha * self._below_margin(context.whole(fake.kl)),
        }

    def _below_margin(self, kl: Tensor) -> Tensor:
        kl = kl.mean() if self.hinge == "batch" else kl
        return (self.margin - kl).clamp(min=0).mean()

    def _generator_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        _, others = draw_others(nets, x, context)
        reconstructed, fake = draw_posterior(nets, *context.shown(others), context).split()
        return {
            "rec": self._rec(nets, x, others[: len(x)], context),
            "kl_rec": self.alpha * context.mean(reconstructed.kl),
            "kl_fake": self.alpha * context.mean(fake.kl),
        }
