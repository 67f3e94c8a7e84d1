"""The images of a set that are nearest to given ones: whether a model only repeats its data."""

from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.choices import Likeness
from pgvae.metrics.features import Extractor, efficientnet
from pgvae.metrics.reconstruction import ssim
from pgvae.metrics.sets import Images, batches

MEASURES: tuple[str, ...] = get_args(Likeness)


@torch.no_grad()
def nearest(
    queries: Tensor,
    candidates: Images,
    by: Likeness,
    count: int,
    extractor: Extractor | None = None,
) -> tuple[Tensor, Tensor]:
    """The `count` best candidates for each query, best first: figures and indices, [Q, count].

    queries: [Q, C, R, R] in [-1, 1]; candidates: [N, C, R, R] or batches of them, of which only
    the best are kept. Of equals the earlier comes first. Both results are on the CPU.

    by "l1":       mean |difference| of pixels in 8-bit levels, 0 to 255; least first.
    by "ssim":     `pgvae.metrics.ssim`, at most 1; greatest first.
    by "features": cosine of the features of `extractor` (EfficientNet-Lite0 without one), -1 to
                   1; greatest first.
    ValueError where the shapes differ, `by` is unknown, or there are fewer candidates than count.

    >>> candidates = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 3, 4, 4)
    >>> nearest(candidates[[1]], candidates, "l1", count=2)
    (tensor([[ 0.0000, 63.7500]]), tensor([[1, 0]]))
    """
    if by not in MEASURES:
        raise ValueError(f"by is {by!r}: choose one of {', '.join(MEASURES)}")
    if count < 1 or len(queries) < 1:
        raise ValueError(f"{len(queries)} queries and count {count}: use 1 or more of each")
    queries = torch.cat([*batches(queries)])
    compare = _comparison(queries, by, extractor)
    sign = 1.0 if by == "l1" else -1.0  # so that the best is the least
    best = torch.empty(len(queries), 0)
    indices, seen = best.long(), 0
    for batch in batches(candidates):
        _check_shapes(queries, batch)
        figures = sign * compare(batch.to(queries.device)).cpu()
        best, order = torch.cat([best, figures], dim=1).sort(dim=1, stable=True)
        new = torch.arange(seen, seen + len(batch)).expand(len(queries), -1)
        indices = torch.cat([indices, new], dim=1).gather(1, order)[:, :count]
        best, seen = best[:, :count], seen + len(batch)
    if seen < count:
        raise ValueError(f"count is {count}, but there are {seen} candidates: use fewer")
    return sign * best, indices


def _check_shapes(queries: Tensor, batch: Tensor) -> None:
    if batch.shape[1:] != queries.shape[1:]:
        raise ValueError(
            "queries and candidates must be of one shape: "
            f"got {list(queries.shape[1:])} and {list(batch.shape[1:])}"
        )


def _comparison(
    queries: Tensor, by: Likeness, extractor: Extractor | None
) -> Callable[[Tensor], Tensor]:
    """What gives the figures [Q, n] of a batch of n candidates."""
    if by == "l1":
        flat = queries.flatten(1)
        return lambda batch: torch.cdist(flat, batch.flatten(1), p=1) / flat.shape[1] * 127.5
    if by == "ssim":
        return lambda batch: torch.stack([ssim(q.expand_as(batch), batch) for q in queries])
    features = extractor or efficientnet()
    directions = F.normalize(features(queries))
    return lambda batch: directions @ F.normalize(features(batch)).t()
