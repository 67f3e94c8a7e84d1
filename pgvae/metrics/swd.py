"""Sliced Wasserstein distance of Laplacian pyramids (PGGAN, section 5)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PATCHES = 128  # a level and image
SIDE = 7
REPEATS, DIRECTIONS = 4, 128
_LOWEST = 16


@torch.no_grad()
def swd(reals: Tensor, fakes: Tensor, seed: int = 0) -> dict[int, float]:
    """SWD x 1000 between as many real and generated images, by pyramid level: {32: ..., 16: ...}.

    reals, fakes: [N, C, R, R] in [-1, 1], R a power of two from 16 on; their mean over levels is
    the published figure. From each level 128 random patches of 7x7 pixels an image, normalised to
    mean 0 and deviation 1 in each channel (reals and fakes apart), are projected on 4 x 128 random
    unit vectors; the distance is the mean of |difference| of the sorted projections. It never is
    0 for a finite N: compare with two halves of the reals. ValueError where the shapes differ.
    """
    if reals.shape != fakes.shape or reals.ndim != 4 or reals.shape[-1] < _LOWEST:
        raise ValueError(
            "reals and fakes must be of one shape [N, C, R, R], R at least 16: got "
            f"{list(reals.shape)} and {list(fakes.shape)}"
        )
    rng = torch.Generator().manual_seed(seed)
    levels = zip(laplacian_pyramid(reals), laplacian_pyramid(fakes), strict=True)
    return {real.shape[-1]: _level_distance(real, fake, rng) for real, fake in levels}


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """[N, C, R, R] -> what each resolution R, R / 2, ..., 16 adds to the one below it."""
    levels = []
    while images.shape[-1] > _LOWEST:
        below = _blur(images)[..., ::2, ::2]
        levels.append(images - _up(below))
        images = below
    return [*levels, images]


def _blur(images: Tensor) -> Tensor:
    """The 5x5 binomial filter, mirrored at the borders."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = (row[:, None] * row).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), "reflect"), kernel, groups=images.shape[1])


def _up(images: Tensor) -> Tensor:
    spread = images.new_zeros(*images.shape[:2], *(2 * s for s in images.shape[2:]))
    spread[..., ::2, ::2] = images
    return 4 * _blur(spread)


def _level_distance(real: Tensor, fake: Tensor, rng: torch.Generator) -> float:
    real, fake = _patches(real, rng), _patches(fake, rng)
    differences = []
    for _ in range(REPEATS):
        directions = torch.randn(real.shape[1], DIRECTIONS, generator=rng).to(real.device)
        for part in F.normalize(directions, dim=0).split(16, dim=1):  # of bounded memory
            sorted_real, sorted_fake = (_sorted(part.t() @ x.t()) for x in (real, fake))
            differences.append((sorted_real - sorted_fake).abs().mean())
    return 1000 * torch.stack(differences).mean().item()


def _sorted(rows: Tensor) -> Tensor:
    """Each row in order: by numpy on a CPU, four times as fast as PyTorch there."""
    if rows.is_cuda:
        return rows.sort(dim=1).values
    return torch.from_numpy(np.sort(rows.numpy(), axis=1))


def _patches(images: Tensor, rng: torch.Generator) -> Tensor:
    """Random normalised patches: [N, C, R, R] -> [N * 128, C * 49]."""
    n, channels, _, size = images.shape
    corners = torch.randint(0, size - SIDE + 1, (2, n, PATCHES), generator=rng).to(images.device)
    offsets = torch.arange(SIDE, device=images.device)
    rows = corners[0][..., None, None] + offsets[:, None]  # [N, P, 7, 1]
    columns = corners[1][..., None, None] + offsets  # [N, P, 1, 7]
    places = (rows * size + columns).flatten(1)  # [N, P * 49]
    found = images.flatten(2).gather(2, places[:, None].expand(-1, channels, -1))
    patches = found.view(n, channels, PATCHES, SIDE**2).transpose(1, 2).flatten(0, 1)
    deviation, mean = torch.std_mean(patches, dim=(0, 2), keepdim=True, correction=0)
    return ((patches - mean) / deviation.clamp(min=1e-8)).flatten(1)
