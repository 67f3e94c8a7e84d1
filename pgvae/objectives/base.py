"""What every objective is: phases, and named losses for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from pgvae import ops
from pgvae.config import Arch, OptimizerKind
from pgvae.objectives import terms
from pgvae.objectives.augment import DRAWS, augmented
from pgvae.schedule import PIONEER, SchedulePreset, of_all
from pgvae.types import Batch, Nets

INTROVAE_BATCHES = of_all(64, 64, 64, 64, 64, 64, 32, 12, 8)  # IntroVAE's and IntroVAC's


@dataclass(frozen=True)
class Phase:
    """One kind of update: which networks it trains, and how often per iteration."""

    name: str
    trains: tuple[str, ...]
    repeats: int = 1


@dataclass(frozen=True)
class Context:
    """What an objective may use beside the networks and the batch.

    alpha:    fade of the stage, for both networks: a scalar.
    noise:    shape -> standard normal noise on the networks' device: the one source of randomness.
    replay:   swaps some of a batch of fakes for earlier ones (the image pool).
    progress: share of the run that is done, 0 to 1, pre-training left out: a scalar.
    whole:    values of the images at hand -> those of the whole batch, whatever parts and processes
              it is split into: [m n, ...] -> [m N, ...], where m rows of an image lie n apart.
    augment:  p of `augmented` for what a critic is shown: a scalar; None: shown as it is.

    What is taken over a batch (a mean, moments, a distance of two sets) is taken of `whole` values,
    and what it goes into too: the gradient of one image's values may come by those of another.
    """

    alpha: Tensor
    noise: Callable[[Sequence[int]], Tensor]
    replay: Callable[[Tensor], Tensor] = lambda fakes: fakes
    progress: Tensor = field(default_factory=lambda: torch.zeros(()))
    whole: Callable[[Tensor], Tensor] = lambda values: values
    augment: Tensor | None = None
    reported: dict[str, Tensor] = field(default_factory=dict)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `whole` values."""
        return self.whole(values).mean()

    def shown(self, *sets: Tensor) -> tuple[Tensor, ...]:
        """What a critic is shown in the place of images [N, C, R, R], of one or more sets.

        Where they are augmented, the images of one row are transformed alike in all sets.
        """
        if self.augment is None:
            return sets
        draws = self.noise((len(sets[0]), DRAWS))
        return tuple(augmented(images, draws, self.augment) for images in sets)

    def report(self, **values: Tensor) -> None:
        """Log scalars that are not part of the loss."""
        self.reported.update({name: value.detach() for name, value in values.items()})


@dataclass(frozen=True)
class Preset:
    """A paper's hyperparameters for one final resolution; the user's options go before them.

    settings: of the objective.
    arch, latent_dim: of `ModelConfig`.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    arch: Arch = "pggan"
    latent_dim: int = 512


class Objective:
    """Base class; subclasses are frozen dataclasses of their settings.

    name:         what `--objective` and the log call it.
    phases:       the updates of one iteration, in order, by default.
    pretraining:  the one update of an iteration while it is pre-trained; None where it cannot be.
    schedule:     its paper's.
    pool:         whether fakes are replayed from the image pool.
    grows:        whether it grows by default.
    optimizer:    by default.
    betas:        Adam's.
    min_batch:    fewest images it is defined for.
    needs_labels: whether it learns from labels.
    second_order: whether it learns from derivatives of gradients.

    Where there is a game, what its critic judges goes through `Context.shown`, what is compared
    with pixels does not, and `unreal`, `unreal_made` say how the critic stands.
    """

    name: ClassVar[str]
    phases: ClassVar[tuple[Phase, ...]]
    pretraining: ClassVar[Phase | None] = None
    schedule: ClassVar[SchedulePreset] = PIONEER
    pool: ClassVar[bool] = False
    grows: ClassVar[bool] = True
    optimizer: ClassVar[OptimizerKind] = "adam"
    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)
    min_batch: ClassVar[int] = 1
    needs_labels: ClassVar[bool] = False
    second_order: ClassVar[bool] = False

    @property
    def iteration(self) -> tuple[Phase, ...]:
        """The phases of one iteration as these settings have them; `phases` by default."""
        return self.phases

    @classmethod
    def preset(cls, resolution: int) -> Preset:
        """The paper's hyperparameters for a final resolution, or the nearest it gives."""
        return Preset()

    def stage_settings(self, resolution: int, *, faded: bool, grown: bool) -> Mapping[str, Any]:
        """Settings that differ from its own while one resolution trains.

        faded: after that stage's fade. grown: after the last stage's fade.
        """
        return {}

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        """What the networks must be for this objective, as `ModelConfig` settings."""
        raise NotImplementedError

    def plays_at(self, resolution: int) -> bool:
        """Whether there is a game with a critic at a resolution."""
        return False

    def unreal(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        """How far from real its critic takes images [N, C, R, R], as they are shown: a scalar."""
        raise NotImplementedError

    def unreal_made(self, nets: Nets, images: Tensor, context: Context) -> Tensor:
        """`unreal` of the images that the critic learns to tell from real ones [N, C, R, R]."""
        return self.unreal(nets, draw_fakes(nets, len(images), context), context)

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Named scalars of one phase; their sum is what that phase minimises."""
        raise NotImplementedError


class Encoded(NamedTuple):
    """Posteriors of a batch: mean, log variance and a sample [N, d], and KL to the prior [N]."""

    mu: Tensor
    logvar: Tensor
    z: Tensor
    kl: Tensor

    def detach(self) -> "Encoded":
        """The same without a gradient."""
        return Encoded(*(part.detach() for part in self))

    def split(self) -> tuple["Encoded", "Encoded"]:
        """The two halves of the batch."""
        first, second = zip(*(part.chunk(2) for part in self), strict=True)
        return Encoded(*first), Encoded(*second)


def draw_prior(nets: Nets, count: int, context: Context) -> Tensor:
    """`count` latents [count, d] from the prior of the networks' head."""
    config = nets.generator.config
    return terms.on_prior(config.head, context.noise((count, config.latent_dim)))


def draw_posterior(nets: Nets, images: Tensor, context: Context) -> Encoded:
    """Encode images [N, C, R, R] to Gaussian posteriors and draw a latent from each."""
    mu, logvar = nets.encoder(images, context.alpha)
    return Encoded(mu, logvar, *ops.gaussian_kl_reparam(mu, logvar, context.noise(mu.shape)))


def draw_judged(nets: Nets, images: Tensor, real: Encoded, context: Context) -> Encoded:
    """Posteriors of real images [N, C, R, R] as a critic is shown them; `real`, theirs, where that
    is as they are."""
    if context.augment is None:
        return real
    return draw_posterior(nets, *context.shown(images), context)


def halves(one: Tensor, other: Tensor) -> Tensor:
    """Half of both; `one` as it is where they are the same tensor."""
    return one if one is other else (one + other) / 2


def draw_fakes(nets: Nets, count: int, context: Context) -> Tensor:
    """Images [count, C, R, R] generated from the prior, without a gradient."""
    with torch.no_grad():
        return nets.generator(draw_prior(nets, count, context), context.alpha)


def draw_others(nets: Nets, images: Tensor, context: Context) -> tuple[Encoded, Tensor]:
    """For a generator's phase: posteriors of N real images, without a gradient, and the 2 N images
    that the generator makes, first from latents drawn from those, then from the prior."""
    with torch.no_grad():
        real = draw_posterior(nets, images, context)
    latents = torch.cat([real.z, draw_prior(nets, len(images), context)])
    return real, nets.generator(latents, context.alpha)


def full_size(nets: Nets, images: Tensor) -> float:
    """Pixels of the final resolution over those of `images`.

    A sum over pixels times this keeps its weight against the latent terms as a network grows.
    """
    return (nets.generator.config.resolution / max(images.shape[2:])) ** 2


def nearest_of(table: Mapping[int, Any], resolution: int) -> tuple[int, Any]:
    """The entry of a paper's table whose resolution is nearest in octaves, the lower of two."""
    key = min(table, key=lambda known: (abs(known.bit_length() - resolution.bit_length()), known))
    return key, table[key]
