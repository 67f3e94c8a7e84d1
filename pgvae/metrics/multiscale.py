"""Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003) of pairs and of sets."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.metrics.reconstruction import SIGMA, WINDOW, to_unit, window_for
from pgvae.metrics.sets import Images, batches, optional

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_K1, _K2 = 0.01, 0.03
_NO_LUMINANCE = 1e6  # a K1 that makes the luminance term exactly 1 in float32
_AT_ONCE = 16  # images: bounds the memory


def msssim_pairs(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM of each pair of images [N, C, H, W] in [-1, 1]: [N], 0 to 1; 1 for equal images.

    Contrast and structure at each scale, luminance at the coarsest one, to the published
    weights; negative terms count as 0. Sides from 161 pixels on have all five scales; below,
    as many of the finest as hold a window of 11 pixels, with their weights scaled to sum 1 (2 at
    32, 3 at 64, 4 at 128 pixels): compare figures of one resolution only. ValueError where the
    shapes differ.

    >>> images = torch.rand(2, 3, 32, 32) * 2 - 1
    >>> msssim_pairs(images, images), msssim_pairs(images, -images)
    (tensor([1., 1.]), tensor([0., 0.]))
    """
    package = optional("pytorch_msssim", "pytorch-msssim", "ms-ssim")
    if a.shape != b.shape:
        raise ValueError(f"images must be of one shape: got {list(a.shape)} and {list(b.shape)}")
    side, (count, channels) = min(a.shape[-2:]), a.shape[:2]
    scales = scales_for(side)
    weights = WEIGHTS  # as published: their sum is 1.0001
    if scales < len(WEIGHTS):
        weights = [weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales]]
    # Channels are weighted apart: each is an image of its own.
    a, b = (to_unit(x).flatten(0, 1)[:, None] for x in (a, b))
    product = a.new_ones(len(a))
    for scale in range(scales):
        last = scale == scales - 1
        similarity = package.ssim(
            a,
            b,
            data_range=1.0,
            size_average=False,
            win_size=window_for(side),
            win_sigma=SIGMA,
            K=(_K1 if last else _NO_LUMINANCE, _K2),
        )
        product *= similarity.clamp(min=0) ** weights[scale]
        if not last:
            a, b = _half(a), _half(b)
    return product.view(count, channels).mean(dim=1)


def scales_for(side: int) -> int:
    """How many of the five scales fit in an image of `side` pixels; at least 1.

    >>> [scales_for(side) for side in (16, 32, 64, 128, 256)]
    [1, 2, 3, 4, 5]
    """
    return max(1, sum(side > (WINDOW - 1) * 2**scale for scale in range(len(WEIGHTS))))


class PairSimilarity:
    """Mean MS-SSIM of the images of a set, 1st with 2nd, 3rd with 4th, gathered batch by batch.

    How the set is cut into batches does not matter; an odd last image is left out.

    >>> similarity = PairSimilarity()
    >>> for _ in range(3):
    ...     similarity.add(torch.zeros(3, 3, 8, 8))
    >>> similarity.pairs, similarity.mean()
    (4, 1.0)
    """

    def __init__(self) -> None:
        self.scales = 0  # that were used; 0 before the first image
        self._values: list[Tensor] = []  # of the pairs so far
        self._left: Tensor | None = None  # an image that waits for its partner: [1, C, R, R]

    @property
    def pairs(self) -> int:
        """Pairs so far."""
        return sum(len(values) for values in self._values)

    @torch.no_grad()
    def add(self, images: Images) -> None:
        """Take in images [N, C, R, R] in [-1, 1], or batches of them; ValueError otherwise."""
        for batch in batches(images, _AT_ONCE):
            self.scales = scales_for(min(batch.shape[-2:]))
            waiting = batch if self._left is None else torch.cat([self._left, batch])
            whole = len(waiting) // 2 * 2
            self._left = waiting[whole:].clone() if len(waiting) > whole else None
            if whole:
                self._values.append(msssim_pairs(waiting[:whole:2], waiting[1:whole:2]).cpu())

    def mean(self) -> float:
        """The mean over the pairs; ValueError before the first pair."""
        if not self._values:
            raise ValueError("ms-ssim needs at least 2 images: got fewer")
        return math.fsum(torch.cat(self._values).tolist()) / self.pairs


def msssim(images: Images) -> float:
    """How alike the images of a set are: the mean MS-SSIM of consecutive pairs, 0 to 1.

    images: [N, C, R, R] in [-1, 1], in random order, or batches of them. PGGAN's measure of
    diversity, over 10,000 pairs of generated images: a figure above that of the real images
    says that modes are missing. ValueError for fewer than two images.

    >>> msssim(torch.rand(1, 3, 16, 16).repeat(4, 1, 1, 1))
    1.0
    """
    similarity = PairSimilarity()
    similarity.add(images)
    return similarity.mean()


def _half(images: Tensor) -> Tensor:
    """Means of 2x2 pixels; an odd side gets a border of zeros, as in pytorch-msssim."""
    return F.avg_pool2d(images, 2, padding=[side % 2 for side in images.shape[2:]])
