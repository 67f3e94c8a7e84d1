"""The plain PyTorch truth of each fused op. Activations are [N, C, H, W], any memory format."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.config import Order


def _wide(x: Tensor) -> torch.dtype:
    """The dtype to add up in: float32, or float64 where `x` is."""
    return torch.promote_types(x.dtype, torch.float32)


def _per_channel(bias: Tensor, x: Tensor) -> Tensor:
    """bias [C] as [1, C, 1, 1] in the dtype of `x`: activations stay in bf16 under autocast."""
    return bias.to(x.dtype).view(1, -1, 1, 1)


def bias_act(x: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """LeakyReLU(x + bias): x [N, C, H, W], bias [C] -> [N, C, H, W]."""
    return F.leaky_relu(x + _per_channel(bias, x), slope)


def bias_act_pixel_norm(
    x: Tensor, bias: Tensor, order: Order = "norm_act", slope: float = 0.2, eps: float = 1e-8
) -> Tensor:
    """Bias, LeakyReLU and pixel norm (PGGAN, section 4.2: y = a / sqrt(mean_C a^2 + eps)).

    order: "norm_act" is LeakyReLU(norm(x + b)), as PIONEER; "act_norm" is norm(LeakyReLU(x + b)).
    x [N, C, H, W], bias [C] -> [N, C, H, W].
    """
    x = x + _per_channel(bias, x)
    if order == "act_norm":
        x = F.leaky_relu(x, slope)
    mean_square = x.square().mean(dim=1, keepdim=True, dtype=_wide(x))
    x = x * torch.rsqrt(mean_square + eps).to(x.dtype)
    return F.leaky_relu(x, slope) if order == "norm_act" else x


def bias_act_avg_pool2(x: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """2x2 mean of LeakyReLU(x + bias): [N, C, H, W] -> [N, C, H/2, W/2]."""
    return F.avg_pool2d(bias_act(x, bias, slope), 2)


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """3x3 convolution with padding 1, no bias: x [N, I, H, W], weight [O, I, 3, 3]."""
    return F.conv2d(x, weight, padding=1)


def up2_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """Nearest upsampling x2, then a 3x3 convolution with padding 1, no bias.

    x [N, I, H, W], weight [O, I, 3, 3] -> [N, O, 2H, 2W] in channels_last. Exactly equal, with
    2.25 times fewer operations: an output pixel of each parity (a, b) meets only 2x2 different
    inputs, so each of the four is a 2x2 convolution whose weights are sums of the 3x3 ones.
    """
    n, _, h, w = x.shape
    outputs = weight.shape[0]
    padded = F.pad(x, (1, 1, 1, 1))
    phases = []
    for a, by_row in enumerate(_pairs_of_taps(weight.permute(0, 2, 3, 1), dim=1)):
        for b, folded in enumerate(_pairs_of_taps(by_row, dim=2)):  # [O, 2, 2, I]
            window = padded[:, :, a : a + h + 1, b : b + w + 1]
            phases.append(F.conv2d(window, folded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    pixels = torch.stack(phases).view(2, 2, n, h, w, outputs).permute(2, 3, 0, 4, 1, 5)
    return pixels.reshape(n, 2 * h, 2 * w, outputs).permute(0, 3, 1, 2)


def _pairs_of_taps(taps: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """What three taps along `dim` become for an output of even, and of odd, index: two each."""
    first, middle, last = taps.unbind(dim)
    even = torch.stack([first, middle + last], dim)
    return even, torch.stack([first + middle, last], dim)


def up2_blend(old: Tensor, new: Tensor, alpha: float | Tensor) -> Tensor:
    """Fade-in: (1 - alpha) up2(old) + alpha new; old [N, C, H, W], new [N, C, 2H, 2W]."""
    return torch.lerp(F.interpolate(old, scale_factor=2), new, alpha)


def moment_kl(z: Tensor) -> Tensor:
    """KL of the batch's diagonal Gaussian to N(0, I), nats, summed over dimensions.

    z [N, d] -> scalar, float32 or wider. AGE and PIONEER (eq. 1):
    -d/2 + sum_d [(s_d^2 + m_d^2) / 2 - log s_d], with the batch's mean m and biased variance
    s^2. Raises ValueError for fewer than two samples, where it is infinite.
    """
    if z.shape[0] < 2:
        raise ValueError(f"moment_kl needs at least 2 samples: got {z.shape[0]}")
    z = z.to(_wide(z))
    variance, mean = torch.var_mean(z, dim=0, correction=0)
    return 0.5 * (variance + mean.square() - 1 - variance.log()).sum()


def gaussian_kl_reparam(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A sample of N(mu, e^logvar) and its KL to N(0, I) (VAE, appendix B).

    mu, logvar, noise [N, d] -> z = mu + e^(logvar/2) noise [N, d], and
    kl = -1/2 sum_d (1 + logvar - mu^2 - e^logvar) [N], nats, >= 0; float32 or wider.
    """
    mu, logvar = mu.to(_wide(mu)), logvar.to(_wide(logvar))
    z = mu + torch.exp(0.5 * logvar) * noise
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1)
    return z, kl
