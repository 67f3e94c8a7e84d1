"""The plain autoencoder."""

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from torch import Tensor

from pgvae.checks import require_choice
from pgvae.objectives import terms
from pgvae.objectives.base import Context, Objective, Phase, full_size
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class Ae(Objective):
    """rec(x, G(E(x))) with the posterior's mean as the code: `vae` without noise and KL.

    Nothing draws its codes to N(0, I), so images sampled from there mean little.

    rec: "mse", "l1" or "bce", summed over the pixels of the final resolution.
    """

    rec: terms.Reconstruction = "mse"

    name: ClassVar[str] = "ae"
    phases: ClassVar[tuple[Phase, ...]] = (Phase("both", trains=("encoder", "generator")),)

    def __post_init__(self) -> None:
        require_choice("rec", self.rec, get_args(terms.Reconstruction))

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "gaussian", "output": "tanh" if self.rec == "bce" else "linear"}

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x = batch.images
        x_r = nets.generator(nets.encoder(x, context.alpha).mean, context.alpha)
        context.report(l1=context.mean(terms.abs_error(x, x_r)))
        error = context.mean(terms.pixel_sum(self.rec, x, x_r))
        return {"rec": full_size(nets, x) * error}
