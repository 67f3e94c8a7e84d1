"""3x3 convolution on a CPU with a quarter of the multiplications.

Winograd's F(4x4, 3x3) (Lavin and Gray, 2016, eq. 8 and 12): every 6x6 tile d of the padded input
gives 4x4 outputs A'[(G g G') * (B' d B)]A, where * is a product over channels. The transforms
are linear, so autograd differentiates them any number of times. In float32 the error is about
3e-6 of the result's norm, three times that of a direct convolution.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.ops import reference

_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_WEIGHT = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
) / torch.tensor([24], dtype=torch.float64)
_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float64,
)
# Both directions at once, for tiles flattened to columns: [36, 36], [36, 9], [16, 36].
_INPUT_2D, _WEIGHT_2D, _OUTPUT_2D = (torch.kron(m, m) for m in (_INPUT, _WEIGHT, _OUTPUT))

_MIN_CHANNELS, _MIN_SIDE = 256, 8  # below, the transforms cost more than they save (measured)


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """As `pgvae.ops.reference.conv3x3`, by Winograd's algorithm where that is faster."""
    return tiled_conv3x3(x, weight) if pays_off(x, weight) else reference.conv3x3(x, weight)


def pays_off(x: Tensor, weight: Tensor) -> bool:
    """Whether `tiled_conv3x3` is faster here than PyTorch's: wide float32 layers on a CPU."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and min(weight.shape[:2]) >= _MIN_CHANNELS
        and min(x.shape[2:]) >= _MIN_SIDE
        and x.shape[2] % 4 == x.shape[3] % 4 == 0
    )


def tiled_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """x [N, I, H, W] (H, W multiples of 4), weight [O, I, 3, 3] -> [N, O, H, W], padding 1."""
    n, inputs, height, width = x.shape
    outputs = weight.shape[0]
    rows, columns = height // 4, width // 4
    tiles = n * rows * columns

    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    windows = padded.unfold(1, 6, 4).unfold(2, 6, 4)  # [N, rows, columns, I, 6, 6]
    windows = windows.permute(4, 5, 0, 1, 2, 3).reshape(36, tiles * inputs)
    inner = (_INPUT_2D.to(x) @ windows).view(36, tiles, inputs)

    taps = weight.permute(2, 3, 1, 0).reshape(9, inputs * outputs)
    filters = (_WEIGHT_2D.to(x) @ taps).view(36, inputs, outputs)

    products = torch.bmm(inner, filters).view(36, tiles * outputs)
    pixels = (_OUTPUT_2D.to(x) @ products).view(4, 4, n, rows, columns, outputs)
    pixels = pixels.permute(2, 3, 0, 4, 1, 5).reshape(n, height, width, outputs)
    return pixels.permute(0, 3, 1, 2)
