"""Densities fitted to the latents of images, and latents drawn from them or the training prior.

After Ghosh et al., 2020, "From Variational to Deterministic Autoencoders", section 4.
"""

import warnings
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from pgvae.checks import require, require_choice, whole
from pgvae.choices import MOST_AT_ONCE, Prior, PriorKind
from pgvae.config import Head
from pgvae.errors import InputError
from pgvae.objectives import terms
from pgvae.prior import MOST_COMPONENTS, FittedPrior, noise_rows, require_truncation
from pgvae.types import Posterior

SIZES = (1, 2, 4, 8, 16, 32)  # of mixtures that are tried
_HELD_OUT = 5  # every fifth image
_FLOOR, _RELATIVE_FLOOR = 1e-8, 1e-6  # of variances: absolute, and of their mean


class Candidate(NamedTuple):
    """A density that was tried: mean log density of held-out latents, in nats an image."""

    components: int
    held_out: float


def draw_latents(
    head: Head,
    dim: int,
    count: int,
    seed: int,
    prior: FittedPrior | None = None,
    truncation: float = 1.0,
) -> Tensor:
    """Latents [count, d] from a fitted prior, or the training prior without one, on the CPU.

    The first `count` of `LatentStream`.

    >>> full, near = (draw_latents("gaussian", 4, 2, 0, truncation=t) for t in (1.0, 0.5))
    >>> torch.equal(near, full / 2)
    True
    """
    return LatentStream(head, dim, seed, prior, truncation).next(count)


class LatentStream:
    """Latents from a fitted prior, or the training prior without one, one after the other.

    The same for a seed on every device, in whatever portions, and of the same noise for both.
    truncation: in (0, 1], scales that noise; InputError for the training prior of the sphere,
    which has no centre.

    >>> stream = LatentStream("gaussian", 4, seed=0)
    >>> torch.equal(torch.cat([stream.next(2), stream.next(1)]), draw_latents("gaussian", 4, 3, 0))
    True
    """

    def __init__(
        self,
        head: Head,
        dim: int,
        seed: int,
        prior: FittedPrior | None = None,
        truncation: float = 1.0,
    ) -> None:
        require_truncation(truncation)
        require(
            prior is not None or head == "gaussian" or truncation == 1,
            f"truncation {truncation}: the training prior of a sphere has no centre to truncate "
            "to; use the fitted prior, or 1",
        )
        self._head, self._dim, self._prior, self._truncation = head, dim, prior, truncation
        seed = whole("seed", seed)
        self._noise = torch.Generator().manual_seed(seed)
        self._chooser = torch.Generator().manual_seed(~seed)

    def next(self, count: int) -> Tensor:
        """The next latents, [count, d], on the CPU."""
        count = whole("count", count)
        require(count <= MOST_AT_ONCE, f"count is {count}: use {MOST_AT_ONCE} at most")
        if self._prior is None:
            latents = self._truncation * noise_rows(count, self._dim, self._noise)
        else:
            latents = self._prior.sample(count, self._noise, self._truncation, self._chooser)
        return terms.on_prior(self._head, latents)


def choose_prior(prior: Prior, fitted: FittedPrior | None, path: Path | None) -> FittedPrior | None:
    """The fitted prior if that is asked for, None for the training prior.

    InputError where none was fitted to the snapshot at `path`.
    """
    require_choice("prior", prior, get_args(Prior))
    require(
        prior == "training" or fitted is not None,
        "this snapshot has no fitted prior: fit one with `pgvae prior --snapshot "
        f"{path or 'PATH'} --dataset NAME`",
    )
    return fitted if prior == "fitted" else None


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


def fit_mixture(
    latents: Tensor, components: int | None = None
) -> tuple[FittedPrior, list[Candidate]]:
    """A mixture of Gaussians with full covariances, by expectation maximisation (scikit-learn).

    latents: [N, d], points on the sphere or one draw of each posterior (`draw_posteriors`), so
    that their variance counts. components: of `SIZES` those that held-out latents (every fifth)
    find likeliest when None, larger ones being tried until they are less likely; it is then
    fitted to all. -> the mixture and what was tried. Variances are raised by a thousandth of their
    mean. InputError without the package or with fewer than two images for each component.

    >>> rng = torch.Generator().manual_seed(0)
    >>> latents = torch.randn(100, 2, generator=rng) + 9 * (torch.arange(100) % 2)[:, None]
    >>> prior, candidates = fit_mixture(latents)
    >>> prior.components, [candidate.components for candidate in candidates]
    (2, [1, 2, 4])
    """
    latents = _checked(latents)
    learned, held = split_off(len(latents))
    most = min(len(learned) // 2, MOST_COMPONENTS)
    require(
        (components or 1) <= most,
        f"{components or 1} components: {len(latents):,} images are enough for {most}; "
        "ask for fewer, or give more images",
    )
    candidates: list[Candidate] = []
    for size in [components] if components else [size for size in SIZES if size <= most]:
        found = _mixture(latents[learned], size)
        held_out = found.log_likelihood(latents[held]).mean().item()
        candidates.append(Candidate(size, held_out))
        if held_out < max(other.held_out for other in candidates):
            break
    best = max(candidates, key=lambda candidate: candidate.held_out)
    return _mixture(latents, best.components), candidates


def fit(
    posterior: Posterior, kind: PriorKind = "gaussian", components: int | None = None
) -> tuple[FittedPrior, list[Candidate]]:
    """Either kind, fitted to posteriors of images; -> it, and what was tried.

    >>> prior, candidates = fit(Posterior(torch.eye(10)))
    >>> prior.kind, len(candidates)
    ('gaussian', 1)
    """
    latents = draw_posteriors(posterior)
    if kind == "mixture":
        return fit_mixture(latents, components)
    require(components in (None, 1), f"components is {components}: a Gaussian has one")
    learned, held = split_off(len(latents))
    candidates = []
    if len(held):
        mean, logvar = posterior
        found = fit_gaussian(mean[learned], None if logvar is None else logvar[learned])
        candidates = [Candidate(1, found.log_likelihood(latents[held]).mean().item())]
    return fit_gaussian(*posterior), candidates


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


def _mixture(latents: Tensor, components: int) -> FittedPrior:
    """Fitted to float64 [N, d], in units of their deviation."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ModuleNotFoundError as error:
        raise InputError(
            "a mixture needs the package scikit-learn: pip install 'pgvae[prior]', or fit a "
            "Gaussian"
        ) from error
    unit = latents.var(dim=0, unbiased=False).mean().sqrt().clamp(min=_FLOOR)
    found = GaussianMixture(components, reg_covar=1e-3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture all the same
        found.fit((latents / unit).numpy())
    weights, means, covariances = map(
        torch.from_numpy, (found.weights_, found.means_, found.covariances_)
    )
    return FittedPrior(
        "mixture",
        weights.float(),
        (means * unit).float(),
        (torch.linalg.cholesky(covariances) * unit).float(),
        about={"images": len(latents)},
    )
