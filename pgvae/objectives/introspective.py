"""What IntroVAE and its successors share: phases, pre-training as a VAE, KL to watch."""

from typing import ClassVar

from torch import Tensor

from pgvae.objectives.base import (
    INTROVAE_BATCHES,
    Context,
    Encoded,
    Objective,
    Phase,
    draw_posterior,
)
from pgvae.schedule import SchedulePreset, of_all
from pgvae.types import Batch, Nets

# IntroVAE's batches and rate; 200 epochs of CelebA-HQ's 29,000, the first as a VAE. The paper does
# not give the length.
_INTROVAE = SchedulePreset(
    kimg_per_stage=5800,
    first_share=1.0,
    batch_sizes=INTROVAE_BATCHES,
    learning_rates=of_all(2e-4),
    pretrain_share=1 / 200,
)


class Introspective(Objective):
    """An encoder that is its own discriminator, by the KL of the images it is shown."""

    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("encoder", trains=("encoder",)),
        Phase("generator", trains=("generator",)),
    )
    pretraining: ClassVar[Phase] = Phase("pretrain", trains=("encoder", "generator"))
    schedule: ClassVar[SchedulePreset] = _INTROVAE
    grows: ClassVar[bool] = False
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    def plays_at(self, resolution: int) -> bool:
        return True

    def unreal(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        return context.mean(draw_posterior(nets, *context.shown(images), context).kl)

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        losses = {
            "pretrain": self._pretraining_losses,
            "encoder": self._encoder_losses,
            "generator": self._generator_losses,
        }
        return losses[phase](nets, batch.images, context)

    def _pretraining_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        raise NotImplementedError

    def _encoder_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        raise NotImplementedError

    def _generator_losses(self, nets: Nets, x: Tensor, context: Context) -> dict[str, Tensor]:
        raise NotImplementedError


def report_kl(context: Context, real: Encoded, reconstructed: Encoded, fake: Encoded) -> None:
    """Log the KL of real, reconstructed and generated images, and how far fakes are above reals."""
    kl_real, kl_rec, kl_fake = (context.mean(of.kl) for of in (real, reconstructed, fake))
    context.report(kl_real=kl_real, kl_rec=kl_rec, kl_fake=kl_fake, kl_gap=kl_fake - kl_real)
