"""How far reconstructions are from their images. All take [N, C, H, W] in [-1, 1]."""

from torch import Tensor


def rmse(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square error of each pair, [N], in 8-bit levels (0 to 255)."""
    return (a - b).square().mean(dim=(1, 2, 3)).sqrt() * 127.5


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair, [N], in dB: 10 log10(2^2 / MSE).

    Infinite for equal images. A set's figure is the mean over its images.
    """
    return 10 * (4 / (a - b).square().mean(dim=(1, 2, 3))).log10()
