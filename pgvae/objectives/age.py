"""AGE: the adversarial generator-encoder game (Ulyanov et al., 2018), eq. 1-6 of PIONEER."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgvae.checks import require_switch, require_weight
from pgvae.objectives import terms
from pgvae.objectives.base import Context, Objective, Phase, draw_fakes, draw_prior, halves
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class Age(Objective):
    """Encoder and generator play over the KL of the generated images' codes.

    encoder:   KL(E(x)) - KL(E(sg x_f)) + lambda_x d |x - G(E(x))|   (eq. 4)
    generator: KL(E(x_f)) + lambda_z (1 - <z, E(x_f)>)               (eq. 6)
               and, if asked for, lambda_x d |x - G(sg E(x))| in one of its two updates
    pre-training, if any, of both as an autoencoder: KL(E(x)) + lambda_x d |x - G(E(x))|

    KL is `terms.moment_kl`, summed over the d dimensions; |.| is the mean over pixels.

    lambda_x: weight of the image reconstruction, in units of d.
    lambda_z: weight of the latent reconstruction. PIONEER's paper says 1000 d; its code works
              out at 1000, as its cosine is averaged over d. The code's value is the default.
    rec_to_generator: whether the generator learns from the image reconstruction too.
    """

    lambda_x: float = 10.0
    lambda_z: float = 1000.0
    rec_to_generator: bool = False

    name: ClassVar[str] = "age"
    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("encoder", trains=("encoder",)),
        Phase("generator", trains=("generator",), repeats=2),
    )
    pretraining: ClassVar[Phase] = Phase("pretrain", trains=("encoder", "generator"))
    grows: ClassVar[bool] = False
    min_batch: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require_weight("lambda_x", self.lambda_x)
        require_weight("lambda_z", self.lambda_z)
        require_switch("rec_to_generator", self.rec_to_generator)

    @property
    def iteration(self) -> tuple[Phase, ...]:
        if not self.rec_to_generator:
            return self.phases
        encoder, generator = self.phases
        once = replace(generator, repeats=1)
        return encoder, once, replace(once, name="generator_rec")

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "sphere", "encoder_norm": "equalized", "generator_norm": "pixel"}

    def plays_at(self, resolution: int) -> bool:
        return True

    def unreal(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        codes = nets.encoder(*context.shown(images), context.alpha).mean
        return terms.moment_kl(context.whole(codes))

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        losses = {
            "pretrain": self._pretraining_losses,
            "encoder": self._encoder_losses,
            "generator": self._generator_losses,
            "generator_rec": self._generator_rec_losses,
        }
        return losses[phase](nets, batch, context)

    def _pretraining_losses(self, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x, alpha = batch.images, context.alpha
        z = nets.encoder(x, alpha).mean
        error = context.mean(terms.abs_error(x, nets.generator(z, alpha)))
        kl = terms.moment_kl(context.whole(z))
        context.report(l1=error, kl_real=kl)
        return {"kl": kl, "rec_x": self.lambda_x * z.shape[1] * error}

    def _encoder_losses(self, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x, alpha = batch.images, context.alpha
        fakes = context.replay(draw_fakes(nets, len(x), context))
        sets = [x, fakes]
        if context.augment is not None:
            sets = [x, *context.shown(torch.cat([fakes, x]))]
        # One pass over all: each weight is normalised once, and no layer mixes images.
        codes = nets.encoder(torch.cat(sets), alpha).mean
        error = context.mean(terms.abs_error(x, nets.generator(codes[: len(x)], alpha)))
        whole = context.whole(codes).chunk(len(codes) // len(x))
        kl_real, kl_fake, *kl_shown = map(terms.moment_kl, whole)
        kl_real = halves(kl_real, *kl_shown or [kl_real])
        context.report(l1=error, kl_gap=kl_fake - kl_real)
        rec_x = self.lambda_x * codes.shape[1] * error
        return {**self._game(kl_real, kl_fake, codes.shape[1], context), "rec_x": rec_x}

    def _game(
        self, kl_real: Tensor, kl_fake: Tensor, latent_dim: int, context: Context
    ) -> dict[str, Tensor]:
        """The encoder's side of the game, as named scalars."""
        return {"kl_real": kl_real, "kl_fake": -kl_fake}

    def _generator_losses(self, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        z = draw_prior(nets, len(batch.images), context)
        x_f = nets.generator(z, context.alpha)
        sets = [x_f] if context.augment is None else [x_f, *context.shown(x_f)]
        codes = nets.encoder(torch.cat(sets), context.alpha).mean
        z_fake = codes[: len(z)]
        distance = context.mean(terms.cosine_distance(z, z_fake))
        context.report(cosine_distance=distance)
        return {
            "kl_fake": terms.moment_kl(context.whole(codes).chunk(len(sets))[-1]),
            "rec_z": self.lambda_z * distance,
        }

    def _generator_rec_losses(
        self, nets: Nets, batch: Batch, context: Context
    ) -> dict[str, Tensor]:
        x, alpha = batch.images, context.alpha
        with torch.no_grad():
            z_real = nets.encoder(x, alpha).mean
        error = context.mean(terms.abs_error(x, nets.generator(z_real, alpha)))
        context.report(l1=error)
        rec_x = self.lambda_x * z_real.shape[1] * error
        return {**self._generator_losses(nets, batch, context), "rec_x": rec_x}
