"""Soft-IntroVAE (Daniel and Tamar, 2021), eq. 4 of AS-IntroVAE's paper."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from pgvae.checks import require_choice, require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import (
    Context,
    Encoded,
    Preset,
    draw_fakes,
    draw_judged,
    draw_others,
    draw_posterior,
    full_size,
    halves,
    nearest_of,
)
from pgvae.objectives.introspective import Introspective, report_kl
from pgvae.sizes import size_at
from pgvae.types import Nets

# Final resolution: beta_kl, beta_rec, beta_neg, latent_dim (the published code's).
_PAPER = {
    32: (1.0, 1.0, 256.0, 128),
    128: (0.2, 0.2, 256.0, 128),
    256: (0.5, 1.0, 1024.0, 256),
}


@dataclass(frozen=True)
class SoftIntroVae(Introspective):
    """IntroVAE's game with exp(2 ELBO) of the images that are not real, in place of a hinge.

    encoder:   s (beta_rec rec + beta_kl KL)
               + 1/4 sum_{t in r, f} mean exp(-2 s (beta_rec rec_t + beta_neg KL_t))
    generator: s (beta_rec rec + beta_kl / 2 (KL_r + KL_f) + gamma_r beta_rec / 2 (rec_r + rec_f))

    s = 1 / (C H W) of the final resolution. rec: error of images in [0, 1], summed over pixels;
    KL: nats, summed over dimensions. rec_t compares x_t with G(z_t), z_t drawn from E(x_t); in the
    generator's phase x_t and z_t there carry no gradient.

    rec:      "mse", "l1" or "bce".
    beta_rec: weight of reconstruction.
    beta_kl:  weight of the KL of real images (encoder) and of the others (generator).
    beta_neg: weight of the KL of the others, in the encoder.
    gamma_r:  weight of the generator's reconstruction of its own images; 0 saves a pass.
    """

    rec: terms.Reconstruction = "mse"
    beta_rec: float = 0.2
    beta_kl: float = 0.2
    beta_neg: float = 256.0
    gamma_r: float = 1e-8

    name: ClassVar[str] = "soft_introvae"

    def __post_init__(self) -> None:
        require_choice("rec", self.rec, get_args(terms.Reconstruction))
        for name in ("beta_rec", "beta_kl", "beta_neg", "gamma_r"):
            require_weight(name, getattr(self, name))

    @classmethod
    def preset(cls, resolution: int) -> Preset:
        """The published code's for the nearest resolution; s takes care of the pixels."""
        _, (beta_kl, beta_rec, beta_neg, latent_dim) = nearest_of(_PAPER, resolution)
        settings = {"beta_kl": beta_kl, "beta_rec": beta_rec, "beta_neg": beta_neg}
        return Preset(settings, "residual", latent_dim)

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "gaussian", "output": "tanh" if self.rec == "bce" else "linear"}

    def _scale(self, nets: Nets) -> float:
        config = nets.generator.config
        return 1 / (config.channels * math.prod(size_at(config.base, config.resolution)))

    def _error(self, nets: Nets, x: Tensor, x_r: Tensor) -> Tensor:
        """beta_rec rec of each image, [N]."""
        return self.beta_rec * full_size(nets, x) * terms.unit_pixel_sum(self.rec, x, x_r)

    def _pretraining_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        scale = self._scale(nets)
        real = draw_posterior(nets, x, context)
        x_r = nets.generator(real.z, context.alpha)
        kl = context.mean(real.kl)
        context.report(l1=context.mean(terms.abs_error(x, x_r)), kl_real=kl)
        return {
            "rec": scale * context.mean(self._error(nets, x, x_r)),
            "kl": scale * self.beta_kl * kl,
        }

    def _encoder_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        scale = self._scale(nets)
        real = draw_posterior(nets, x, context)
        x_r = nets.generator(real.z, context.alpha)
        x_f = draw_fakes(nets, len(x), context)
        judged = draw_judged(nets, x, real, context)
        (others,) = context.shown(torch.cat([x_r.detach(), x_f]))
        both = draw_posterior(nets, others, context)
        errors = self._error(nets, others, nets.generator(both.z, context.alpha))
        reconstructed, fake = both.split()
        report_kl(context, judged, reconstructed, fake)
        context.report(l1=context.mean(terms.abs_error(x, x_r)))
        repelled = torch.cat(self._repelled(judged, reconstructed, fake, context))
        errors = context.whole(errors) + repelled
        exp_rec, exp_fake = torch.exp(-2 * scale * errors).chunk(2)
        return {
            "rec": scale * context.mean(self._error(nets, x, x_r)),
            "kl": scale * self.beta_kl * context.mean(halves(real.kl, judged.kl)),
            "exp_rec": exp_rec.mean() / 4,
            "exp_fake": exp_fake.mean() / 4,
        }

    def _generator_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        scale = self._scale(nets)
        real, others = draw_others(nets, x, context)
        (shown,) = context.shown(others)
        both = draw_posterior(nets, shown, context)
        reconstructed, fake = both.split()
        x_r = others[: len(x)]
        losses = {"rec": scale * context.mean(self._error(nets, x, x_r))}
        model = self._model_of(nets, x, real, context)
        attracted = self._attracted(model, reconstructed, fake, context)
        losses |= {name: scale * value for name, value in attracted.items()}
        if self.gamma_r > 0:
            again = nets.generator(both.z.detach(), context.alpha)
            error = self._error(nets, shown.detach(), again)
            error = context.mean(error)  # over both: half of the sum
            losses["rec_others"] = scale * self.gamma_r * error
        return losses

    def _model_of(self, nets: Nets, x: Tensor, real: Encoded, context: Context) -> Encoded:
        """What the generator's images are compared with: here nothing is."""
        return real

    def _repelled(
        self, real: Encoded, reconstructed: Encoded, fake: Encoded, context: Context
    ) -> tuple[Tensor, Tensor]:
        """What the encoder drives up for each of the whole batch's reconstructed and generated
        images: [N] each."""
        return tuple(self.beta_neg * context.whole(t.kl) for t in (reconstructed, fake))

    def _attracted(
        self, real: Encoded, reconstructed: Encoded, fake: Encoded, context: Context
    ) -> dict[str, Tensor]:
        """What the generator drives down, as named scalars."""
        return {
            "kl_rec": self.beta_kl / 2 * context.mean(reconstructed.kl),
            "kl_fake": self.beta_kl / 2 * context.mean(fake.kl),
        }
