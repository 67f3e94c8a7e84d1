"""The variational autoencoder (Kingma and Welling, 2014)."""

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from pgvae import ops
from pgvae.config import require_choice, require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import Context, Objective, Phase
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class Vae(Objective):
    """rec(x, x_r) + beta_kl KL(E(x)), one phase for both networks.

    rec:     "mse", "l1" or "bce", summed over the pixels of the *final* resolution: at a lower
             one the sum is scaled by the ratio of pixels, so growth leaves the balance alone.
    beta_kl: weight of the KL, summed over dimensions; both terms are means over the batch.
    """

    rec: terms.Reconstruction = "mse"
    beta_kl: float = 1.0

    name: ClassVar[str] = "vae"
    phases: ClassVar[tuple[Phase, ...]] = (Phase("both", trains=("encoder", "generator")),)

    def __post_init__(self) -> None:
        require_choice("rec", self.rec, get_args(terms.Reconstruction))
        require_weight("beta_kl", self.beta_kl)

    def model_settings(self) -> dict[str, Any]:
        output = "tanh" if self.rec == "bce" else "linear"
        return {"head": "gaussian", "encoder_norm": "equalized", "output": output}

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x = batch.images
        mu, logvar = nets.encoder(x, context.alpha)
        noise = torch.randn(mu.shape, generator=context.rng, device=mu.device)
        z, kl = ops.gaussian_kl_reparam(mu, logvar, noise)
        x_r = nets.generator(z, context.alpha)
        full_size = (nets.generator.config.resolution / x.shape[-1]) ** 2
        context.report(l1=terms.mean_abs_error(x, x_r), kl=kl.mean())
        return {
            "rec": full_size * terms.pixel_sum(self.rec, x, x_r),
            "kl": self.beta_kl * context.weight("beta_kl") * kl.mean(),
        }
