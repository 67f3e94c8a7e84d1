"""The variational autoencoder (Kingma and Welling, 2014)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pgvae.checks import require_weight
from pgvae.objectives import terms
from pgvae.objectives.ae import Ae
from pgvae.objectives.base import Context, draw_posterior, full_size
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class Vae(Ae):
    """rec(x, x_r) + beta_kl KL(E(x)), one phase for both networks.

    rec:     "mse", "l1" or "bce", summed over the pixels of the *final* resolution: at a lower
             one the sum is scaled by the ratio of pixels, so growth leaves the balance alone.
    beta_kl: weight of the KL, summed over dimensions; both terms are means over the batch.
    """

    beta_kl: float = 1.0

    name: ClassVar[str] = "vae"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weight("beta_kl", self.beta_kl)

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x = batch.images
        real = draw_posterior(nets, x, context)
        x_r = nets.generator(real.z, context.alpha)
        kl = context.mean(real.kl)
        context.report(l1=context.mean(terms.abs_error(x, x_r)), kl_real=kl)
        return {
            "rec": full_size(nets, x) * context.mean(terms.pixel_sum(self.rec, x, x_r)),
            "kl": self.beta_kl * kl,
        }
