"""The growing generator: latents to images."""

from torch import Tensor, nn

from pgvae import ops
from pgvae.nn.growing import ARCHS, GrowingNet


class Generator(GrowingNet):
    """Latents [N, d] to images [N, C, R, R], about [-1, 1] (linear output: not clamped)."""

    def make_block(self, resolution: int) -> nn.Module:
        return ARCHS[self.config.arch].generator_block(self.config, resolution)

    def make_rgb(self, resolution: int) -> nn.Module:
        return ARCHS[self.config.arch].to_rgb(self.config, resolution)

    def forward(self, latents: Tensor, alpha: float | Tensor = 1.0) -> Tensor:
        """Images at `resolution`; below alpha 1 mixed with the upsampled previous stage."""
        old = None
        x = latents
        for key in self.blocks:
            if self.fading and key == str(self.resolution):
                old = self.rgb[str(self.resolution // 2)](x)
            x = self.run_block(key, x)
        image = self.rgb[str(self.resolution)](x)
        if old is not None:
            image = ops.up2_blend(old, image, alpha)
        return image.float().tanh() if self.config.output == "tanh" else image
