"""Blocks of PGGAN's networks as PIONEER has them (Table 2 of PGGAN's paper)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae import ops
from pgvae.config import ModelConfig
from pgvae.nn.layers import LatentToBase, matrix_of, weight_of


class EncoderBlock(nn.Module):
    """Two layers of [3x3 convolution, bias, LeakyReLU], then a 2x2 mean."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        inputs, outputs = config.fmaps(resolution), config.fmaps(resolution // 2)
        self.first = weight_of(config.encoder_norm, inputs, outputs, 3)
        self.second = weight_of(config.encoder_norm, outputs, outputs, 3)
        self.first_bias = nn.Parameter(torch.zeros(outputs))
        self.second_bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = ops.bias_act(ops.conv3x3(x, self.first()), self.first_bias)
        x = ops.conv3x3(x, self.second())
        return ops.bias_act_avg_pool2(x, self.second_bias)


class LastEncoderBlock(nn.Module):
    """[3x3 convolution, bias, LeakyReLU] at 4 px, then a 4x4 convolution to one pixel.

    LeakyReLU follows it too for a sphere head with `last_activation`, as in PIONEER; mean and log
    variance are linear.
    The last layer runs in float32 whatever the autocast: KL terms need its small differences.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        features = config.fmaps(4)
        on_sphere = config.head == "sphere"
        self.last_activation = on_sphere and config.last_activation
        outputs = config.latent_dim * (1 if on_sphere else 2)
        self.first = weight_of(config.encoder_norm, features, features, 3)
        self.second = weight_of(config.encoder_norm, features, outputs, config.base)
        self.first_bias = nn.Parameter(torch.zeros(features))
        self.second_bias = nn.Parameter(torch.zeros(outputs))

    def features(self, x: Tensor) -> Tensor:
        """What the full layer sees: [N, f(4), 4, 4] -> the same shape."""
        return ops.bias_act(ops.conv3x3(x, self.first()), self.first_bias)

    def codes(self, features: Tensor) -> Tensor:
        """The full layer: [N, f(4), 4, 4] -> [N, d] or [N, 2 d]."""
        codes = full_precision_linear(features, self.second(), self.second_bias)
        return F.leaky_relu(codes, 0.2) if self.last_activation else codes

    def forward(self, x: Tensor) -> Tensor:
        return self.codes(self.features(x))


class GeneratorBlock(nn.Module):
    """Two layers of [convolution, bias, pixel norm, LeakyReLU]; up x2 first, except at 4 px.

    Without pixel norm where the generator's norm is another.
    """

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        self.order, self.norm = config.order, config.generator_norm
        outputs = config.fmaps(resolution)
        if resolution == 4:
            self.first = LatentToBase(config, outputs)
        else:
            self.first = weight_of(self.norm, config.fmaps(resolution // 2), outputs, 3)
        self.second = weight_of(self.norm, outputs, outputs, 3)
        self.first_bias = nn.Parameter(torch.zeros(outputs))
        self.second_bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.first, LatentToBase):
            x = self.first(x)
        else:
            x = ops.up2_conv3x3(x, self.first())
        x = self._activate(x, self.first_bias)
        return self._activate(ops.conv3x3(x, self.second()), self.second_bias)

    def _activate(self, x: Tensor, bias: Tensor) -> Tensor:
        if self.norm == "pixel":
            return ops.bias_act_pixel_norm(x, bias, self.order)
        return ops.bias_act(x, bias)


def encoder_block(config: ModelConfig, resolution: int) -> nn.Module:
    """[N, f(R), R, R] -> [N, f(R / 2), R / 2, R / 2]; at 4 px -> [N, d] or [N, 2 d]."""
    return LastEncoderBlock(config) if resolution == 4 else EncoderBlock(config, resolution)


def generator_block(config: ModelConfig, resolution: int) -> nn.Module:
    """[N, f(R / 2), R / 2, R / 2] -> [N, f(R), R, R]; at 4 px from [N, d]."""
    return GeneratorBlock(config, resolution)


def from_rgb(config: ModelConfig, resolution: int) -> nn.Module:
    """[N, C, R, R] -> [N, f(R), R, R]."""
    return nn.Conv2d(config.channels, config.fmaps(resolution), 1)


def to_rgb(config: ModelConfig, resolution: int) -> nn.Module:
    """[N, f(R), R, R] -> [N, C, R, R]."""
    return nn.Conv2d(config.fmaps(resolution), config.channels, 1)


def full_precision_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of as many pixels as it has: [N, C, H, W] -> [N, O], in the bias's dtype."""
    with torch.autocast(x.device.type, enabled=False):
        pixels = x.permute(0, 2, 3, 1).flatten(1)  # [N, H * W * C]
        return F.linear(pixels.to(bias.dtype), matrix_of(weight), bias)
