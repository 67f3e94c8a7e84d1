"""ALI (Dumoulin et al., 2017): a game over pairs of an image and a latent."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.objectives.base import Context, Objective, Phase, Preset, draw_posterior, draw_prior
from pgvae.schedule import PGGAN, SchedulePreset
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class Ali(Objective):
    """A joint discriminator tells (x, z_x) from (x_f, z); the others make that hard (algorithm 1).

    discriminator: s(-D(x, z_x)) + s(D(x_f, z)), of pairs without a gradient
    both:          s(D(x, z_x)) + s(-D(x_f, z))

    with s(t) = log(1 + e^t), z_x drawn from E(x), z from the prior, x_f = G(z). Nothing asks for
    x = G(E(x)): where no pair can be told from another, it follows.
    """

    name: ClassVar[str] = "ali"
    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("both", trains=("encoder", "generator")),
    )
    schedule: ClassVar[SchedulePreset] = PGGAN
    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)

    @classmethod
    def preset(cls, resolution: int) -> Preset:
        return Preset(latent_dim=256)

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "gaussian", "discriminator": "joint"}

    def plays_at(self, resolution: int) -> bool:
        return True

    def unreal(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        z_x = draw_posterior(nets, images, context).z
        return -context.mean(nets.discriminator(*context.shown(images), context.alpha, z_x))

    def unreal_made(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        z = draw_prior(nets, len(images), context)
        (x_f,) = context.shown(nets.generator(z, context.alpha))
        return -context.mean(nets.discriminator(x_f, context.alpha, z))

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x, alpha = batch.images, context.alpha
        judging = phase == "discriminator"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not judging):
            z_x, z = draw_posterior(nets, x, context).z, draw_prior(nets, len(x), context)
            x_f = nets.generator(z, alpha)
        # Passes of their own: what is compared within a minibatch is all real or all made.
        (x,), (x_f,) = context.shown(x), context.shown(x_f)
        real, fake = nets.discriminator(x, alpha, z_x), nets.discriminator(x_f, alpha, z)
        context.report(realism_gap=context.mean(real - fake))
        sign = 1 if judging else -1
        return {
            "real": context.mean(F.softplus(-sign * real)),
            "fake": context.mean(F.softplus(sign * fake)),
        }
