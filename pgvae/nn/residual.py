"""Blocks of IntroVAE's residual networks (Table 3 of its paper; IntroVAC's figure 10).

encoder:   5x5 convolution, then [2x2 mean, residual block] down to 4 px, then a full layer
generator: a full layer to 4 px, a residual block, then [up x2, residual block], 5x5 convolution

Grown as the PGGAN ones are: the 5x5 convolutions take the place of from_rgb and to_rgb.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae import ops
from pgvae.config import ModelConfig
from pgvae.nn.layers import LatentToBase, weight_of
from pgvae.nn.pggan import full_precision_linear

_SLOPE = 0.2


class Activation(nn.Module):
    """Bias and LeakyReLU, with pixel norm after them or batch norm in the bias's place."""

    def __init__(self, norm: str, features: int) -> None:
        super().__init__()
        self.norm = norm
        if norm == "batch":
            self.batch_norm = nn.BatchNorm2d(features)
        else:
            self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm == "batch":
            return F.leaky_relu(self.batch_norm(x), _SLOPE)
        if self.norm == "pixel":
            return ops.bias_act_pixel_norm(x, self.bias, "act_norm", slope=_SLOPE)
        return ops.bias_act(x, self.bias, _SLOPE)


class ResidualBlock(nn.Module):
    """LeakyReLU(shortcut + [3x3 convolution, LeakyReLU, 3x3 convolution]): I -> O features.

    The shortcut is a 1x1 convolution where the number of features changes. `up` doubles R first.
    """

    def __init__(self, norm: str, inputs: int, outputs: int, up: bool = False) -> None:
        super().__init__()
        self.up = up
        self.first = weight_of(norm, inputs, outputs, 3)
        self.first_activation = Activation(norm, outputs)
        # No activation follows these two before they are added: a gain of 1 keeps the variance.
        self.second = weight_of(norm, outputs, outputs, 3, gain=1.0)
        self.shortcut = weight_of(norm, inputs, outputs, 1, gain=1.0) if inputs != outputs else None
        self.activation = Activation(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        convolve = ops.up2_conv3x3 if self.up else ops.conv3x3
        branch = self.first_activation(convolve(x, self.first()))
        branch = ops.conv3x3(branch, self.second())
        kept = x if self.shortcut is None else F.conv2d(x, self.shortcut())
        if self.up:
            kept = F.interpolate(kept, scale_factor=2)
        return self.activation(kept + branch)


class EncoderBlock(nn.Module):
    """2x2 mean, then a residual block at half the resolution."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        widths = config.fmaps(resolution), config.fmaps(resolution // 2)
        self.residual = ResidualBlock(config.encoder_norm, *widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(F.avg_pool2d(x, 2))


class LastEncoderBlock(nn.Module):
    """The full layer from 4x4 pixels to the latent, in float32 whatever the autocast."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        outputs = config.latent_dim * (1 if config.head == "sphere" else 2)
        norm, inputs = config.encoder_norm, config.fmaps(4)
        self.weight = weight_of(norm, inputs, outputs, config.base, gain=1.0)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def features(self, x: Tensor) -> Tensor:
        """What the full layer sees, as it is: [N, f(4), 4, 4]."""
        return x

    def codes(self, features: Tensor) -> Tensor:
        """The full layer: [N, f(4), 4, 4] -> [N, d] or [N, 2 d]."""
        return full_precision_linear(features, self.weight(), self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.codes(x)


class FirstGeneratorBlock(nn.Module):
    """The full layer from the latent to 4x4 pixels, LeakyReLU (a ReLU there), a residual block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm, features = config.generator_norm, config.fmaps(4)
        self.first = LatentToBase(config, features)
        self.activation = Activation(norm, features)
        self.residual = ResidualBlock(norm, features, _generator_fmaps(config, 4))

    def forward(self, latents: Tensor) -> Tensor:
        return self.residual(self.activation(self.first(latents)))


def encoder_block(config: ModelConfig, resolution: int) -> nn.Module:
    """[N, f(R), R, R] -> [N, f(R / 2), R / 2, R / 2]; at 4 px -> [N, d] or [N, 2 d]."""
    return LastEncoderBlock(config) if resolution == 4 else EncoderBlock(config, resolution)


def generator_block(config: ModelConfig, resolution: int) -> nn.Module:
    """Up x2 and a residual block; at 4 px from [N, d]. Widths: `_generator_fmaps`."""
    if resolution == 4:
        return FirstGeneratorBlock(config)
    widths = (_generator_fmaps(config, r) for r in (resolution // 2, resolution))
    return ResidualBlock(config.generator_norm, *widths, up=True)


def from_rgb(config: ModelConfig, resolution: int) -> nn.Module:
    """5x5 convolution and LeakyReLU: [N, C, R, R] -> [N, f(R), R, R]."""
    features = config.fmaps(resolution)
    return nn.Sequential(
        nn.Conv2d(config.channels, features, 5, padding=2, bias=False),
        Activation(config.encoder_norm, features),
    )


def to_rgb(config: ModelConfig, resolution: int) -> nn.Module:
    """5x5 convolution to [N, C, R, R]."""
    return nn.Conv2d(_generator_fmaps(config, resolution), config.channels, 5, padding=2)


def _generator_fmaps(config: ModelConfig, resolution: int) -> int:
    """Table 3's generator is half as wide as the encoder below the final resolution."""
    return config.fmaps(min(2 * resolution, config.resolution))
