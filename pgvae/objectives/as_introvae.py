"""AS-IntroVAE (Lu et al., 2022), eq. 5-9: Soft-IntroVAE with a distance between posteriors."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from pgvae.checks import require_choice, require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import Context, Encoded, Preset, draw_judged
from pgvae.objectives.soft_introvae import SoftIntroVae
from pgvae.types import Nets, finest

Annealing = Literal["linear", "tanh"]


@dataclass(frozen=True)
class AsIntroVae(SoftIntroVae):
    """Soft-IntroVAE whose KL of images that are not real starts as the AS distance D.

    In the encoder's exponent beta_neg KL_t becomes c beta_neg KL_t + (1 - c) beta_as D; in the
    generator beta_kl KL_t becomes c beta_kl KL_t + (1 - c) beta_gen D. D is `terms.as_distance`
    between the posteriors of real and of generated images, one number for the batch: the encoder
    drives it up, the generator down (eq. 6). c grows from 0 to 1 over the run.

    distance:  "marginal", "tempered" or "cauchy_schwarz", see `terms.as_distance`.
    annealing: c = min(5 t, 1) ("linear", the paper) or tanh(5 t) ("tanh", the published code),
               t the share of the run that is done.
    beta_as:   weight of D in the encoder.
    beta_gen:  weight of D in the generator.
    """

    distance: terms.DistanceForm = "marginal"
    annealing: Annealing = "linear"
    beta_as: float = 256.0
    beta_gen: float = 0.2

    name: ClassVar[str] = "as_introvae"
    min_batch: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("distance", self.distance, get_args(terms.DistanceForm))
        require_choice("annealing", self.annealing, get_args(Annealing))
        for name in ("beta_as", "beta_gen"):
            require_weight(name, getattr(self, name))

    @classmethod
    def preset(cls, resolution: int) -> Preset:
        """Soft-IntroVAE's; D weighs as much as the KL whose place it takes."""
        soft = super().preset(resolution)
        weights = {"beta_as": soft.settings["beta_neg"], "beta_gen": soft.settings["beta_kl"]}
        return replace(soft, settings={**soft.settings, **weights})

    def kl_share(self, progress: Tensor) -> Tensor:
        """c, the weight of the KL against that of D, 0 to 1, float64: the weights it goes into are
        rounded once."""
        grown = 5 * progress.to(finest(progress.device))
        return grown.tanh() if self.annealing == "tanh" else grown.clamp(max=1)

    def _distance(self, real: Encoded, fake: Encoded, context: Context) -> tuple[Tensor, Tensor]:
        c = self.kl_share(context.progress)
        gaussians = (real.mu, real.logvar, fake.mu, fake.logvar)
        distance = terms.as_distance(*map(context.whole, gaussians), self.distance)
        context.report(as_distance=distance, c=c)
        return distance, c

    def _model_of(self, nets: Nets, x: Tensor, real: Encoded, context: Context) -> Encoded:
        with torch.no_grad():
            return draw_judged(nets, x, real, context)

    def _repelled(
        self, real: Encoded, reconstructed: Encoded, fake: Encoded, context: Context
    ) -> tuple[Tensor, Tensor]:
        distance, c = self._distance(real, fake, context)
        apart = ((1 - c) * self.beta_as).float() * distance
        kl = (c * self.beta_neg).float()
        return tuple(kl * context.whole(t.kl) + apart for t in (reconstructed, fake))

    def _attracted(
        self, real: Encoded, reconstructed: Encoded, fake: Encoded, context: Context
    ) -> dict[str, Tensor]:
        distance, c = self._distance(real, fake, context)
        losses = super()._attracted(real, reconstructed, fake, context)
        return {
            **{name: c.float() * value for name, value in losses.items()},
            "distance": ((1 - c) * self.beta_gen).float() * distance,
        }
