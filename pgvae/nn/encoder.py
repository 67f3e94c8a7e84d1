"""The growing encoder: PIONEER's, PGGAN's discriminator without its minibatch statistics."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae import ops
from pgvae.config import ModelConfig
from pgvae.nn.growing import GrowingNet
from pgvae.nn.layers import EqualizedWeight, SpectralWeight, matrix_of
from pgvae.types import Posterior

_WEIGHTS = {"spectral": SpectralWeight, "equalized": EqualizedWeight}


class _EncoderBlock(nn.Module):
    """Two layers of [3x3 convolution, bias, LeakyReLU], then a 2x2 mean."""

    def __init__(self, config: ModelConfig, resolution: int) -> None:
        super().__init__()
        weight = _WEIGHTS[config.encoder_norm]
        inputs, outputs = config.fmaps(resolution), config.fmaps(resolution // 2)
        self.first = weight(inputs, outputs, 3)
        self.second = weight(outputs, outputs, 3)
        self.first_bias = nn.Parameter(torch.zeros(outputs))
        self.second_bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = ops.bias_act(ops.conv3x3(x, self.first()), self.first_bias)
        x = ops.conv3x3(x, self.second())
        return ops.bias_act_avg_pool2(x, self.second_bias)


class _LastBlock(nn.Module):
    """[3x3 convolution, bias, LeakyReLU] at 4 px, then a 4x4 convolution to one pixel.

    LeakyReLU follows it too for a sphere head, as in PIONEER; mean and log variance are linear.
    The last layer runs in float32 whatever the autocast: KL terms need its small differences.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        weight = _WEIGHTS[config.encoder_norm]
        features = config.fmaps(4)
        self.on_sphere = config.head == "sphere"
        outputs = config.latent_dim * (1 if self.on_sphere else 2)
        self.first = weight(features, features, 3)
        self.second = weight(features, outputs, 4)
        self.first_bias = nn.Parameter(torch.zeros(features))
        self.second_bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = ops.bias_act(ops.conv3x3(x, self.first()), self.first_bias)
        with torch.autocast(x.device.type, enabled=False):
            pixels = x.permute(0, 2, 3, 1).flatten(1)  # [N, 4 * 4 * C]
            pixels = pixels.to(self.second_bias.dtype)
            codes = F.linear(pixels, matrix_of(self.second()), self.second_bias)
        return F.leaky_relu(codes, 0.2) if self.on_sphere else codes


class Encoder(GrowingNet):
    """Images [N, C, R, R] in [-1, 1] to a `Posterior`: sphere point, or mean and log variance."""

    def make_block(self, resolution: int) -> nn.Module:
        if resolution == 4:
            return _LastBlock(self.config)
        return _EncoderBlock(self.config, resolution)

    def make_rgb(self, resolution: int) -> nn.Module:
        return nn.Conv2d(self.config.channels, self.config.fmaps(resolution), 1)

    def power_iteration(self) -> None:
        """One power iteration of every spectral norm: once per training step, never in use."""
        for module in self.modules():
            if isinstance(module, SpectralWeight):
                module.iterate()

    def forward(self, images: Tensor, alpha: float | Tensor = 1.0) -> Posterior:
        """Encode at `resolution`; below alpha 1 mixed with the previous stage's view."""
        x = self.rgb[str(self.resolution)](images)
        for key in reversed(self.blocks.keys()):
            x = self.blocks[key](x)
            if self.fading and key == str(self.resolution):
                old = self.rgb[str(self.resolution // 2)](F.avg_pool2d(images, 2))
                x = torch.lerp(old, x, alpha)
        if self.config.head == "sphere":
            return Posterior(F.normalize(x, dim=1))
        mean, logvar = x.chunk(2, dim=1)
        return Posterior(mean, logvar)
