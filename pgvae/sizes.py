"""Sizes of images: powers of two, and the ratio of the sides."""

import math
import re
from typing import cast

from pgvae.checks import require
from pgvae.errors import InputError

MIN_RESOLUTION, MAX_RESOLUTION = 4, 1024
# Height and width of images at the first stage, the longer side 4 px: what is double at each next.
Base = tuple[int, int]
SQUARE: Base = (4, 4)
BASES: tuple[Base, ...] = (SQUARE, (3, 4), (2, 4), (4, 3), (4, 2))


def check_resolution(resolution: int, what: str = "resolution") -> int:
    """Return `resolution` if it is a power of two in 4..1024; InputError otherwise.

    >>> check_resolution(64)
    64
    >>> check_resolution(100)
    Traceback (most recent call last):
    pgvae.errors.InputError: resolution 100 is not a power of two from 4 to 1024: use 64 or 128
    """
    if MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        below = 2 ** int(math.log2(resolution))
        if below == resolution:
            return resolution
        hint = f"use {below} or {2 * below}"
    else:
        hint = f"use a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}"
    raise InputError(f"{what} {resolution} is not a power of two from 4 to 1024: {hint}")


def resolutions_between(start: int, final: int) -> tuple[int, ...]:
    """The powers of two from `start` to `final`, both included.

    >>> resolutions_between(4, 16)
    (4, 8, 16)
    """
    return tuple(2**k for k in range(int(math.log2(start)), int(math.log2(final)) + 1))


def size_at(base: Base, resolution: int) -> tuple[int, int]:
    """Height and width of images whose longer side has `resolution` pixels.

    >>> size_at((3, 4), 256)
    (192, 256)
    """
    return base[0] * resolution // 4, base[1] * resolution // 4


def size_named(base: Base, resolution: int) -> str:
    """What a size is called: of squares one side, else width and height.

    >>> size_named(SQUARE, 256), size_named((3, 4), 256)
    ('256', '256x192')
    """
    height, width = size_at(base, resolution)
    return str(resolution) if base == SQUARE else f"{width}x{height}"


def parse_size(text: str, resolution: int | None = None) -> tuple[int, Base]:
    """The resolution, which is the longer side, and the base of WIDTHxHEIGHT; InputError otherwise.

    resolution: what it must be.

    >>> parse_size("256x192")
    (256, (3, 4))
    >>> parse_size("250x190")
    Traceback (most recent call last):
    pgvae.errors.InputError: size 250x190 cannot be: the longer side is a power of two from 4 to \
1024, the shorter one as long, 3/4 or 1/2 of it; the nearest are 256x192 and 128x96
    """
    words = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    require(words is not None, f"size {text!r} is no size: give WIDTHxHEIGHT, such as 256x192")
    width, height = (max(int(word), 1) for word in cast(re.Match, words).groups())
    every = {
        size_at(base, longer): (longer, base)
        for longer in resolutions_between(MIN_RESOLUTION, MAX_RESOLUTION)
        for base in BASES
    }

    def far(size: tuple[int, int]) -> float:
        taller, wider = math.log(size[0] / height), math.log(size[1] / width)
        return 4 * abs(wider - taller) + abs(wider + taller)  # the ratio counts for more

    near = " and ".join(f"{w}x{h}" for h, w in sorted(every, key=far)[:2])
    require(
        (height, width) in every,
        f"size {text} cannot be: the longer side is a power of two from {MIN_RESOLUTION} to "
        f"{MAX_RESOLUTION}, the shorter one as long, 3/4 or 1/2 of it; the nearest are {near}",
    )
    require(
        resolution in (None, max(height, width)),
        f"--resolution {resolution} is not the longer side of --size {text}: leave it out",
    )
    return every[height, width]
