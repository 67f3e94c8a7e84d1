"""What every objective is: phases, and named losses for each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgvae.objectives import terms
from pgvae.types import Batch, Nets


@dataclass(frozen=True)
class Phase:
    """One kind of update: which networks it trains, and how often per iteration."""

    name: str
    trains: tuple[str, ...]
    repeats: int = 1


@dataclass(frozen=True)
class Context:
    """What an objective may use beside the networks and the batch.

    alpha:   fade of the stage, for both networks.
    weights: factors on the objective's own weights, by name; absent means 1.
    rng:     source of all randomness, on the networks' device.
    replay:  swaps some of a batch of fakes for earlier ones (the image pool).
    """

    alpha: float
    weights: Mapping[str, float]
    rng: torch.Generator
    replay: Callable[[Tensor], Tensor]
    reported: dict[str, Tensor] = field(default_factory=dict)

    def report(self, **values: Tensor) -> None:
        """Log scalars that are not part of the loss."""
        self.reported.update({name: value.detach() for name, value in values.items()})

    def weight(self, name: str) -> float:
        """The stage's factor on weight `name`."""
        return self.weights.get(name, 1.0)


class Objective:
    """Base class; subclasses are frozen dataclasses of their weights.

    name:     what `--objective` and the log call it.
    phases:   the updates of one iteration, in order.
    model:    `ModelConfig` settings it needs, such as the encoder's head.
    pool:     whether fakes are replayed from the image pool.
    grows:    whether it grows by default.
    grown_weights: `Stage.weights` after growth.
    """

    name: ClassVar[str]
    phases: ClassVar[tuple[Phase, ...]]
    pool: ClassVar[bool] = False
    grows: ClassVar[bool] = True
    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)
    grown_weights: ClassVar[Mapping[str, float]] = {}

    def model_settings(self) -> dict[str, Any]:
        """What the networks must be for this objective, as `ModelConfig` settings."""
        raise NotImplementedError

    def losses(self, phase: str, nets: Nets, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Named scalars of one phase; their sum is what that phase minimises."""
        raise NotImplementedError


def draw_prior(nets: Nets, count: int, context: Context) -> Tensor:
    """`count` latents [count, d] from the prior of the networks' head."""
    config = nets.generator.config
    return terms.sample_prior(config.head, count, config.latent_dim, context.rng)
