"""The equations of the ops, from the papers, in plain torch; nothing here calls pgvae.

Tests run them in float64. Gradients of the truth are autograd's.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SLOPE = 0.2


def leaky(u: Tensor, slope: float = SLOPE) -> Tensor:
    return torch.where(u > 0, u, slope * u)


def biased(x: Tensor, bias: Tensor) -> Tensor:
    return x + bias[:, None, None]


def eps_of(x: Tensor) -> float:
    """1e-8, but 16 for one channel, whose gradient is eps / (a^2 + eps) of what is cancelled."""
    return 16.0 if x.shape[1] == 1 else 1e-8


def pixel_norm(a: Tensor, eps: float) -> Tensor:
    """PGGAN, section 4.2: a / sqrt(1/C sum_C a^2 + eps)."""
    return a / (a.pow(2).sum(1, keepdim=True) / a.shape[1] + eps).sqrt()


def norm_act(x: Tensor, bias: Tensor) -> Tensor:
    return leaky(pixel_norm(biased(x, bias), eps_of(x)))


def act_norm(x: Tensor, bias: Tensor) -> Tensor:
    return pixel_norm(leaky(biased(x, bias)), eps_of(x))


def avg_pool2(x: Tensor, bias: Tensor) -> Tensor:
    """Means over 2x2 pixels, without an odd last row or column."""
    a = leaky(biased(x, bias))[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    return sum(a[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def up2(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def interleave2(*phases: Tensor) -> Tensor:
    """Pixel (2i + a, 2j + b) is pixel (i, j) of phase 2a + b."""
    first, second = (torch.stack(phases[k : k + 2], -1).flatten(-2) for k in (0, 2))
    return torch.stack([first, second], -2).flatten(-3, -2)


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """The sum over nine taps of the shifted and zero-padded input."""
    h, w = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    windows = torch.stack([padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)])
    return torch.einsum("ock,knchw->nohw", weight.flatten(2), windows)


def up2_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    return conv3x3(up2(x), weight)


def up2_blend(old: Tensor, new: Tensor, alpha: Tensor) -> Tensor:
    return (1 - alpha) * up2(old) + alpha * new


def mean_and_m2(z: Tensor) -> tuple[Tensor, Tensor]:
    mean = z.sum(0) / len(z)
    return mean, (z - mean).pow(2).sum(0)


def moment_kl(z: Tensor) -> Tensor:
    """AGE, eq. 10 and PIONEER, eq. 1: -d/2 + sum_d [(s^2 + m^2) / 2 - log s]."""
    mean, m2 = mean_and_m2(z)
    variance = m2 / len(z)
    return -z.shape[1] / 2 + ((variance + mean.pow(2)) / 2 - variance.sqrt().log()).sum()


def moment_kl_and_moments(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return moment_kl(z), *mean_and_m2(z)


def gaussian_kl_reparam(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """VAE, appendix B: kl = -1/2 sum_d (1 + log s^2 - m^2 - s^2), z = m + s noise."""
    variance = logvar.exp()
    kl = -(1 + logvar - mu.pow(2) - variance).sum(1) / 2
    return mu + variance.sqrt() * noise, kl
