"""Images, blurs and cuts that the tests of several metrics share."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F


def noise(count: int, resolution: int, seed: int, channels: int = 3) -> Tensor:
    """White noise, [count, channels, R, R] in [-1, 1]."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, resolution, resolution, generator=rng) * 2 - 1


def pictures(count: int, resolution: int, seed: int) -> Tensor:
    """Pictures of large coloured shapes with edges and some grain, in [-1, 1]."""
    rng = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, resolution, resolution)
    for cells, weight in ((3, 1.0), (6, 0.5), (12, 0.3), (resolution, 0.1)):
        coarse = torch.randn(count, 3, cells, cells, generator=rng)
        total += weight * F.interpolate(coarse, (resolution, resolution), mode="bicubic")
    edges = F.interpolate(torch.randn(count, 1, 4, 4, generator=rng), (resolution, resolution))
    return torch.tanh(total + 0.7 * edges.sign())


def blurred(images: Tensor, times: int) -> Tensor:
    """Smoothed by a 3x3 mean, `times` times, the borders mirrored."""
    for _ in range(times):
        images = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), "reflect"), 3, stride=1)
    return images


def cut(images: Tensor, *sizes: int) -> Iterator[Tensor]:
    """The images in batches of some sizes, the last of them again and again."""
    sizes = (*sizes, *[sizes[-1]] * len(images))
    start = 0
    for size in sizes:
        if start < len(images):
            yield images[start : start + size]
        start += size
