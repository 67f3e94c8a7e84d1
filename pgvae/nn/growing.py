"""What the networks share: blocks keyed by resolution, and growth by one block.

A network holds the blocks from 4 px to its current `resolution` and the RGB layer of that
resolution. While a stage fades in it also holds the RGB layer of the resolution before.
Nothing of a later stage exists, so neither optimiser nor average ever touches it. A resolution R
is the longer side: of images that are not square, `ModelConfig.base` stands for 4x4, and shapes
follow from there where docstrings speak of [N, C, R, R].
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pgvae.config import ModelConfig
from pgvae.nn import pggan, residual
from pgvae.nn.layers import SpectralWeight, blend
from pgvae.sizes import resolutions_between

NEVER, RECOMPUTED = 2**20, 512  # `GrowingNet.recompute_from`: by default, and where asked for
ARCHS = {"pggan": pggan, "residual": residual}


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights from `seed`, and leave every global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # the CPU's alone: nets start there
        yield


class GrowingNet(nn.Module):
    """Base of all networks: builds 4..resolution, then grows by `grow`.

    fading: whether to build the RGB layer of the previous resolution too, as needed to load
            the state of a network in mid-fade.

    recompute_from: pixels per side from which a backward works a block's activations out again,
            rather than that they are kept.
    """

    recompute_from = NEVER

    def __init__(self, config: ModelConfig, resolution: int, fading: bool = False) -> None:
        super().__init__()
        self.config = config
        self.resolution = 4
        self.blocks = nn.ModuleDict({"4": self.make_block(4)})
        self.rgb = nn.ModuleDict({"4": self.make_rgb(4)})
        for _ in resolutions_between(8, resolution):
            self.finish_fade()
            self._add_stage()
        if not fading:
            self.finish_fade()
        self.to(memory_format=torch.channels_last)

    def make_block(self, resolution: int) -> nn.Module:
        """The block whose image side works at `resolution`."""
        raise NotImplementedError

    def make_rgb(self, resolution: int) -> nn.Module:
        """The convolution between features and image at `resolution`."""
        raise NotImplementedError

    @property
    def fading(self) -> bool:
        """Whether the RGB layer of the previous resolution is still there."""
        return len(self.rgb) > 1

    def grow(self, seed: int) -> None:
        """Add the block and RGB layer of twice the resolution, with weights drawn from `seed`."""
        present = next(self.parameters())
        self.finish_fade()
        with seeded(seed):
            self._add_stage()
        self.to(device=present.device, memory_format=torch.channels_last)
        self.requires_grad_(present.requires_grad)
        self.train(self.training)

    def finish_fade(self) -> None:
        """Drop the RGB layer of the previous resolution, once alpha is 1."""
        if self.fading:
            del self.rgb[str(self.resolution // 2)]

    def run_block(self, key: str, x: Tensor) -> Tensor:
        """The block of a resolution."""
        if int(key) < self.recompute_from or not torch.is_grad_enabled():
            return self.blocks[key](x)
        return checkpoint(self.blocks[key], x, use_reentrant=False, preserve_rng_state=False)

    def power_iteration(self) -> None:
        """One power iteration of every spectral norm: once per training step, never in use."""
        for module in self.modules():
            if isinstance(module, SpectralWeight):
                module.iterate()

    def _add_stage(self) -> None:
        self.resolution *= 2
        key = str(self.resolution)
        self.blocks[key] = self.make_block(self.resolution)
        self.rgb[key] = self.make_rgb(self.resolution)


class FromImages(GrowingNet):
    """Base of `Encoder` and `Discriminator`: from images down to 4 px, all but the last block."""

    def make_rgb(self, resolution: int) -> nn.Module:
        return ARCHS[self.config.arch].from_rgb(self.config, resolution)

    def features(self, images: Tensor, alpha: float | Tensor) -> Tensor:
        """What the block at 4 px sees: [N, C, R, R] -> [N, f(4), 4, 4]."""
        x = self.rgb[str(self.resolution)](images)
        for key in list(reversed(self.blocks.keys()))[:-1]:
            x = self.run_block(key, x)
            if self.fading and key == str(self.resolution):
                old = self.rgb[str(self.resolution // 2)](F.avg_pool2d(images, 2))
                x = blend(old, x, alpha)
        return x
