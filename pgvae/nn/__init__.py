"""Networks: layers, the growing encoder and generator, and how a set of them is built."""

import copy

import torch

from pgvae.config import ModelConfig
from pgvae.nn.encoder import Encoder
from pgvae.nn.generator import Generator
from pgvae.nn.growing import seeded
from pgvae.types import Nets

__all__ = ["Encoder", "Generator", "build_nets", "parameter_count"]


def build_nets(
    config: ModelConfig, resolution: int, *, fading: bool = False, seed: int = 0
) -> Nets:
    """Encoder, generator and its average at `resolution`, on the CPU, weights from `seed`."""
    with seeded(seed):
        encoder = Encoder(config, resolution, fading)
        generator = Generator(config, resolution, fading)
    return Nets(encoder, generator, copy.deepcopy(generator).requires_grad_(False))


def parameter_count(net: torch.nn.Module) -> int:
    """Trained parameters of a network as it stands (its current stage)."""
    return sum(p.numel() for p in net.parameters())
