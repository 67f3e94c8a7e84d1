"""The growing generator: PIONEER's, after PGGAN's (Table 2 of its paper)."""

import torch
from torch import Tensor, nn

from pgvae import ops
from pgvae.config import ModelConfig
from pgvae.nn.growing import GrowingNet
from pgvae.nn.layers import EqualizedWeight, LatentTo4x4


class _GeneratorBlock(nn.Module):
    """Two layers of [convolution, bias, pixel norm, LeakyReLU]; up x2 first, except at 4 px."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        self.order = config.order
        outputs = config.fmaps(resolution)
        if resolution == 4:
            fan_in = config.latent_dim * (16 if config.head == "sphere" else 1)
            self.first = LatentTo4x4(config.latent_dim, outputs, fan_in)
        else:
            self.first = EqualizedWeight(config.fmaps(resolution // 2), outputs, 3)
        self.second = EqualizedWeight(outputs, outputs, 3)
        self.first_bias = nn.Parameter(torch.zeros(outputs))
        self.second_bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.first, LatentTo4x4):
            x = self.first(x)
        else:
            x = ops.up2_conv3x3(x, self.first())
        x = ops.bias_act_pixel_norm(x, self.first_bias, self.order)
        x = ops.conv3x3(x, self.second())
        return ops.bias_act_pixel_norm(x, self.second_bias, self.order)


class Generator(GrowingNet):
    """Latents [N, d] to images [N, C, R, R], about [-1, 1] (linear output: not clamped)."""

    def make_block(self, resolution: int) -> nn.Module:
        return _GeneratorBlock(self.config, resolution)

    def make_rgb(self, resolution: int) -> nn.Module:
        return nn.Conv2d(self.config.fmaps(resolution), self.config.channels, 1)

    def forward(self, latents: Tensor, alpha: float | Tensor = 1.0) -> Tensor:
        """Images at `resolution`; below alpha 1 mixed with the upsampled previous stage."""
        old = None
        x = latents
        for key, block in self.blocks.items():
            if self.fading and key == str(self.resolution):
                old = self.rgb[str(self.resolution // 2)](x)
            x = block(x)
        image = self.rgb[str(self.resolution)](x)
        if old is not None:
            image = ops.up2_blend(old, image, alpha)
        return image.tanh() if self.config.output == "tanh" else image
