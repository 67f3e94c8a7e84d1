"""The ops as `torch.library` knows them, one file each: schema, fake kernel, gradients.

Their kernels are in csrc/, and `pgvae.ops.native` loads them.
"""

from pgvae.ops.registered.bias_act import bias_act
from pgvae.ops.registered.bias_act_avg_pool2 import bias_act_avg_pool2
from pgvae.ops.registered.bias_act_pixel_norm import bias_act_pixel_norm
from pgvae.ops.registered.gaussian_kl_reparam import gaussian_kl_reparam
from pgvae.ops.registered.interleave2 import interleave2
from pgvae.ops.registered.moment_kl import mean_and_m2, moment_kl
from pgvae.ops.registered.up2_blend import up2_blend
from pgvae.ops.registered.winograd import (
    winograd_conv3x3,
    winograd_filters,
    winograd_input,
    winograd_output,
)

__all__ = [
    "bias_act",
    "bias_act_avg_pool2",
    "bias_act_pixel_norm",
    "gaussian_kl_reparam",
    "interleave2",
    "mean_and_m2",
    "moment_kl",
    "up2_blend",
    "winograd_conv3x3",
    "winograd_filters",
    "winograd_input",
    "winograd_output",
]
