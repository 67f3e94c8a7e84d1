"""Latents drawn from a fitted prior or from the training prior."""

from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from pgvae.checks import require, require_choice, whole
from pgvae.choices import MOST_AT_ONCE, Prior
from pgvae.config import Head
from pgvae.objectives import terms
from pgvae.prior import FittedPrior, noise_rows, require_truncation


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
