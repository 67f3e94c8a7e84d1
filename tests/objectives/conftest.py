"""What the tests of objectives share: small networks, and a look at what passes between them."""

from dataclasses import dataclass, field

import pytest
import torch
from float64_world import World, make_world
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
    reported: dict[str, Tensor] = field(default_factory=dict)

    def losses(
        self,
        objective: Objective,
        phase: str,
        *,
        alpha: float = 1.0,
        progress: float = 0.0,
        seed: int = 0,
        replay=lambda fakes: fakes,
    ) -> dict[str, Tensor]:
        def recorded_replay(fakes: Tensor) -> Tensor:
            self.replayed.append(fakes)
            return replay(fakes)

        for record in (self.decoded, self.encoded, self.alphas, self.replayed):
            record.clear()
        rng = torch.Generator().manual_seed(seed)
        context = Context(
            alpha=torch.tensor(alpha, dtype=torch.float64),
            noise=lambda shape: torch.randn(shape, generator=rng),
            replay=recorded_replay,
            progress=torch.tensor(progress),
        )
        self.reported = context.reported
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
    """Build a `Game` for an objective: game(objective, count=8, resolution=8, labels=...)."""

    def build(
        objective: Objective,
        count: int = 8,
        resolution: int = 8,
        fading: bool = False,
        labels: Tensor | None = None,
        **settings,
    ) -> Game:
        rng = torch.Generator().manual_seed(2)
        images = torch.rand(count, 3, resolution, resolution, generator=rng) * 2 - 1
        if labels is None:
            labels = torch.randint(0, 2, (count, 2), generator=rng).float()
        shape = {"resolution": 16, "latent_dim": LATENT_DIM, "fmap_base": 32, "fmap_max": 12}
        wanted = objective.model_settings(labels.shape[1])
        nets = build_nets(
            ModelConfig(**{**shape, **wanted, **settings}), resolution, fading=fading, seed=1
        )
        return Game(nets, Batch(images, labels)).record()

    return build


@pytest.fixture
def world():
    """Build a float64 `World` for an objective: world(objective, count=5, resolution=8, ...)."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)

    def build(
        objective: Objective,
        count: int = 5,
        resolution: int = 8,
        labels: Tensor | None = None,
        seed: int = 3,
    ) -> World:
        return make_world(objective, count=count, resolution=resolution, labels=labels, seed=seed)

    yield build
    torch.set_default_dtype(before)
