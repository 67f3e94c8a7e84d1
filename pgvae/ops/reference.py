"""The plain PyTorch truth of each fused op. Activations are [N, C, H, W], any memory format."""

from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.config import Order
from pgvae.ops.moments import Moments


def _wide(x: Tensor) -> torch.dtype:
    """The dtype to add up in: float32, or float64 where `x` is."""
    return torch.promote_types(x.dtype, torch.float32)


def _per_channel(bias: Tensor, x: Tensor) -> Tensor:
    """bias [C] as [1, C, 1, 1] in the dtype of `x`: activations stay in bf16 under autocast."""
    return bias.to(x.dtype).view(1, -1, 1, 1)


def check_slope(slope: float) -> None:
    """ValueError for a slope of LeakyReLU that hides the sign of what it scaled.

    >>> check_slope(0.0)
    Traceback (most recent call last):
    ValueError: the slope of LeakyReLU must be positive: got 0.0
    """
    if slope <= 0:
        raise ValueError(f"the slope of LeakyReLU must be positive: got {slope}")


def bias_act(x: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """LeakyReLU(x + bias): x [N, C, H, W], bias [C] -> [N, C, H, W]; ValueError for slope <= 0.

    >>> x = torch.tensor([-3.0, 2.0]).view(1, 2, 1, 1)
    >>> bias_act(x, torch.ones(2), slope=0.5).flatten().tolist()
    [-1.0, 3.0]
    """
    check_slope(slope)
    return F.leaky_relu(x + _per_channel(bias, x), slope)


def check_pixel_norm(order: str, slope: float) -> None:
    """ValueError for an unknown order, or as `check_slope`.

    >>> check_pixel_norm("norm", 0.2)
    Traceback (most recent call last):
    ValueError: order is 'norm': choose norm_act or act_norm
    """
    if order not in get_args(Order):
        raise ValueError(f"order is {order!r}: choose {' or '.join(get_args(Order))}")
    check_slope(slope)


def bias_act_pixel_norm(
    x: Tensor, bias: Tensor, order: Order = "norm_act", slope: float = 0.2, eps: float = 1e-8
) -> Tensor:
    """Bias, LeakyReLU and pixel norm (PGGAN, section 4.2: y = a / sqrt(mean_C a^2 + eps)).

    order: "norm_act" is LeakyReLU(norm(x + b)), as PIONEER; "act_norm" is norm(LeakyReLU(x + b)).
    x [N, C, H, W], bias [C] -> [N, C, H, W]. ValueError for another order or slope <= 0.

    >>> x = torch.tensor([1.0, -7.0]).view(1, 2, 1, 1)
    >>> bias_act_pixel_norm(x, torch.zeros(2), "norm_act", slope=0.5).flatten()
    tensor([ 0.2000, -0.7000])
    """
    check_pixel_norm(order, slope)
    x = x + _per_channel(bias, x)
    if order == "act_norm":
        x = F.leaky_relu(x, slope)
    mean_square = x.square().mean(dim=1, keepdim=True, dtype=_wide(x))
    x = x * torch.rsqrt(mean_square + eps).to(x.dtype)
    return F.leaky_relu(x, slope) if order == "norm_act" else x


def check_poolable(x: Tensor) -> None:
    """ValueError for images without 2x2 pixels.

    >>> check_poolable(torch.zeros(1, 3, 1, 4))
    Traceback (most recent call last):
    ValueError: a 2x2 mean needs 2x2 pixels: got (1, 4)
    """
    if min(x.shape[2:]) < 2:
        raise ValueError(f"a 2x2 mean needs 2x2 pixels: got {tuple(x.shape[2:])}")


def bias_act_avg_pool2(x: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """2x2 mean of LeakyReLU(x + bias): [N, C, H, W] -> [N, C, H/2, W/2].

    An odd last row or column is left out. ValueError for slope <= 0 or a side of one pixel.

    >>> x = torch.tensor([[1.0, 2.0], [3.0, -4.0]]).view(1, 1, 2, 2)
    >>> bias_act_avg_pool2(x, torch.zeros(1), slope=0.5).item()
    1.0
    """
    check_poolable(x)
    return F.avg_pool2d(bias_act(x, bias, slope), 2)


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """3x3 convolution with padding 1, no bias: x [N, I, H, W], weight [O, I, 3, 3].

    >>> conv3x3(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3)).flatten().tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    return F.conv2d(x, weight, padding=1)


def up2_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """Nearest upsampling x2, then `conv3x3`: x [N, I, H, W] -> [N, O, 2H, 2W].

    >>> up2_conv3x3(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 3, 3)).flatten().tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    return conv3x3(F.interpolate(x, scale_factor=2), weight)


def up2_blend(old: Tensor, new: Tensor, alpha: float | Tensor) -> Tensor:
    """Fade-in: (1 - alpha) up2(old) + alpha new; old [N, C, H, W], new [N, C, 2H, 2W].

    >>> up2_blend(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 2, 2), 0.25).flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return torch.lerp(F.interpolate(old, scale_factor=2), new, alpha)


def mean_and_m2(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations from it: z [N, d] -> [d], [d], float32 or wider.

    >>> mean_and_m2(torch.tensor([[1.0], [3.0]]))
    (tensor([2.]), tensor([2.]))
    """
    z = z.to(_wide(z))
    mean = z.mean(dim=0)
    return mean, (z - mean).square().sum(dim=0)


def moment_kl(z: Tensor) -> Tensor:
    """KL of the batch's diagonal Gaussian to N(0, I), nats, summed over dimensions.

    z [N, d] -> scalar, float32 or wider. AGE and PIONEER (eq. 1):
    -d/2 + sum_d [(s_d^2 + m_d^2) / 2 - log s_d], with the batch's mean m and biased variance
    s^2. Raises ValueError for fewer than two samples, where it is infinite.

    >>> moment_kl(torch.tensor([[-1.0], [1.0]])).item()  # mean 0, variance 1
    0.0
    """
    return Moments(len(z), *mean_and_m2(z)).kl()


def gaussian_kl_reparam(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A sample of N(mu, e^logvar) and its KL to N(0, I) (VAE, appendix B).

    mu, logvar, noise [N, d] -> z = mu + e^(logvar/2) noise [N, d], and
    kl = -1/2 sum_d (1 + logvar - mu^2 - e^logvar) [N], nats, >= 0; float32 or wider.

    >>> mu, logvar = torch.tensor([[2.0]]), torch.zeros(1, 1)
    >>> gaussian_kl_reparam(mu, logvar, noise=torch.tensor([[0.5]]))
    (tensor([[2.5000]]), tensor([2.]))
    """
    mu, logvar = mu.to(_wide(mu)), logvar.to(_wide(logvar))
    z = mu + torch.exp(0.5 * logvar) * noise
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1)
    return z, kl
