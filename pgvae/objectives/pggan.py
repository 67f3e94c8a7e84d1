"""PGGAN (Karras et al., 2018): a pure GAN that grows, by the Wasserstein distance. No encoder."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from pgvae.checks import require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import Context, Objective, Phase, draw_fakes, draw_prior
from pgvae.schedule import PGGAN, SchedulePreset
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class Pggan(Objective):
    """WGAN-GP (Gulrajani et al., 2017, eq. 3) with a drift term (PGGAN, appendix A.1).

    discriminator: D(sg x_f) - D(x) + penalty (|grad D(x_i)| - 1)^2 + drift D(x)^2
    generator:     -D(x_f)

    x_i lies between x and x_f, each at a uniform share of the way of its own; |.| is the length of
    the gradient in all pixels of an image. One update of D for one of G.

    penalty: weight of the gradient penalty.
    drift:   weight that keeps scores near 0.
    """

    penalty: float = 10.0
    drift: float = 0.001

    name: ClassVar[str] = "pggan"
    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",)),
    )
    schedule: ClassVar[SchedulePreset] = PGGAN
    second_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_weight("penalty", self.penalty)
        require_weight("drift", self.drift)

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {
            "encoder": False,
            "discriminator": "image",
            "head": "sphere",
            "unit_variance": True,
            "order": "act_norm",
            "encoder_norm": "equalized",
            "generator_norm": "pixel",
        }

    def plays_at(self, resolution: int) -> bool:
        return True

    def unreal(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        return -context.mean(nets.discriminator(*context.shown(images), context.alpha))

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x, alpha = batch.images, context.alpha
        if phase == "generator":
            x_f = nets.generator(draw_prior(nets, len(x), context), alpha)
            return {"fool": self.unreal(nets, x_f, context)}
        (x_f,) = context.shown(draw_fakes(nets, len(x), context))
        (x,) = context.shown(x)
        share = terms.uniform(context.noise((len(x), 1)))[:, :, None, None]
        # Passes of their own: what is compared within a minibatch is all real or all made.
        real, fake = nets.discriminator(x, alpha), nets.discriminator(x_f, alpha)
        slope = terms.gradient_norm(
            lambda images: nets.discriminator(images, alpha), x + share * (x_f - x)
        )
        gap = context.mean(real - fake)
        context.report(realism_gap=gap, slope=context.mean(slope))
        return {
            "critic": -gap,
            "penalty": self.penalty * context.mean((slope - 1).square()),
            "drift": self.drift * context.mean(real.square()),
        }
