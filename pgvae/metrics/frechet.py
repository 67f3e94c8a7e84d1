"""FID and KID: distances between the features of two sets of images."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pgvae.metrics.features import extractor
from pgvae.metrics.sets import Images, optional

_ROWS = 4096  # of features that are worked on at once


def fid(
    reals: Images,
    fakes: Images,
    weights: Path | None = None,
    device: str | torch.device = "cpu",
) -> float:
    """Frechet distance of two sets of images (Heusel et al., 2017), at least 0.

    reals, fakes: [N, C, R, R] in [-1, 1] or batches of them, of any two numbers from 2 on. With
    the file of the FID Inception as `weights` this is the published FID; without, the features
    are EfficientNet-Lite0's, on a scale of their own. It falls with the number of images (10,000
    or 50,000 in papers): compare figures of equal numbers. Raises as `frechet_distance` and
    `pgvae.metrics.features.extractor`.

    >>> black = -torch.ones(2, 3, 8, 8)
    >>> fid(black, black) < 1e-6 < fid(black, -black)
    True
    """
    features = extractor(weights, device)
    return frechet_distance(features(reals), features(fakes))


def kid(
    reals: Images,
    fakes: Images,
    weights: Path | None = None,
    device: str | torch.device = "cpu",
) -> float:
    """Kernel distance of two sets of images (Binkowski et al., 2018): as `fid`, and unbiased.

    Its expectation does not depend on the number of images and is 0 for sets of one source, so
    that a figure can be below 0. Raises as `kernel_distance` and `extractor`.

    >>> black = -torch.ones(2, 3, 8, 8)
    >>> kid(black, -black) > kid(black, black)
    True
    """
    features = extractor(weights, device)
    return kernel_distance(features(reals), features(fakes))[0]


@torch.no_grad()
def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of features real [N, D] and fake [M, D].

    In float64, with the unbiased covariances S. With factors S = R^T R the trace of
    (S1 S2)^(1/2) is the sum of the singular values of R1 R2^T, and R comes from the features
    themselves: the error is that of float64. The eigenvalues of a product of covariances would
    have it at its square root where these are singular, as they are for N <= D. ValueError for
    fewer than two rows, features that are not finite, or other shapes.

    >>> real = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(real, real + 0.5), 4)  # 8 * 0.5^2
    2.0
    """
    _check(real, fake)
    (mean, factor), (fake_mean, fake_factor) = (_mean_and_factor(x) for x in (real, fake))
    shift = (mean - fake_mean).square().sum()
    traces = factor.square().sum() + fake_factor.square().sum()
    overlap = torch.linalg.svdvals(factor @ fake_factor.t()).sum()
    return max((shift + traces - 2 * overlap).item(), 0.0)  # rounding can leave -1e-13


def kernel_distance(
    real: Tensor, fake: Tensor, seed: int = 0, subsets: int = 100, subset_size: int = 1000
) -> tuple[float, float]:
    """Mean and deviation over random subsets of the squared MMD of real [N, D] and fake [M, D].

    Unbiased, with the kernel (x . y / D + 1)^3, in float64. Subsets have `subset_size` rows of
    each set, or as many as the smaller set. The global random state is as before. ValueError for
    fewer than two rows (or a subset size below 2), features that are not finite, or other shapes.

    >>> real = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    >>> mean, deviation = kernel_distance(real, real + 1, subsets=10)
    >>> mean > 5 * deviation
    True
    """
    _check(real, fake)
    size = min(subset_size, len(real), len(fake))
    if size < 2:
        raise ValueError(f"subset_size is {subset_size}: use 2 or more")
    package = optional("torchmetrics.image.kid", "torchmetrics", "kid")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*save all extracted features in buffer")
        metric = package.KernelInceptionDistance(nn.Identity(), subsets, size)
    metric.update(real.detach().double(), real=True)
    metric.update(fake.detach().double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()


def _check(real: Tensor, fake: Tensor) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features must be [N, D] and [M, D]: got {list(real.shape)} and {list(fake.shape)}"
        )
    if min(len(real), len(fake)) < 2:
        raise ValueError(
            f"each set needs at least 2 images: got {len(real)} real, {len(fake)} generated"
        )
    for name, features in (("real", real), ("generated", fake)):
        if not features.isfinite().all():
            raise ValueError(f"the features of the {name} images are not all finite")


def _mean_and_factor(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and factor R [at most D, D] of the covariance R^T R of [N, D], in float64."""
    mean = features.mean(dim=0, dtype=torch.float64)
    factor = mean.new_empty(0, len(mean))
    for rows in features.split(_ROWS):
        factor = torch.linalg.qr(torch.cat([factor, rows.double() - mean]), mode="r").R
    return mean, factor / (len(features) - 1) ** 0.5
