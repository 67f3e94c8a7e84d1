"""Networks: layers, the growing networks, and how a set of them is built."""

import copy

import torch

from pgvae.config import ModelConfig
from pgvae.nn.discriminator import Discriminator
from pgvae.nn.encoder import Encoder
from pgvae.nn.generator import Generator
from pgvae.nn.growing import seeded
from pgvae.nn.layers import hold
from pgvae.types import Nets

__all__ = ["Discriminator", "Encoder", "Generator", "build_nets", "hold", "parameter_count"]


def build_nets(
    config: ModelConfig, resolution: int, *, fading: bool = False, seed: int = 0
) -> Nets:
    """The networks of a config at `resolution`, on the CPU, float32, weights from `seed`.

    >>> nets = build_nets(ModelConfig(resolution=16, latent_dim=6, fmap_max=8), resolution=8)
    >>> images = nets.generator(torch.zeros(2, 6))
    >>> images.shape, nets.encoder(images).mean.shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2, 6]))
    """
    with seeded(seed):
        encoder = Encoder(config, resolution, fading) if config.encoder else None
        generator = Generator(config, resolution, fading)
        judge = None
        if config.discriminator != "none":
            judge = Discriminator(config, resolution, fading)
    for net in (encoder, generator, judge):
        if net is not None:
            net.float()  # whatever torch's default is
    averages = (net and copy.deepcopy(net).requires_grad_(False) for net in (generator, encoder))
    return Nets(encoder, generator, *averages, discriminator=judge)


def parameter_count(net: torch.nn.Module) -> int:
    """Trained parameters of a network as it stands (its current stage).

    >>> parameter_count(torch.nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in net.parameters())
