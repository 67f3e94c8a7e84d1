"""Densities fitted to latents: a Gaussian, or a mixture of as many as make others likeliest.

After Ghosh et al., 2020, "From Variational to Deterministic Autoencoders", section 4.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.checks import require
from pgvae.choices import PriorKind
from pgvae.prior import MOST_COMPONENTS, FittedPrior, log_joint
from pgvae.types import Posterior

SIZES = (1, 2, 4, 8, 16, 32, 64)  # of mixtures that are tried
_HELD_OUT = 5  # every fifth image
_FLOOR, _RELATIVE_FLOOR = 1e-8, 1e-6  # of variances: absolute, and of their mean
_RIDGE = 1e-3  # of a mixture's variances, in units of their mean
_POOLED = 4  # d latents more in each component, with the covariance that all have within
_LLOYD, _STEPS, _TOLERANCE = 20, 50, 1e-2  # of k-means; of EM, and nats an image


class Candidate(NamedTuple):
    """A density that was tried: mean log density of held-out latents, in nats an image."""

    components: int
    held_out: float


def fit(
    posterior: Posterior, kind: PriorKind = "mixture", components: int | None = None
) -> tuple[FittedPrior, list[Candidate]]:
    """Either kind, fitted to posteriors of images; -> it, and what was tried.

    components: of a mixture; None: twice as many, up to 64, as long as that makes held-out latents
    (every fifth) likelier by more than twice the standard error, so that it may be one Gaussian.
    What is chosen is fitted to all. Posteriors count with their variance. InputError with fewer
    than two images for each component.

    >>> rng = torch.Generator().manual_seed(0)
    >>> latents = torch.randn(100, 2, generator=rng) + 9 * (torch.arange(100) % 2)[:, None]
    >>> prior, candidates = fit(Posterior(latents))
    >>> prior.components, [candidate.components for candidate in candidates]
    (2, [1, 2, 4])
    """
    require(
        kind == "mixture" or components in (None, 1),
        f"components is {components}: a Gaussian has one",
    )
    latents = draw_posteriors(posterior)
    learned, held = split_off(len(latents))
    most = max(1, min(len(learned) // 2, MOST_COMPONENTS))
    require(
        (components or 1) <= most,
        f"{components or 1} components: {len(latents):,} images are enough for {most}; "
        "ask for fewer, or give more images",
    )
    if kind == "gaussian" or components:
        sizes = [components or 1]
    else:
        sizes = [size for size in SIZES if size <= max(1, len(held) // 2)]
    mean, logvar = posterior

    def fitted(which: Tensor, size: int) -> FittedPrior:
        if size > 1:
            return fit_mixture(latents[which], size)
        return fit_gaussian(mean[which], None if logvar is None else logvar[which])

    candidates: list[Candidate] = []
    density: Tensor | None = None  # of the best one
    for size in sizes if len(held) else ():
        found = fitted(learned, size).log_likelihood(latents[held])
        candidates.append(Candidate(size, found.mean().item()))
        if density is not None:
            gain = found - density
            if not gain.mean() > 2 * gain.std() / math.sqrt(len(gain)):
                break
        density, components = found, size
    return fitted(torch.arange(len(latents)), components or 1), candidates


def fit_gaussian(mean: Tensor, logvar: Tensor | None = None) -> FittedPrior:
    """The Gaussian with mean and covariance of the aggregate posterior of N images.

    mean: [N, d], points on the sphere (logvar None) or means of Gaussians with log variances
    logvar [N, d]: the covariance is then that of the means, plus the mean of e^logvar on the
    diagonal. Variances are kept, covariances of the means shrunk by the share of their squares
    that is expected to be noise (Schaefer and Strimmer, 2005, target D): almost none where N is
    large, all for N = 1. Variances are raised by 1e-8 and a millionth of their mean, so a
    Cholesky factor always exists. InputError for numbers that are not finite.

    >>> fit_gaussian(torch.zeros(8, 2), torch.zeros(8, 2)).factors
    tensor([[[1.0000, 0.0000],
             [0.0000, 1.0000]]])
    """
    mean = _checked(mean)
    centre = mean.mean(dim=0)
    covariance = _shrunk(mean - centre)
    if logvar is not None:
        covariance.diagonal().add_(_checked(logvar).exp().mean(dim=0))
    diagonal = covariance.diagonal()
    diagonal.add_(_FLOOR + _RELATIVE_FLOOR * diagonal.mean())
    factor = torch.linalg.cholesky(covariance)
    parts = (torch.ones(1, dtype=torch.float32), centre.float()[None], factor.float()[None])
    return FittedPrior("gaussian", *parts, about={"images": len(mean)})


def fit_mixture(latents: Tensor, components: int) -> FittedPrior:
    """A mixture of Gaussians with full covariances, by expectation maximisation from k-means.

    latents: [N, d], points on the sphere or one draw of each posterior (`draw_posteriors`). Each
    covariance is drawn to the one within all components, which counts as 4 d latents more
    (Friedman, 1989, "Regularized Discriminant Analysis"); variances are raised by a thousandth of
    their mean. In float32, 50 steps or until one gains less than 1e-2 nats an image. InputError
    for numbers that are not finite, and for no components or more than latents.

    >>> rng = torch.Generator().manual_seed(0)
    >>> latents = torch.randn(100, 2, generator=rng) + 9 * (torch.arange(100) % 2)[:, None]
    >>> fit_mixture(latents, 2).means.sort(dim=0).values.round().int().tolist()
    [[0, 0], [9, 9]]
    """
    latents = _checked(latents)
    most = min(len(latents), MOST_COMPONENTS)
    require(
        1 <= components <= most,
        f"{components} components of {len(latents):,} latents: use 1 to {most}",
    )
    centre = latents.mean(dim=0)
    unit = latents.var(dim=0, unbiased=False).mean().sqrt().clamp(min=_FLOOR)
    x = ((latents - centre) / unit).float()
    shares = F.one_hot(_clusters(x, components), components).float().t()
    before = -math.inf
    for _ in range(_STEPS):
        parts = _maximised(x, shares)
        joint = log_joint(x, *parts)
        total = joint.logsumexp(dim=0)
        shares, now = (joint - total).exp(), total.mean().item()
        if now - before < _TOLERANCE:
            break
        before = now
    weights, means, factors = parts
    means, factors = (means * unit + centre).float(), factors * unit.float()
    return FittedPrior("mixture", weights, means, factors, about={"images": len(latents)})


def draw_posteriors(posterior: Posterior, seed: int = 0) -> Tensor:
    """One latent of each posterior, or the points themselves: [N, d].

    >>> draw_posteriors(Posterior(torch.ones(1, 2), torch.full((1, 2), -100.0)))
    tensor([[1., 1.]])
    """
    mean, logvar = posterior
    if logvar is None:
        return mean
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(mean.shape, generator=rng, dtype=torch.float32)
    return mean + torch.exp(logvar / 2) * noise


def split_off(count: int) -> tuple[Tensor, Tensor]:
    """Indices to learn from, and every fifth, held out.

    >>> split_off(6)
    (tensor([0, 1, 2, 3, 5]), tensor([4]))
    """
    held = torch.arange(count) % _HELD_OUT == _HELD_OUT - 1
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def _maximised(x: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and factors of components that have shares [K, N] of x [N, d]."""
    counts = shares.sum(dim=1) + torch.finfo(x.dtype).eps
    means = shares @ x / counts[:, None]
    centred = (x - mean for mean in means)
    scatter = torch.stack([(c * s[:, None]).t() @ c for c, s in zip(centred, shares, strict=True)])
    more = _POOLED * x.shape[1]
    covariances = scatter + more * scatter.sum(dim=0) / counts.sum()
    covariances /= (counts + more)[:, None, None]
    covariances.diagonal(dim1=1, dim2=2).add_(_RIDGE)
    return counts / counts.sum(), means, torch.linalg.cholesky(covariances)


def _clusters(x: Tensor, count: int) -> Tensor:
    """The cluster of each of x [N, d], by Lloyd's k-means from k-means++ (Arthur and
    Vassilvitskii, 2007)."""
    rng = torch.Generator().manual_seed(0)
    centres = x[torch.randint(len(x), (1,), generator=rng)]
    while len(centres) < count:
        squares = torch.cdist(x, centres).square().amin(dim=1) + 1e-12
        centres = torch.cat([centres, x[torch.multinomial(squares, 1, generator=rng)]])
    for _ in range(_LLOYD):
        found = torch.cdist(x, centres).argmin(dim=1)
        for k in found.unique().tolist():
            centres[k] = x[found == k].mean(dim=0)
    return found


def _checked(values: Tensor) -> Tensor:
    """In float64 on the CPU; InputError unless it is [N, d] of finite numbers."""
    require(values.ndim == 2 and len(values) > 0, f"latents must be [N, d]: got {[*values.shape]}")
    require(bool(values.isfinite().all()), "the encoder gives latents that are not finite")
    return values.double().cpu()


def _shrunk(x: Tensor) -> Tensor:
    """Covariance of centred x [N, d], off the diagonal times 1 - sum Var(c_ij) / sum c_ij^2."""
    covariance = x.t() @ x / len(x)
    squares = covariance.square()
    noise = (x.square().t() @ x.square() / len(x) - squares) / len(x)
    total = (squares.sum() - squares.trace()).item()
    noisy = (noise.sum() - noise.trace()).item()
    share = min(max(noisy / total, 0.0), 1.0) if total > 0 else 1.0
    variances = covariance.diagonal().clone()
    covariance *= 1 - share
    covariance.diagonal().copy_(variances)
    return covariance
