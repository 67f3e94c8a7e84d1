"""The distribution of a model's latents, fitted after training: what else to sample from.

Trained encoders rarely fill the prior that they were trained for; samples of a density fitted
to the latents of training images are then better (Ghosh et al., 2020, "From Variational to
Deterministic Autoencoders", section 4).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor

from pgvae.checks import require, require_choice
from pgvae.choices import PriorKind

MOST_COMPONENTS = 256


@dataclass(frozen=True)
class FittedPrior:
    """A Gaussian, or a mixture of them, over latents; on the sphere over R^d around it.

    kind:       "gaussian" or "mixture".
    weights:    [K] of the components, positive, with sum 1.
    means:      [K, d].
    factors:    [K, d, d], lower triangular with a positive diagonal: covariance = L L^T.
    is_default: whether a model draws from it unless told otherwise.
    about:      what is known of it, ready for JSON: images it was fitted to, figures.

    All float32 on the CPU. InputError where they are no such numbers.

    >>> prior = FittedPrior("gaussian", torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    >>> prior.components, prior.dim
    (1, 2)
    """

    kind: PriorKind
    weights: Tensor
    means: Tensor
    factors: Tensor
    is_default: bool = True
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_choice("kind of prior", self.kind, get_args(PriorKind))
        shapes = [tuple(t.shape) for t in (self.weights, self.means, self.factors)]
        count, dim = shapes[1] if len(shapes[1]) == 2 else (0, 0)
        require(
            count >= 1 and shapes == [(count,), (count, dim), (count, dim, dim)],
            f"weights, means and factors must be [K], [K, d], [K, d, d]: got {shapes}",
        )
        sound = all(bool(t.isfinite().all()) for t in (self.weights, self.means, self.factors))
        require(sound, "weights, means and factors must be finite")
        require(
            bool((self.weights > 0).all()) and abs(self.weights.double().sum().item() - 1) < 1e-4,
            "the weights of components must be positive, with sum 1",
        )
        require(
            bool((self.factors.diagonal(dim1=1, dim2=2) > 0).all())
            and not bool(self.factors.triu(1).any()),
            "factors must be lower triangular with a positive diagonal",
        )

    @property
    def components(self) -> int:
        """K, the Gaussians that it is a mixture of."""
        return len(self.weights)

    @property
    def dim(self) -> int:
        """d, length of a latent vector."""
        return self.means.shape[1]

    def sample(
        self,
        count: int,
        generator: torch.Generator,
        truncation: float = 1.0,
        chooser: torch.Generator | None = None,
    ) -> Tensor:
        """Latents [count, d], not projected: m_k + truncation L_k e, with e from N(0, I).

        truncation: in (0, 1]; below 1 they are nearer to the mean of their component, surer and
        less varied. e is what `generator` (of the CPU) draws first, as for the training prior.
        chooser:    draws k in its place; the first latents are then the same for any count.

        >>> prior = FittedPrior("gaussian", torch.ones(1), torch.ones(1, 2), torch.eye(2)[None])
        >>> draws = [prior.sample(3, torch.Generator().manual_seed(0), t) - 1 for t in (1.0, 0.5)]
        >>> torch.allclose(draws[0], 2 * draws[1])
        True
        """
        require_truncation(truncation)
        noise = truncation * noise_rows(count, self.dim, generator).double()
        if self.components == 1:
            chosen = torch.zeros(count, dtype=torch.int64)
        else:
            shares = self.weights.double().cumsum(dim=0)
            rng = chooser or generator
            drawn = shares[-1] * torch.rand(count, generator=rng, dtype=torch.float64)
            chosen = torch.searchsorted(shares, drawn, right=True).clamp(max=len(shares) - 1)
        latents = self.means.double()[chosen]
        for k in chosen.unique().tolist():
            latents[chosen == k] += noise[chosen == k] @ self.factors[k].double().t()
        return latents.float()

    def log_likelihood(self, latents: Tensor) -> Tensor:
        """log density in nats of latents [N, d], not projected: -> [N], float64.

        >>> prior = FittedPrior("gaussian", torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
        >>> round(prior.log_likelihood(torch.zeros(1, 2)).exp().item() * 2 * math.pi, 4)
        1.0
        """
        parts = (self.weights.double(), self.means.double(), self.factors.double())
        return log_joint(latents.double().cpu(), *parts).logsumexp(dim=0)


def log_joint(latents: Tensor, weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """log of weight_k N(latent_n; mean_k, L_k L_k^T) in nats: -> [K, N], in the type that is given.

    >>> log_joint(torch.zeros(1, 2), torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    tensor([[-1.8379]])
    """
    parts = []
    for weight, mean, factor in zip(weights, means, factors, strict=True):
        white = torch.linalg.solve_triangular(factor, (latents - mean).t(), upper=False)
        volume = factor.diagonal().log().sum()
        parts.append(weight.log() - 0.5 * white.square().sum(dim=0) - volume)
    return torch.stack(parts) - 0.5 * latents.shape[1] * math.log(2 * math.pi)


def noise_rows(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Numbers from N(0, 1), [count, dim], row by row: the first rows are the same for any count.

    >>> few, many = (noise_rows(n, 3, torch.Generator().manual_seed(0)) for n in (2, 5))
    >>> torch.equal(few, many[:2])
    True
    """
    noise = torch.empty(count, dim, dtype=torch.float32)
    for row in noise:
        row.normal_(generator=generator)
    return noise


def require_truncation(truncation: float) -> None:
    """Raise InputError unless it lies in (0, 1].

    >>> require_truncation(0.0)
    Traceback (most recent call last):
    pgvae.errors.InputError: truncation is 0.0: use a number above 0, up to 1 (1: none)
    """
    require(
        0 < truncation <= 1,
        f"truncation is {truncation}: use a number above 0, up to 1 (1: none)",
    )
