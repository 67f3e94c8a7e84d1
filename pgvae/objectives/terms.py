"""Terms that objectives share: priors, divergences, reconstruction errors.

Whether a term is a sum or a mean is part of its name or docstring: it decides its weight.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae import ops
from pgvae.config import Head

Reconstruction = Literal["mse", "l1", "bce"]


def sample_prior(head: Head, count: int, latent_dim: int, rng: torch.Generator) -> Tensor:
    """Latents [count, latent_dim] from the training prior, on the device of `rng`.

    "sphere": uniform on the unit sphere (AGE, PIONEER); "gaussian": N(0, I) (VAE family).
    """
    noise = torch.randn(count, latent_dim, generator=rng, device=rng.device)
    return F.normalize(noise, dim=1) if head == "sphere" else noise


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mu, e^logvar) to N(0, I): [N, d], [N, d] -> [N], nats, >= 0."""
    return ops.gaussian_kl_reparam(mu, logvar, torch.zeros_like(mu))[1]


def moment_kl(z: Tensor) -> Tensor:
    """KL of the batch's diagonal Gaussian to N(0, I): [N, d] -> scalar, nats summed over d.

    AGE, PIONEER (eq. 1), with the biased variance v. For unit vectors it equals
    1/2 - d/2 - 1/2 sum_d log v_d, least where every v_d is 1/d. ValueError for N < 2.
    """
    return ops.moment_kl(z)


def mean_abs_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean over batch and pixels of |x - y|, scalar (PIONEER, eq. 2)."""
    return (x - y).abs().mean()


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the batch of 1 - <a, b> for unit vectors [N, d], scalar (PIONEER, eq. 3)."""
    return (1 - (a * b).sum(dim=1)).mean()


def pixel_sum(kind: Reconstruction, x: Tensor, x_r: Tensor) -> Tensor:
    """Reconstruction error summed over C, H, W and averaged over the batch: a scalar.

    mse: (x - x_r)^2. l1: |x - x_r|. bce: binary cross entropy of both taken to [0, 1], in nats;
    x_r must then lie within [-1, 1], as a tanh output does. x, x_r: [N, C, H, W].
    """
    if kind == "mse":
        error = (x - x_r).square()
    elif kind == "l1":
        error = (x - x_r).abs()
    else:
        target, guess = ((t.float() + 1) / 2 for t in (x, x_r))
        with torch.autocast(x.device.type, enabled=False):  # CUDA's refuses this loss
            error = F.binary_cross_entropy(guess, target.clamp(0, 1), reduction="none")
    return error.sum(dim=(1, 2, 3)).mean()
