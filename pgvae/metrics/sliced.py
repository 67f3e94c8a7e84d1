"""Sliced Wasserstein distance of Laplacian pyramids (PGGAN, section 5)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.metrics.sets import Images, batches

PATCHES = 128  # a level and image
SIDE = 7
REPEATS, DIRECTIONS = 4, 128
LOWEST = 16  # pixels per side
_AT_ONCE = 32  # directions: bounds the memory of their projections
_CONSTANT = 1e-6  # a deviation below is rounding, far under a 255th


class Patches:
    """The random patches of a set of images, gathered batch by batch.

    From each Laplacian level of an image 128 patches of 7x7 pixels are kept, float32 and on the
    CPU: 75 kB an RGB image and level. `seed` and an image's place in the set decide where they
    lie, however the set is cut into batches. Give two sets that are compared different seeds:
    the published measure draws them independently.

    >>> patches = Patches()
    >>> patches.add(torch.rand(4, 3, 32, 32))
    >>> patches.count, [parts[0].shape for parts in patches.levels.values()]
    (4, [torch.Size([512, 147]), torch.Size([512, 147])])
    """

    def __init__(self, seed: int = 0) -> None:
        self.count = 0  # images
        self.shape: tuple[int, ...] | None = None  # channels, height, width
        self.levels: dict[int, list[Tensor]] = {}  # resolution -> parts [n * 128, C * 49]
        self._rng = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def add(self, images: Images) -> None:
        """Take in images [N, C, R, R] in [-1, 1], or batches of them.

        R, the longer side, is 16, 32, 64 and so on, the other one half as long or more; the whole
        set is of one shape: ValueError otherwise.
        """
        for batch in batches(images):
            _check(batch, self.shape)
            self.shape = tuple(batch.shape[1:])
            levels = laplacian_pyramid(batch)
            draws = [self._corners(levels) for _ in range(len(batch))]
            for level, corners in zip(levels, zip(*draws, strict=True), strict=True):
                parts = self.levels.setdefault(max(level.shape[2:]), [])
                parts.append(_cut(level, torch.stack(corners, dim=1).to(level.device)).cpu())
            self.count += len(batch)

    def _corners(self, levels: list[Tensor]) -> list[Tensor]:
        """Rows and columns of one image's patches: a [2, 128] a level."""
        ends = [[side - SIDE + 1 for side in level.shape[2:]] for level in levels]
        return [
            torch.stack([torch.randint(0, end, (PATCHES,), generator=self._rng) for end in pair])
            for pair in ends
        ]


def swd(reals: Images, fakes: Images, seed: int = 0) -> dict[int, float]:
    """SWD x 1000 between as many real and generated images, by pyramid level: {32: ..., 16: ...}.

    reals, fakes: [N, C, R, R] in [-1, 1] or batches of them, R a power of two from 16 on; their
    mean over levels is the published figure. From each level 128 random patches of 7x7 pixels an
    image, normalised to mean 0 and deviation 1 in each channel (reals and fakes apart), are
    projected on 4 x 128 random unit vectors; the distance is the mean of |difference| of the
    sorted projections. It never is 0 for a finite N: compare with two halves of the reals.
    ValueError where the sets differ in shape or number.

    >>> reals, fakes = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> near, far = swd(reals, fakes), swd(reals, F.avg_pool2d(fakes, 3, 1, 1))
    >>> sorted(near), far[32] > near[32]
    ([16, 32], True)
    """
    patches = Patches(2 * seed), Patches(2 * seed + 1)
    for kept, images in zip(patches, (reals, fakes), strict=True):
        kept.add(images)
    return patch_distance(*patches, seed=seed)


@torch.no_grad()
def patch_distance(a: Patches, b: Patches, seed: int = 0) -> dict[int, float]:
    """SWD x 1000 of two sets whose patches are at hand, by level: {32: ..., 16: ...}.

    `seed` decides the directions. Neither set is copied or changed. ValueError where the sets
    differ in number or shape, or are empty.

    >>> patches = Patches()
    >>> patches.add(torch.rand(4, 3, 16, 16))
    >>> patch_distance(patches, patches)
    {16: 0.0}
    """
    if (a.count, a.shape) != (b.count, b.shape) or a.shape is None:
        raise ValueError(
            "both sets must be of one shape and number, and not empty: got "
            f"{a.count} and {b.count} images of (channels, height, width) {a.shape} and {b.shape}"
        )
    rng = torch.Generator().manual_seed(seed)
    channels = a.shape[0]
    return {size: _distance(a.levels[size], b.levels[size], channels, rng) for size in a.levels}


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """[N, C, R, R] -> what each resolution R, R / 2, ..., 16 adds to the one below it.

    >>> [level.shape[-1] for level in laplacian_pyramid(torch.zeros(1, 3, 64, 64))]
    [64, 32, 16]
    """
    levels = []
    while max(images.shape[2:]) > LOWEST:
        below = _blur(images)[..., ::2, ::2]
        levels.append(images - _up(below))
        images = below
    return [*levels, images]


def _check(batch: Tensor, shape: tuple[int, ...] | None) -> None:
    found = tuple(batch.shape[1:])
    short, long = sorted(found[1:])
    whole = short * LOWEST % long == 0  # so that it halves as often
    if long < LOWEST or long & (long - 1) or 2 * short < long or not whole:
        raise ValueError(
            "images must be [N, C, R, R], R a power of two and at least 16, one side perhaps "
            f"shorter, by half at most: got {list(batch.shape)}"
        )
    if shape not in (None, found):
        raise ValueError(
            f"images of a set must be of one shape: got (channels, height, width) {shape}, "
            f"then {found}"
        )


def _blur(images: Tensor) -> Tensor:
    """The 5x5 binomial filter, mirrored at the borders."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float32, device=images.device) / 16
    kernel = (row[:, None] * row).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), "reflect"), kernel, groups=images.shape[1])


def _up(images: Tensor) -> Tensor:
    spread = images.new_zeros(*images.shape[:2], *(2 * s for s in images.shape[2:]))
    spread[..., ::2, ::2] = images
    return 4 * _blur(spread)


def _cut(images: Tensor, corners: Tensor) -> Tensor:
    """Patches at rows and columns [2, N, 128] of images [N, C, R, R]: [N * 128, C * 49]."""
    windows = images.unfold(2, SIDE, 1).unfold(3, SIDE, 1)  # [N, C, R - 6, R - 6, 7, 7], a view
    which = torch.arange(len(images), device=images.device)[:, None]
    return windows[which, :, corners[0], corners[1]].flatten(0, 1).flatten(1)


def _distance(a: list[Tensor], b: list[Tensor], channels: int, rng: torch.Generator) -> float:
    """SWD x 1000 of one level, given its parts [n, C * 49].

    The normalisation goes into the directions: d . (x - mean) / deviation is
    (d / deviation) . x - (d / deviation) . mean.
    """
    (scale_a, mean_a), (scale_b, mean_b) = (_normalisation(parts, channels) for parts in (a, b))
    total, width = 0.0, a[0].shape[1]
    for _ in range(REPEATS):
        directions = torch.randn(width, DIRECTIONS, generator=rng, dtype=torch.float32)
        directions = F.normalize(directions, dim=0).double()
        for part in directions.t().split(_AT_ONCE):  # [32, C * 49]
            offset = (part * scale_a) @ mean_a - (part * scale_b) @ mean_b
            gap = _sorted_projections(a, part * scale_a)
            gap -= _sorted_projections(b, part * scale_b)
            gap -= offset.float()[:, None]
            total += gap.abs_().mean(dim=1).double().sum().item()
    return 1000 * total / (REPEATS * DIRECTIONS)


def _normalisation(parts: list[Tensor], channels: int) -> tuple[Tensor, Tensor]:
    """1 / deviation and mean of each channel, float64, repeated for its pixels: [C * 49] each."""

    def values() -> Iterator[Tensor]:
        return (part.double().view(-1, channels, SIDE**2) for part in parts)

    count = sum(len(part) for part in parts) * SIDE**2
    mean = sum(x.sum(dim=(0, 2)) for x in values()) / count
    squares = sum((x - mean[:, None]).square().sum(dim=(0, 2)) for x in values())
    deviation = (squares / count).sqrt()
    scale = torch.where(deviation > _CONSTANT, 1 / deviation, 0.0)
    return scale.repeat_interleave(SIDE**2), mean.repeat_interleave(SIDE**2)


def _sorted_projections(parts: list[Tensor], directions: Tensor) -> Tensor:
    """[K, all patches], each row in order; directions: [K, C * 49]."""
    lengths = [len(part) for part in parts]
    projected = torch.empty(len(directions), sum(lengths))
    for part, place in zip(parts, projected.split(lengths, dim=1), strict=True):
        place.copy_(directions.float() @ part.t())
    projected.numpy().sort(axis=1)  # four times as fast as PyTorch's sort
    return projected
