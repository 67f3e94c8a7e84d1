"""3x3 convolution on a CPU with a quarter of the multiplications, and less than that after x2.

Winograd's algorithm (Lavin and Gray, 2016, eq. 8 and 12): tiles d of the input give outputs
A'[(G g G') * (B' d B)]A, where * is a product over channels. The transforms are linear, so
autograd differentiates them any number of times. In float32 the error is about 3e-6 of the
result's norm, three times that of a direct convolution.
"""

import torch
from torch import Tensor

from pgvae.ops import phases, reference
from pgvae.ops.held import made_of
from pgvae.ops.registered import (
    winograd_conv3x3,
    winograd_filters,
    winograd_input,
    winograd_output,
)

# Below, the transforms cost more than they save (measured): of the input, and of the kernels, whose
# cost is the same for any number of tiles.
_MIN_CHANNELS = 128
_MIN_TILES = 64  # of 4x4 pixels, in the batch
_FUSED_CHANNELS = range(16, 129, 16)  # coefficients of a few tiles fit into a cache


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """As `pgvae.ops.reference.conv3x3`, by Winograd's algorithm where that is faster.

    >>> conv3x3(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3)).flatten().tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    if narrow(x, weight):
        return winograd_conv3x3(x, weight, False)
    if pays_off(x, weight):
        return tiled(x, weight, up2=False)
    return reference.conv3x3(x, weight)


def up2_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """As `pgvae.ops.reference.up2_conv3x3`, by Winograd's algorithm where that is faster.

    >>> up2_conv3x3(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 3, 3)).flatten().tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    if narrow(x, weight):
        return winograd_conv3x3(x, weight, True)
    if pays_off(x, weight):
        return tiled(x, weight, up2=True)
    return phases.up2_conv3x3(x, weight)


def narrow(x: Tensor, weight: Tensor) -> bool:
    """Whether `winograd_conv3x3` is faster here than PyTorch's: narrow float32 layers on a CPU.

    >>> narrow(torch.zeros(1, 16, 8, 8), torch.zeros(16, 16, 3, 3))
    True
    """
    return _can(x, weight) and all(c in _FUSED_CHANNELS for c in weight.shape[:2])


def pays_off(x: Tensor, weight: Tensor) -> bool:
    """Whether `tiled` is faster here than PyTorch's: wide float32 layers on a CPU.

    >>> pays_off(torch.zeros(1, 16, 8, 8), torch.zeros(16, 16, 3, 3))
    False
    """
    return (
        _can(x, weight)
        and min(weight.shape[:2]) >= _MIN_CHANNELS
        and x.shape[0] * x.shape[2] * x.shape[3] >= 16 * _MIN_TILES
    )


def _can(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.shape[0] > 0
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.shape[2] % 4 == x.shape[3] % 4 == 0
    )


def tiled(x: Tensor, weight: Tensor, up2: bool) -> Tensor:
    """3x3 convolution with padding 1, after nearest upsampling x2 if `up2`.

    x [N, I, H, W] (H, W multiples of 4), weight [O, I, 3, 3] -> [N, O, H, W], or twice the size.
    Needs the native transforms: `pays_off` says where that helps.
    """
    n, _, h, w = x.shape
    name = "winograd up2" if up2 else "winograd"
    filters = made_of(weight, name, lambda: winograd_filters(weight, up2))  # [36 or 100, I, O]
    products = torch.bmm(winograd_input(x, up2), filters)  # [36 or 100, tiles, O]
    scale = 2 if up2 else 1
    return winograd_output(products, n, scale * h, scale * w, up2)
