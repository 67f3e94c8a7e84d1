"""What the tests of objectives share: small networks, and a look at what passes between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from pgvae.config import ModelConfig
from pgvae.nn import build_nets
from pgvae.objectives import Context, Objective
from pgvae.types import Batch, Nets

LATENT_DIM = 6


@dataclass
class Game:
    """Networks, a batch, and a record of every latent decoded and every image encoded."""

    nets: Nets
    batch: Batch
    decoded: list[Tensor] = field(default_factory=list)
    encoded: list[Tensor] = field(default_factory=list)
    alphas: list[float] = field(default_factory=list)
    replayed: list[Tensor] = field(default_factory=list)

    def losses(
        self,
        objective: Objective,
        phase: str,
        *,
        alpha: float = 1.0,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        replay=lambda fakes: fakes,
    ) -> dict[str, Tensor]:
        def recorded_replay(fakes: Tensor) -> Tensor:
            self.replayed.append(fakes)
            return replay(fakes)

        for record in (self.decoded, self.encoded, self.alphas, self.replayed):
            record.clear()
        rng = torch.Generator().manual_seed(seed)
        context = Context(alpha=alpha, weights=weights or {}, rng=rng, replay=recorded_replay)
        return objective.losses(phase, self.nets, self.batch, context)

    def record(self) -> "Game":
        def listen(net: torch.nn.Module, record: list[Tensor]) -> None:
            def hook(_, args, kwargs) -> None:
                record.append(args[0])
                self.alphas.append(float([*args[1:], *kwargs.values(), 1.0][0]))

            net.register_forward_pre_hook(hook, with_kwargs=True)

        listen(self.nets.generator, self.decoded)
        listen(self.nets.encoder, self.encoded)
        return self

    def train_only(self, *names: str) -> None:
        """Let the parameters of the named networks alone require gradients."""
        for name in ("encoder", "generator"):
            getattr(self.nets, name).requires_grad_(name in names)

    def step(self, net: str, loss: Tensor, size: float) -> None:
        """One step of gradient descent of length `size` on `loss`."""
        parameters = list(getattr(self.nets, net).parameters())
        grads = torch.autograd.grad(loss, parameters)
        length = torch.cat([g.flatten() for g in grads]).norm()
        assert length > 0
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter -= size / length * grad


@pytest.fixture
def game():
    """Build a `Game` for an objective: game(objective, count=8, resolution=8, ...)."""

    def build(
        objective: Objective, count: int = 8, resolution: int = 8, fading: bool = False, **settings
    ) -> Game:
        shape = {"resolution": 16, "latent_dim": LATENT_DIM, "fmap_base": 32, "fmap_max": 12}
        config = ModelConfig(**{**shape, **objective.model_settings(), **settings})
        nets = build_nets(config, resolution, fading=fading, seed=1)
        rng = torch.Generator().manual_seed(2)
        images = torch.rand(count, 3, resolution, resolution, generator=rng) * 2 - 1
        return Game(nets, Batch(images)).record()

    return build
