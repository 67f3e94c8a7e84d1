"""The growing encoder: images to a point on the sphere, or to a Gaussian posterior."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.nn.growing import ARCHS, GrowingNet
from pgvae.nn.layers import blend
from pgvae.types import Posterior


class Encoder(GrowingNet):
    """Images [N, C, R, R] in [-1, 1] to a `Posterior`: sphere point, or mean and log variance."""

    def __init__(self, config: ModelConfig, resolution: int, fading: bool = False) -> None:
        super().__init__(config, resolution, fading)
        if config.classes:
            self.classifier = nn.Linear(config.latent_dim, config.classes, bias=False)

    def make_block(self, resolution: int) -> nn.Module:
        return ARCHS[self.config.arch].encoder_block(self.config, resolution)

    def make_rgb(self, resolution: int) -> nn.Module:
        return ARCHS[self.config.arch].from_rgb(self.config, resolution)

    def classify(self, latents: Tensor) -> Tensor:
        """Logits of the linear classifier on latents: [N, d] -> [N, K], in float32."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.classifier(latents.float())

    def forward(self, images: Tensor, alpha: float | Tensor = 1.0) -> Posterior:
        """Encode at `resolution`; below alpha 1 mixed with the previous stage's view."""
        x = self.rgb[str(self.resolution)](images)
        for key in reversed(self.blocks.keys()):
            x = self.blocks[key](x)
            if self.fading and key == str(self.resolution):
                old = self.rgb[str(self.resolution // 2)](F.avg_pool2d(images, 2))
                x = blend(old, x, alpha)
        if self.config.head == "sphere":
            return Posterior(F.normalize(x, dim=1))
        mean, logvar = x.chunk(2, dim=1)
        return Posterior(mean, logvar)
