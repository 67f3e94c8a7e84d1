"""What the tests of evaluation share: models with random weights, and one that copies."""

from types import SimpleNamespace

import torch

from pgvae.config import ModelConfig
from pgvae.evaluation import Evaluation
from pgvae.inference import Model
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot
from pgvae.types import Posterior


def snapshot_of(
    resolution: int = 8,
    alpha: float = 1.0,
    objective: str = "vae",
    attributes: tuple[str, ...] = (),
    **changes,
) -> Snapshot:
    """A snapshot with random weights, of networks that grow to 32 px."""
    config = ModelConfig(resolution=32, latent_dim=8, fmap_max=8, **changes)
    nets = build_nets(config, resolution, fading=alpha < 1, seed=3)
    mean = torch.zeros(config.channels, resolution, resolution)
    return Snapshot(nets, config, alpha, 0, {"name": objective}, attributes, "tiny", mean)


def model_of(*arguments, **changes) -> Model:
    """A model with random weights; arguments as `snapshot_of`."""
    return Model(snapshot_of(*arguments, **changes))


class Copier:
    """Decodes what it encodes, but for a little noise; all its samples are one image."""

    resolution, alpha, batch_size = 8, 1.0, 3
    default_prior, encodes = "training", True
    device, config = torch.device("cpu"), SimpleNamespace(head="sphere")

    def posterior(self, images: torch.Tensor) -> Posterior:
        return Posterior(images.flatten(1))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        side = self.resolution
        return (0.99 * latents + 0.005).view(-1, 3, side, side)

    drawn = decode

    def sample_latents(self, count: int, seed: int, prior: None = None) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        one = torch.rand(1, 3 * self.resolution**2, generator=rng) * 2 - 1
        return one.expand(count, -1)


def numbers(found: Evaluation) -> dict[str, float]:
    """All numbers of an evaluation."""
    result = {}
    for name, figure in found.figures.items():
        result |= {name: figure.value, f"{name}/floor": figure.floor or 0.0}
        result |= {f"{name}/{k}": v for k, v in figure.details.items()}
    return result
