"""A world to try objectives in: networks, a batch, and a record of what passes between them.

`smooth_world` has small smooth networks in float64: a loss can be recomputed there from its
equation to nine digits, with its gradient. `World.prior` and `World.latents_of` give the latents
that the objective decoded, found by content, so that a reference need not know in which order, or
in how many calls, the code draws and decodes. `small_world` has a run's networks, in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.nn import build_nets
from pgvae.nn.encoder import Judged
from pgvae.objectives import OBJECTIVES, Context, Objective, Phase
from pgvae.types import Batch, Nets, Posterior

FINAL, D = 8, 3  # of a smooth world: the run's last resolution, the dimensions of a latent
NAN = float("nan")
LABELS = torch.tensor(
    [[0.0, 1.0], [1.0, 1.0], [NAN, 0.0], [1.0, NAN], [NAN, NAN]], dtype=torch.float64
)


def an(name: str) -> Objective:
    """The objective of that name, with all of its terms at the 8 px of a world."""
    return OBJECTIVES[name](**({"game_from": 4} if name == "rivae" else {}))


def phases_of(name: str) -> list[Phase]:
    """The phases of an objective and of its pre-training."""
    kind = OBJECTIVES[name]
    return [*kind.phases, *([kind.pretraining] if kind.pretraining else [])]


def weights(rng: torch.Generator, inputs: int, outputs: int, gain: float = 1.0) -> nn.Parameter:
    values = torch.randn(inputs, outputs, generator=rng, dtype=torch.float64)
    return nn.Parameter(gain * values / inputs**0.5)


class SmoothEncoder(nn.Module):
    """Images to a posterior through one layer of tanh; `alpha` scales what it sees."""

    def __init__(self, config: ModelConfig, resolution: int, rng: torch.Generator) -> None:
        super().__init__()
        self.config, self.resolution = config, resolution
        outputs = config.latent_dim * (1 if config.head == "sphere" else 2)
        self.first = weights(rng, config.channels * resolution**2, 16, gain=2.0)
        self.second = weights(rng, 16, outputs, gain=2.0)
        if config.classes:
            self.classifier = weights(rng, config.latent_dim, config.classes)
        if config.critic:
            self.critic = weights(rng, 16, 1)

    def features(self, images: Tensor, alpha: Tensor) -> Tensor:
        return torch.tanh(alpha * images.flatten(1) @ self.first)

    def forward(self, images: Tensor, alpha: Tensor, judge: bool = False) -> Posterior | Judged:
        features = self.features(images, alpha)
        codes = features @ self.second
        if self.config.head == "sphere":
            posterior = Posterior(F.normalize(codes, dim=1))
        else:
            mean, logvar = codes.chunk(2, dim=1)
            posterior = Posterior(mean, logvar - 0.5)
        return Judged(posterior, (features @ self.critic)[:, 0]) if judge else posterior

    def classify(self, latents: Tensor) -> Tensor:
        return latents @ self.classifier


class SmoothDiscriminator(nn.Module):
    """Images, and for a joint one latents, to scores through one layer of tanh, scaled as above."""

    def __init__(self, config: ModelConfig, resolution: int, rng: torch.Generator) -> None:
        super().__init__()
        self.first = weights(rng, config.channels * resolution**2, 16, gain=2.0)
        self.second = weights(rng, 16, 1, gain=2.0)
        if config.discriminator == "joint":
            self.latent = weights(rng, config.latent_dim, 16)

    def forward(self, images: Tensor, alpha: Tensor, latents: Tensor | None = None) -> Tensor:
        hidden = alpha * images.flatten(1) @ self.first
        if latents is not None:
            hidden = hidden + latents @ self.latent
        return (torch.tanh(hidden) @ self.second)[:, 0]


class SmoothGenerator(nn.Module):
    """Latents to images within (-1, 1); `alpha` scales the latents."""

    def __init__(self, config: ModelConfig, resolution: int, rng: torch.Generator) -> None:
        super().__init__()
        self.config, self.resolution = config, resolution
        self.first = weights(rng, config.latent_dim, 16)
        self.second = weights(rng, 16, config.channels * resolution**2)

    def forward(self, latents: Tensor, alpha: Tensor) -> Tensor:
        pixels = torch.tanh(torch.tanh(alpha * latents @ self.first) @ self.second)
        return pixels.view(len(latents), self.config.channels, self.resolution, self.resolution)


@dataclass
class World:
    """Networks, a batch, and what one call of `losses` drew, decoded, replayed and reported."""

    nets: Nets
    batch: Batch
    alpha: float
    listening: bool = False
    drawn: list[Tensor] = field(default_factory=list)
    decoded: list[Tensor] = field(default_factory=list)
    replayed: list[Tensor] = field(default_factory=list)
    alphas: dict[str, set[float]] = field(default_factory=dict)
    reported: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def hear(net: nn.Module, args: tuple[Tensor, Tensor]) -> None:
            if self.listening:
                self.alphas.setdefault(name_of[net], set()).add(float(args[1]))
                if net is self.nets.generator:
                    self.decoded.append(args[0])

        name_of = {net: name for name, net in self.nets.trained().items()}
        for net in name_of:
            net.register_forward_pre_hook(hear)

    def losses(
        self,
        objective: Objective,
        phase: str,
        *,
        progress: float = 0.0,
        seed: int = 0,
        replay: Callable[[Tensor], Tensor] = lambda fakes: fakes,
        augment: float | None = None,
    ) -> dict[str, Tensor]:
        for record in (self.drawn, self.decoded, self.replayed, self.alphas):
            record.clear()
        rng = torch.Generator().manual_seed(seed)

        def noise(shape: Sequence[int]) -> Tensor:
            self.drawn.append(torch.randn(shape, generator=rng))
            return self.drawn[-1]

        def recorded_replay(fakes: Tensor) -> Tensor:
            self.replayed.append(fakes)
            return replay(fakes)

        alpha = torch.tensor(self.alpha, dtype=torch.float64)
        p = torch.tensor(augment) if augment else None
        context = Context(alpha, noise, recorded_replay, torch.tensor(progress), augment=p)
        self.listening = True
        losses = objective.losses(phase, self.nets, self.batch, context)
        self.listening, self.reported = False, context.reported
        return losses

    def total(self, objective: Objective, phase: str, **options) -> Tensor:
        """What the phase minimises."""
        return torch.stack(list(self.losses(objective, phase, **options).values())).sum()

    def check(
        self,
        objective: Objective,
        phase: str,
        equation: Callable[["World", Objective], Tensor],
        rtol: float = 1e-9,
        **options,
    ) -> None:
        """The phase minimises the equation: loss, and gradient in every weight of both networks."""
        actual, expected = self.total(objective, phase, **options), equation(self, objective)
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol, check_dtype=False)
        parameters = [p for net in self.nets.trained().values() for p in net.parameters()]
        one, other = (
            torch.autograd.grad(loss, parameters, materialize_grads=True)
            for loss in (actual, expected)
        )
        assert any(grad.any() for grad in other)
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=10 * rtol, atol=rtol)

    def encode(self, images: Tensor) -> Posterior:
        return self.nets.encoder(images, self.alpha)

    def decode(self, latents: Tensor) -> Tensor:
        return self.nets.generator(latents, self.alpha)

    def kl(self, images: Tensor) -> Tensor:
        """The KL of the images' codes: by moments on the sphere, else the posteriors' mean."""
        posterior = self.encode(images)
        return moment_kl(posterior.mean) if posterior.logvar is None else kl_of(posterior).mean()

    def prior(self) -> Tensor:
        """The latents [N, d] that were drawn from the prior and decoded."""
        decoded = torch.cat(self.decoded).detach()
        noise = torch.cat([noise for noise in self.drawn if noise.shape[1] == D])
        if self.nets.generator.config.head == "sphere":
            noise = F.normalize(noise, dim=1)
        used = noise[gap(noise, decoded) < 1e-9]
        assert len(used) == len(self.batch.images), f"{len(used)} prior latents were decoded"
        return used

    def latents_of(self, images: Tensor) -> Tensor:
        """The samples [N, d] of the images' posteriors that were decoded, with their gradient."""
        mu, logvar = self.encode(images)
        decoded = torch.cat(self.decoded).detach()
        noise = torch.cat([noise for noise in self.drawn if noise.shape[1] == D])
        std = (logvar / 2).exp()
        samples = mu[:, None] + std[:, None] * noise  # [N, draws, d]
        used = gap(samples.detach(), decoded) < 1e-9
        assert used.sum(dim=1).eq(1).all(), f"samples decoded per posterior: {used.sum(dim=1)}"
        return mu + std * noise[used.double().argmax(dim=1)]

    def step(self, net: str, loss: Tensor, size: float = 1e-3) -> None:
        """One step of gradient descent of length `size` on `loss`."""
        parameters = list(getattr(self.nets, net).parameters())
        grads = torch.autograd.grad(loss, parameters, materialize_grads=True)
        length = torch.cat([g.flatten() for g in grads]).norm()
        assert length > 0
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter -= size / length * grad


def gap(latents: Tensor, others: Tensor) -> Tensor:
    """The distance of each latent [..., d] to the nearest of others [M, d]."""
    return (latents.unsqueeze(-2) - others).abs().amax(dim=-1).amin(dim=-1)


def kl_of(posterior: Posterior) -> Tensor:
    """KL to N(0, I) of each posterior: [N]."""
    mu, logvar = posterior
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(dim=1)


def moment_kl(z: Tensor) -> Tensor:
    """Eq. 1 of PIONEER: -d/2 + sum_d [(s_d^2 + m_d^2)/2 - log s_d]."""
    m = z.sum(0) / len(z)
    variance = ((z - m) ** 2).sum(0) / len(z)
    return -z.shape[1] / 2 + ((variance + m**2) / 2 - 0.5 * variance.log()).sum()


def unit_errors(rec: str, x: Tensor, x_r: Tensor) -> Tensor:
    """Errors [N] of images taken to [0, 1], summed over the pixels of the final resolution."""
    p, q = (x + 1) / 2, (x_r + 1) / 2
    pixels = {
        "mse": lambda: (p - q) ** 2,
        "l1": lambda: (p - q).abs(),
        "bce": lambda: -p * q.log() - (1 - p) * (1 - q).log(),
    }[rec]()
    return pixels.sum(dim=(1, 2, 3)) * (FINAL / x.shape[-1]) ** 2


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of the targets that are not NaN, one logit after the other; 0 of none."""
    known = [
        -(y * F.logsigmoid(s) + (1 - y) * F.logsigmoid(-s))
        for s, y in zip(logits.flatten(), targets.flatten(), strict=True)
        if y == y
    ]
    return sum(known) / max(len(known), 1)


def smooth_world(
    objective: Objective,
    count: int = 5,
    resolution: int = FINAL,
    labels: Tensor | None = None,
    seed: int = 3,
) -> World:
    """A world in float64, at `resolution` of a run whose final one is FINAL px."""
    rng = torch.Generator().manual_seed(seed)
    labels = LABELS if labels is None and objective.needs_labels else labels
    wanted = objective.model_settings(0 if labels is None else labels.shape[1])
    kinds = ("head", "classes", "critic", "encoder", "discriminator")
    shape = {key: wanted[key] for key in kinds if key in wanted}
    config = ModelConfig(resolution=FINAL, latent_dim=D, **shape)
    encoder = SmoothEncoder(config, resolution, rng) if config.encoder else None
    generator = SmoothGenerator(config, resolution, rng)
    images = torch.rand(count, 3, resolution, resolution, generator=rng, dtype=torch.float64)
    judge = None
    if config.discriminator != "none":
        judge = SmoothDiscriminator(config, resolution, rng)
    nets = Nets(encoder, generator, generator, encoder, judge)
    return World(nets, Batch(images * 2 - 1, labels), alpha=0.7)


def small_world(
    objective: Objective,
    count: int = 8,
    resolution: int = 8,
    alpha: float = 1.0,
    seed: int = 1,
    **widths: int,
) -> World:
    """A world of a run's networks, in torch's default dtype, and in mid-fade below alpha 1."""
    rng = torch.Generator().manual_seed(2)
    images = torch.rand(count, 3, resolution, resolution, generator=rng) * 2 - 1
    labels = torch.randint(0, 2, (count, 2), generator=rng).float()
    shape = {"resolution": 16, "latent_dim": 6, "fmap_base": 32, "fmap_max": 12, **widths}
    config = ModelConfig(**shape, **objective.model_settings(labels.shape[1]))
    nets = build_nets(config, resolution, fading=alpha < 1, seed=seed)
    for net in nets.parts().values():
        net.to(torch.get_default_dtype())
    return World(nets, Batch(images, labels), alpha)
