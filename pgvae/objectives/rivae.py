"""RIVAE, our own recipe: a VAE whose encoder judges its reconstructions, relativistically.

From IntroVAE (Huang et al., 2018) that E is the critic, from VAE/GAN (Larsen et al., 2016) that it
has a layer of its own for it, from Jolicoeur-Martineau (2019) the relativistic form of the game.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from pgvae import ops
from pgvae.checks import require, require_weight
from pgvae.config import OptimizerKind
from pgvae.objectives import terms
from pgvae.objectives.base import Context, Objective, Phase, Preset, draw_posterior, full_size
from pgvae.schedule import SchedulePreset, of_all
from pgvae.sizes import MAX_RESOLUTION, MIN_RESOLUTION, resolutions_between
from pgvae.types import Batch, Nets

_MOST = 60.0  # e to this is finite
_SCHEDULE = SchedulePreset(
    kimg_per_stage=600,
    first_share=1.0,
    batch_sizes=of_all(16),
    learning_rates=of_all(2e-3),
)


@dataclass(frozen=True)
class Rivae(Objective):
    """Encoder and generator minimise in one phase

    rec + beta_kl KL(E(x)) + game s(D(sg x_r) - D(x)) + game s(D'(x) - D'(x_r))

    with s(t) = log(1 + e^t), D(x) a logit that is linear in the encoder's last features, D' the
    same with its weights held, x_r = G(z) and z drawn from E(x). rec is the pixel sum of squares
    at the final resolution.

    beta_kl:   weight of the KL.
    game:      weight of the game; 0 makes it a VAE.
    game_from: pixels per side from which the game is played; below it is a VAE.
    """

    beta_kl: float = 0.2
    game: float = 20.0
    game_from: int = 16

    name: ClassVar[str] = "rivae"
    phases: ClassVar[tuple[Phase, ...]] = (Phase("both", trains=("encoder", "generator")),)
    schedule: ClassVar[SchedulePreset] = _SCHEDULE
    optimizer: ClassVar[OptimizerKind] = "muon"
    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)

    def __post_init__(self) -> None:
        require_weight("beta_kl", self.beta_kl)
        require_weight("game", self.game)
        require(
            self.game_from in resolutions_between(MIN_RESOLUTION, MAX_RESOLUTION),
            f"game_from is {self.game_from}: use a power of two from 4 to 1024",
        )

    @classmethod
    def preset(cls, resolution: int) -> Preset:
        return Preset(latent_dim=256)

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "gaussian", "critic": True}

    def plays_at(self, resolution: int) -> bool:
        return self.game > 0 and resolution >= self.game_from

    def unreal(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        return -context.mean(nets.encoder(*context.shown(images), context.alpha, judge=True)[1])

    def unreal_made(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        z = draw_posterior(nets, images, context).z
        return self.unreal(nets, nets.generator(z, context.alpha), context)

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        x = batch.images
        (mu, logvar), real = nets.encoder(x, context.alpha, judge=True)
        z, kl = ops.gaussian_kl_reparam(mu, logvar, context.noise(mu.shape))
        x_r = nets.generator(z, context.alpha)
        kl_real = context.mean(kl)
        context.report(l1=context.mean(terms.abs_error(x, x_r)), kl_real=kl_real)
        losses = {
            "rec": full_size(nets, x) * context.mean(terms.pixel_sum("mse", x, x_r)),
            "kl": self.beta_kl * kl_real,
        }
        if not self.plays_at(max(x.shape[2:])):
            return losses
        # One pass over the reconstructions, and one back, serve both sides: no layer mixes images,
        # so D' moves x_r along what D(sg x_r) would, -s'(D - D_r) / s'(D_r - D) times as far.
        shown = x_r.view_as(x_r)
        as_real, as_made = context.shown(x, shown)  # each beside its own, transformed alike
        if as_real is not x:
            _, real = nets.encoder(as_real, context.alpha, judge=True)
        _, made = nets.encoder(as_made, context.alpha, judge=True)
        context.report(realism_gap=context.mean(real - made))
        if shown.requires_grad:
            turn = -(real - made).detach().clamp_max(_MOST).exp()[:, None, None, None]
            shown.register_hook(lambda gradient: (turn * gradient).to(gradient.dtype))
        return {
            **losses,
            "critic": self.game * context.mean(F.softplus(made - real)),
            "fool": self.game * context.mean(F.softplus(real - made)).detach(),
        }
