"""The growing encoder: images to a point on the sphere, or to a Gaussian posterior."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.nn.growing import ARCHS, FromImages
from pgvae.types import Posterior

CRITIC_GAIN = 10.0  # of its output: it learns so much faster than the layers below


class Judged(NamedTuple):
    """What an encoder with a critic says about a batch of images.

    posterior: as for any encoder.
    realism:   [N] float32, a logit: higher for images that look real.
    """

    posterior: Posterior
    realism: Tensor


class Encoder(FromImages):
    """Images [N, C, R, R] in [-1, 1] to a `Posterior`: sphere point, or mean and log variance."""

    def __init__(self, config: ModelConfig, resolution: int, fading: bool = False) -> None:
        super().__init__(config, resolution, fading)
        if config.classes:
            self.classifier = nn.Linear(config.latent_dim, config.classes, bias=False)
        if config.critic:
            self.critic = nn.Linear(config.fmaps(4), 1, bias=False)  # differences alone count
            nn.init.normal_(self.critic.weight, std=0.1 / config.fmaps(4) ** 0.5)

    def make_block(self, resolution: int) -> nn.Module:
        return ARCHS[self.config.arch].encoder_block(self.config, resolution)

    def classify(self, latents: Tensor) -> Tensor:
        """Logits of the linear classifier on latents: [N, d] -> [N, K], in float32."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.classifier(latents.float())

    def forward(
        self, images: Tensor, alpha: float | Tensor = 1.0, *, judge: bool = False
    ) -> Posterior | Judged:
        """Encode at `resolution`; below alpha 1 mixed with the previous stage's view.

        judge: also say how real the images look, for a model with a critic: -> `Judged`.
        """
        features = self.blocks["4"].features(self.features(images, alpha))
        posterior = self._posterior(features)
        if not judge:
            return posterior
        with torch.autocast(images.device.type, enabled=False):
            realism = CRITIC_GAIN * self.critic(features.float().mean(dim=(2, 3)))[:, 0]
        return Judged(posterior, realism)

    def _posterior(self, features: Tensor) -> Posterior:
        x = self.blocks["4"].codes(features)
        if self.config.head == "sphere":
            return Posterior(F.normalize(x, dim=1))
        mean, logvar = x.chunk(2, dim=1)
        return Posterior(mean, logvar)
