"""How far reconstructions are from their images. All take [N, C, H, W] in [-1, 1]."""

from torch import Tensor

from pgvae.checks import require
from pgvae.metrics.sets import optional

WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian, in pixels


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean square error of each pair, [N], 0 to 1: of images scaled to [0, 1].

    One image beside several is compared with each. InputError for images that are no pairs, or no
    floats.

    >>> mse(Tensor([[[[1.0]]]]), Tensor([[[[0.0]]]]))
    tensor([0.2500])
    """
    require(
        a.is_floating_point() and b.is_floating_point(),
        f"images must be floats in [-1, 1], as x / 127.5 - 1 of bytes: got {a.dtype} and {b.dtype}",
    )
    require(
        a.ndim == 4 and a.shape[1:] == b.shape[1:] and (len(a) == len(b) or 1 in (len(a), len(b))),
        "images must be in pairs of one shape [N, C, H, W]: got "
        f"{list(a.shape)} and {list(b.shape)}",
    )
    return (a - b).square().mean(dim=(1, 2, 3)) / 4


def rmse(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square error of each pair, [N], in 8-bit levels (0 to 255).

    >>> rmse(Tensor([[[[1.0]]]]), Tensor([[[[-1.0]]]]))
    tensor([255.])
    """
    return mse(a, b).sqrt() * 255


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair, [N], in dB: -10 log10(MSE).

    Infinite for equal images. A set's figure is the mean over its images.

    >>> psnr(Tensor([[[[0.0]]]]), Tensor([[[[2 / 255]]]]))
    tensor([48.1308])
    """
    return -10 * mse(a, b).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each pair, [N], at most 1: Wang et al., 2004.

    Gaussian window of 11 pixels (sigma 1.5), K = (0.01, 0.03), each channel apart, windows that
    lie inside the image. Images under 11 pixels take the largest odd window that fits, so their
    figures are comparable with each other only. ValueError where the shapes differ.

    >>> images = Tensor([[[[-1.0, 1.0], [1.0, 0.0]]]])
    >>> ssim(images, images)
    tensor([1.])
    """
    package = optional("pytorch_msssim", "pytorch-msssim", "ssim")
    return package.ssim(
        to_unit(a),
        to_unit(b),
        data_range=1.0,
        size_average=False,
        win_size=window_for(min(a.shape[-2:])),
        win_sigma=SIGMA,
    )


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], float32."""
    return (images.float() + 1) / 2


def window_for(side: int) -> int:
    """The largest odd window, up to 11, that fits in `side` pixels."""
    return min(WINDOW, side - 1 + side % 2)
