"""The growing discriminator: a score of images, or of images and latents together."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgvae import ops
from pgvae.config import DEVIATION_GROUP, ModelConfig
from pgvae.nn.growing import ARCHS, FromImages
from pgvae.nn.layers import weight_of
from pgvae.nn.pggan import full_precision_linear


def minibatch_deviation(features: Tensor, group: int = DEVIATION_GROUP) -> Tensor:
    """How much images of a group differ, for each image: [N, C, H, W] -> [N] (PGGAN, section 3).

    Groups are `group` images in a row; the last one is what is left. Of each group the deviation
    sqrt(v + 1e-8) of every feature and pixel, v the biased variance, and the mean of all these.

    >>> features = torch.tensor([1.0, -1.0, 5.0]).view(3, 1, 1, 1)
    >>> minibatch_deviation(features, group=2)
    tensor([1.0000e+00, 1.0000e+00, 1.0000e-04])
    """
    whole = len(features) - len(features) % group
    parts = [part for part in (features[:whole], features[whole:]) if len(part)]
    return torch.cat([_deviation(part, min(group, len(part))) for part in parts])


def _deviation(features: Tensor, size: int) -> Tensor:
    """`minibatch_deviation` of groups that are all of one size."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    variance = wide.unflatten(0, (-1, size)).var(dim=1, unbiased=False)  # [groups, C, H, W]
    return (variance + 1e-8).sqrt().mean(dim=(1, 2, 3)).repeat_interleave(size)


class Discriminator(FromImages):
    """Images [N, C, R, R] in [-1, 1], and for a "joint" one latents [N, d], to a score [N].

    Blocks are the encoder's, down to 4 px.
    """

    def make_block(self, resolution: int) -> nn.Module:
        if resolution == 4:
            return LastBlock(self.config)
        return ARCHS[self.config.arch].encoder_block(self.config, resolution)

    def forward(
        self, images: Tensor, alpha: float | Tensor = 1.0, latents: Tensor | None = None
    ) -> Tensor:
        """Scores at `resolution`, float32: higher for what looks real.

        Below alpha 1 mixed with the previous stage's view.
        """
        return self.blocks["4"](self.features(images, alpha), latents)


class LastBlock(nn.Module):
    """A map of the minibatch's deviation, a 3x3 and a 4x4 convolution, a full layer to one score.

    As many features as there are at 4 px, LeakyReLU after each but the last. The last two layers
    run in float32 whatever the autocast. A joint discriminator's latents go through two full layers
    and stand beside the features, the same at every pixel.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm, features = config.encoder_norm, config.fmaps(4)
        self.joint = config.discriminator == "joint"
        inputs = features + 1 + (features if self.joint else 0)
        self.first = weight_of(norm, inputs, features, 3)
        self.second = weight_of(norm, features, features, config.base)
        self.last = weight_of(norm, features, 1, 1, gain=1.0)
        self.first_bias = nn.Parameter(torch.zeros(features))
        self.second_bias = nn.Parameter(torch.zeros(features))
        self.last_bias = nn.Parameter(torch.zeros(1))
        if self.joint:
            self.first_latent = weight_of(norm, config.latent_dim, features, 1)
            self.second_latent = weight_of(norm, features, features, 1)
            self.first_latent_bias = nn.Parameter(torch.zeros(features))
            self.second_latent_bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, latents: Tensor | None = None) -> Tensor:
        """[N, f(4), 4, 4], and latents [N, d] for a joint one -> [N]."""
        deviation = minibatch_deviation(x)[:, None, None, None]
        maps = [x, deviation.to(x.dtype).expand(-1, 1, *x.shape[2:])]
        if self.joint:
            maps.append(self._of_latents(latents).to(x.dtype).expand(-1, -1, *x.shape[2:]))
        x = ops.bias_act(ops.conv3x3(torch.cat(maps, dim=1), self.first()), self.first_bias)
        x = F.leaky_relu(full_precision_linear(x, self.second(), self.second_bias), 0.2)
        return full_precision_linear(x[:, :, None, None], self.last(), self.last_bias)[:, 0]

    def _of_latents(self, latents: Tensor) -> Tensor:
        """[N, d] -> [N, f(4), 1, 1]."""
        x = F.conv2d(latents[:, :, None, None], self.first_latent())
        x = ops.bias_act(x, self.first_latent_bias)
        return ops.bias_act(F.conv2d(x, self.second_latent()), self.second_latent_bias)
