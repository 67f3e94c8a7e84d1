"""What IntroVAE and its successors share: phases, pre-training as a VAE, KL to watch."""

from typing import ClassVar

from torch import Tensor

from pgvae.objectives.base import Context, Encoded, Objective, Phase
from pgvae.types import Batch, Nets


class Introspective(Objective):
    """An encoder that is its own discriminator, by the KL of the images it is shown."""

    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("encoder", trains=("encoder",)),
        Phase("generator", trains=("generator",)),
    )
    pretraining: ClassVar[Phase] = Phase("pretrain", trains=("encoder", "generator"))
    schedule: ClassVar[str] = "introvae"
    grows: ClassVar[bool] = False
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

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
    kl_real, kl_fake = real.kl.mean(), fake.kl.mean()
    context.report(
        kl_real=kl_real, kl_rec=reconstructed.kl.mean(), kl_fake=kl_fake, kl_gap=kl_fake - kl_real
    )
