"""Pictures for a page that is one file: small, and as data: URIs."""

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pgvae.errors import InputError

_MAX_SIDE = 1024  # pixels of a picture in the page
_LOSSLESS_SIDE = 512  # up to which the page has every pixel
_MAX_PIXELS = 1 << 26
_QUALITY = 90


@dataclass(frozen=True)
class Embedded:
    """A picture in a page: its data: URI and size in pixels.

    exact: whether no pixel was changed.
    """

    uri: str
    width: int
    height: int
    exact: bool


def embed(source: Path | bytes, name: str) -> Embedded:
    """A PNG as a data: URI, of at most 1024 px a side; InputError where it cannot be read.

    Grids show small images enlarged pixel by pixel: they go in without the repetition, and the
    page enlarges them again. Above 512 px a side WebP may lose what cannot be seen.
    """
    try:
        image = _opened(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        text = "it is not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{name} could not be read: {text}") from error
    image = _without_repeats(image)
    factor = -(-max(image.size) // _MAX_SIDE)
    small = image.reduce(factor) if factor > 1 else image
    lossless = max(small.size) <= _LOSSLESS_SIDE
    file = io.BytesIO()
    small.save(file, "WEBP", lossless=lossless, quality=100 if lossless else _QUALITY, method=4)
    data = base64.b64encode(file.getvalue()).decode()
    exact = lossless and factor == 1
    return Embedded(f"data:image/webp;base64,{data}", small.width, small.height, exact)


def _opened(source: Path | io.BytesIO) -> Image.Image:
    """The picture as RGB; ValueError, before it is unpacked, where it is too large."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
        with Image.open(source) as file:
            if file.width * file.height > _MAX_PIXELS:
                raise ValueError(f"it has {file.width} x {file.height} pixels")
            return file.convert("RGB")


def _without_repeats(image: Image.Image) -> Image.Image:
    """The picture whose pixels, each 16, 8, 4 or 2 times a side, make up `image`."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    for factor in (16, 8, 4, 2):
        if height % factor == 0 and width % factor == 0:
            small = pixels[::factor, ::factor]
            if np.array_equal(small.repeat(factor, axis=0).repeat(factor, axis=1), pixels):
                return Image.fromarray(np.ascontiguousarray(small))
    return image
