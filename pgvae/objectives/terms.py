"""Terms that objectives share: priors, divergences, distances, reconstruction errors.

Whether a term is a sum or a mean is part of its name or docstring: it decides its weight.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae import ops
from pgvae.config import Head

Reconstruction = Literal["mse", "l1", "bce"]
DistanceForm = Literal["marginal", "tempered", "cauchy_schwarz"]

_LEAST_VARIANCE = 1e-4  # of a posterior, in the AS distance


def on_prior(head: Head, noise: Tensor) -> Tensor:
    """Latents [N, d] of the training prior, from standard normal noise [N, d].

    "sphere": uniform on the unit sphere (AGE, PIONEER); "gaussian": N(0, I) (VAE family).

    >>> on_prior("sphere", torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return F.normalize(noise, dim=1) if head == "sphere" else noise


def uniform(noise: Tensor) -> Tensor:
    """Numbers uniform in (0, 1), from as many that are standard normal.

    >>> uniform(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.1587, 0.5000, 0.8413])
    """
    return torch.special.ndtr(noise)


def gradient_norm(scores_of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Length of the gradient of each image's score in its pixels: [N, C, H, W] -> [N].

    scores_of: [N, C, H, W] -> [N]; where it compares images, of the sum of scores. With a graph
    for second derivatives, unless autograd is off.

    >>> gradient_norm(lambda images: 3 * images[:, 0, 0, 0], torch.zeros(2, 1, 2, 2)).tolist()
    [3.0, 3.0]
    """
    with_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        total = scores_of(images).sum()
        (gradient,) = torch.autograd.grad(total, images, create_graph=with_graph)
    return _wide(gradient).flatten(1).norm(dim=1)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mu, e^logvar) to N(0, I): [N, d], [N, d] -> [N], nats, >= 0.

    >>> gaussian_kl(torch.ones(1, 4), torch.zeros(1, 4))
    tensor([2.])
    """
    return ops.gaussian_kl_reparam(mu, logvar, torch.zeros_like(mu))[1]


def moment_kl(z: Tensor) -> Tensor:
    """KL of the batch's diagonal Gaussian to N(0, I): [N, d] -> scalar, nats summed over d.

    AGE, PIONEER (eq. 1), with the biased variance v. For unit vectors it equals
    1/2 - d/2 - 1/2 sum_d log v_d, least where every v_d is 1/d. ValueError for N < 2.

    >>> moment_kl(torch.tensor([[2.0], [0.0]]))  # of mean 1 and variance 1
    tensor(0.5000)
    """
    return ops.moment_kl(z)


def abs_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean over the pixels of each image of |x - y|: [N, C, H, W] twice -> [N] (PIONEER, eq. 2).

    >>> abs_error(torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2))
    tensor([1., 1.])
    """
    return (x - y).abs().mean(dim=(1, 2, 3))


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - <a, b> of unit vectors: [N, d] twice -> [N] (PIONEER, eq. 3).

    >>> cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]))
    tensor([0.4000])
    """
    return 1 - (a * b).sum(dim=1)


def pixel_sum(kind: Reconstruction, x: Tensor, x_r: Tensor) -> Tensor:
    """Reconstruction error summed over C, H, W: [N, C, H, W] twice -> [N].

    mse: (x - x_r)^2. l1: |x - x_r|. bce: binary cross entropy of both taken to [0, 1], in nats;
    x_r must then lie within [-1, 1], as a tanh output does.

    >>> pixel_sum("mse", torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2))
    tensor([12., 12.])
    """
    x, x_r = _wide(x), _wide(x_r)
    if kind == "mse":
        error = (x - x_r).square()
    elif kind == "l1":
        error = (x - x_r).abs()
    else:
        with torch.autocast(x.device.type, enabled=False):  # CUDA's refuses this loss
            target, guess = (x + 1) / 2, (x_r + 1) / 2
            error = F.binary_cross_entropy(guess, target.clamp(0, 1), reduction="none")
    return error.sum(dim=(1, 2, 3))


def unit_pixel_sum(kind: Reconstruction, x: Tensor, x_r: Tensor) -> Tensor:
    """`pixel_sum` of images taken from [-1, 1] to [0, 1]: [N, C, H, W] twice -> [N].

    The scale on which IntroVAE's and Soft-IntroVAE's weights are stated: a quarter of the squared
    error, half of the absolute one.

    >>> unit_pixel_sum("mse", torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2))
    tensor([3., 3.])
    """
    return {"mse": 0.25, "l1": 0.5, "bce": 1.0}[kind] * pixel_sum(kind, x, x_r)


def known_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy over the targets that are known (not NaN): [N, K] twice -> scalar.

    Their mean, in nats; 0 where none is known.

    >>> known_bce(torch.zeros(1, 2), torch.tensor([[1.0, math.nan]]))
    tensor(0.6931)
    """
    known = targets.isfinite()
    errors = F.binary_cross_entropy_with_logits(
        _wide(logits), targets.nan_to_num().to(_wide(logits)), reduction="none"
    )
    return (errors * known).sum() / known.sum().clamp(min=1)


def known_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of the known targets (not NaN) that the logit's sign agrees with: [N, K] -> scalar.

    >>> known_accuracy(torch.tensor([[3.0, -2.0, 1.0]]), torch.tensor([[1.0, 1.0, math.nan]]))
    tensor(0.5000)
    """
    known = targets.isfinite()
    right = ((logits > 0) == (targets > 0.5)) & known
    return right.sum() / known.sum().clamp(min=1)


def as_distance(
    mu_r: Tensor,
    logvar_r: Tensor,
    mu_g: Tensor,
    logvar_g: Tensor,
    form: DistanceForm = "marginal",
    *,
    unbiased: bool = True,
) -> Tensor:
    """Adversarial similarity distance of two sets of Gaussian posteriors (AS-IntroVAE, eq. 7-8).

    [N, d], [N, d], [M, d], [M, d] -> scalar: E k(r, r') + E k(g, g') - 2 E k(r, g), where k(i, j)
    is the integral of the product of both densities, N(mu_i - mu_j; 0, v) with v = s_i^2 + s_j^2.
    Over d dimensions that product underflows, so:

    marginal:       the mean over dimensions of exp(-(mu_i - mu_j)^2 / 2v) / sqrt(v), one
                    dimension's kernel without its constant.
    tempered:       k^(1/d), the geometric mean over dimensions.
    cauchy_schwarz: log E k(r, r') + log E k(g, g') - 2 log E k(r, g), over d, in logarithms.

    unbiased: leave pairs of an image with itself out (a U-statistic), so that two sets from one
    distribution have distance 0 on average, whatever N; else 0 for the same set twice, and >= 0.
    Variances below 1e-4 count as 1e-4: a kernel grows without bound as they vanish, and an encoder
    that drives the distance up would follow. Computed in float32 or better; needs memory for
    N M d numbers. ValueError for fewer than two images on a side.

    >>> far, near = (torch.full((2, 1), mu) for mu in (100.0, 0.0))
    >>> as_distance(near, torch.zeros(2, 1), far, torch.zeros(2, 1))
    tensor(1.4142)
    """
    if min(len(mu_r), len(mu_g)) < 2:
        raise ValueError(
            f"the AS distance needs two or more images on each side: got {len(mu_r)}, {len(mu_g)}"
        )
    real, fake = (_gaussians(*side) for side in ((mu_r, logvar_r), (mu_g, logvar_g)))
    pairs = ((real, real), (fake, fake), (real, fake))
    if form == "cauchy_schwarz":
        within_r, within_g, across = (
            _log_mean(_log_kernel(a, b).sum(dim=2), unbiased and a is b) for a, b in pairs
        )
        return (within_r + within_g - 2 * across) / mu_r.shape[1]
    within_r, within_g, across = (
        _pair_mean(_kernel(a, b, form), unbiased and a is b) for a, b in pairs
    )
    return within_r + within_g - 2 * across


_Gaussians = tuple[Tensor, Tensor]  # means and variances, [N, d] each


def _gaussians(mu: Tensor, logvar: Tensor) -> _Gaussians:
    return _wide(mu), _wide(logvar).exp().clamp(min=_LEAST_VARIANCE)


def _log_kernel(a: _Gaussians, b: _Gaussians) -> Tensor:
    """-((mu_i - mu_j)^2 / v + log v) / 2 by dimension: [N, M, d]; log 2 pi is left out."""
    variance = a[1][:, None] + b[1][None]
    return -0.5 * ((a[0][:, None] - b[0][None]).square() / variance + variance.log())


def _kernel(a: _Gaussians, b: _Gaussians, form: DistanceForm) -> Tensor:
    logs = _log_kernel(a, b)
    return logs.exp().mean(dim=2) if form == "marginal" else logs.mean(dim=2).exp()


def _pair_mean(kernel: Tensor, off_diagonal: bool) -> Tensor:
    """Mean over pairs [N, M], without the diagonal if asked."""
    if not off_diagonal:
        return kernel.mean()
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


def _log_mean(logs: Tensor, off_diagonal: bool) -> Tensor:
    """log of the mean of exp over pairs [N, M], without the diagonal if asked."""
    count = logs.numel()
    if off_diagonal:
        count -= len(logs)
        diagonal = torch.eye(len(logs), dtype=torch.bool, device=logs.device)
        logs = logs.masked_fill(diagonal, -torch.inf)
    return logs.flatten().logsumexp(dim=0) - math.log(count)


def _wide(x: Tensor) -> Tensor:
    """In float32, or float64 as it is: autocast's halves are too coarse for sums."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
