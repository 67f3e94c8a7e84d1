"""Images as a user has them, for a model, and what comes of them in the same kind."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pgvae.checks import require
from pgvae.data.images import (
    RejectError,
    check_depth,
    fit,
    is_nearly_black,
    to_pixels,
    to_rgb,
)
from pgvae.data.loader import fade_images
from pgvae.errors import InputError
from pgvae.pictures import to_bytes, to_picture
from pgvae.sizes import SQUARE, Base

# A tensor [N, C, R, R] of floats in [-1, 1], used as it is; a picture or several of any size; an
# array of pictures, uint8 [H, W, C], [H, W] or [N, H, W, C].
Images = Tensor | Image.Image | np.ndarray | Sequence[Image.Image]


_FURTHEST = 2.0  # from 0: resampling and noise leave [-1, 1] a little


def require_numbers(what: str, values: Tensor, wanted: str, most: float = math.inf) -> None:
    """Raise InputError unless they are finite floats, `most` at most in size.

    >>> require_numbers("latents", torch.tensor([1, 2]), "as of `encode`")
    Traceback (most recent call last):
    pgvae.errors.InputError: latents are of torch.int64: give finite floats as of `encode`
    """
    real = values.is_floating_point()
    require(real, f"{what} are of {values.dtype}: give finite floats {wanted}")
    if values.numel():
        low, high = torch.stack(values.aminmax()).tolist()  # NaN where one is
        fits = math.isfinite(low) and math.isfinite(high) and max(-low, high) <= most
        require(fits, f"{what} go from {low:g} to {high:g}: give finite floats {wanted}")


def numbers(what: str, given: Any, count: int) -> list[float]:
    """A number for each of `count`, or several, of Python, NumPy or torch.

    InputError for what is none.

    >>> numbers("delta", np.float32(3), 2), numbers("delta", [1, 2, 3], 2)
    ([3.0, 3.0], [1.0, 2.0, 3.0])
    """
    try:
        found = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} is {given!r}: give a number, or one for each") from error
    return (found.expand(count) if found.ndim == 0 else found.flatten()).tolist()


def take(
    images: Images, resolution: int, channels: int, alpha: float = 1.0, base: Base = SQUARE
) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Images as a tensor [N, C, R, R] in [-1, 1], and what makes a result of the kind they are of.

    Pictures are fitted as training images are: cropped to the central square, or what has the ratio
    of `base`, and scaled; faded at alpha < 1, as the model was trained on them. ValueError for
    other things, InputError for tensors of other numbers (`require_numbers`) and for pictures of
    floats or of 32 bits, of which nobody can tell what is white.

    >>> grey = Image.new("L", (20, 10), 255)
    >>> images, back = take(grey, 8, 3)
    >>> images.shape, back(images).mode, back(images).size
    (torch.Size([1, 3, 8, 8]), 'RGB', (8, 8))
    >>> images, back = take(np.zeros((2, 10, 10, 3), np.uint8), 8, 3)
    >>> images.shape, back(images).shape
    (torch.Size([2, 3, 8, 8]), (2, 8, 8, 3))
    """
    if isinstance(images, Tensor):
        require_numbers("images", images, "in [-1, 1], as x / 127.5 - 1 of bytes", _FURTHEST)
        return images, lambda tensor: tensor
    pictures, back = _pictures(images)
    upright = (_upright(picture) for picture in pictures)
    fitted = (fit(picture, resolution, "center", upscale=True, base=base) for picture in upright)
    pixels = [to_pixels(picture, channels) for picture in fitted]
    tensor = torch.from_numpy(np.stack(pixels)).float() / 127.5 - 1
    return fade_images(tensor, alpha), back


def _upright(picture: Image.Image) -> Image.Image:
    """Upright and RGB; InputError where nobody can tell what is white, a warning where few can."""
    width, height = picture.size
    require(width * height > 0, f"a picture of {width}x{height} pixels shows nothing")
    try:
        check_depth(picture)
    except RejectError as error:
        raise InputError(f"a picture of mode {picture.mode} has {error}") from error
    found = to_rgb(ImageOps.exif_transpose(picture))
    if picture.mode.startswith("I") and is_nearly_black(found):
        warnings.warn(
            f"a picture of mode {picture.mode}, 16 bits a pixel, uses the lower ones alone, so it "
            "is nearly black: scale it, or convert its numbers to 8 bits",
            RuntimeWarning,
            stacklevel=4,
        )
    return found


def _pictures(images: Any) -> tuple[list[Image.Image], Callable[[Tensor], Any]]:
    if isinstance(images, Image.Image):
        return [images], lambda tensor: _one_or_all(to_pictures(tensor))
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim not in (2, 3, 4) or images.size == 0:
            raise ValueError(
                "an array of pictures must be uint8 [H, W, C], [H, W] or [N, H, W, C]: got "
                f"{images.dtype} {[*images.shape]}"
            )
        several = images.ndim == 4
        pictures = [to_picture(_with_colours(image)) for image in (images if several else [images])]
        return pictures, to_bytes if several else lambda tensor: _one_or_all(to_bytes(tensor))
    if isinstance(images, Sequence) and images and all(isinstance(p, Image.Image) for p in images):
        return [*images], to_pictures
    raise ValueError(
        "images must be a tensor [N, C, R, R] in [-1, 1], pictures of Pillow or an array of uint8: "
        f"got {type(images).__name__}"
    )


def to_pictures(images: Tensor) -> list[Image.Image]:
    """[N, C, H, W] in [-1, 1] (clamped) to pictures of Pillow.

    >>> [picture.size for picture in to_pictures(torch.zeros(2, 3, 8, 8))]
    [(8, 8), (8, 8)]
    """
    return [to_picture(image) for image in to_bytes(images)]


def _one_or_all(made: Any) -> Any:
    """What was made of one picture: one, or all where it became several."""
    return made[0] if len(made) == 1 else made


def _with_colours(image: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] with 1, 3 or 4 channels to [H, W, C]; ValueError for others."""
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"a picture has 1, 3 or 4 channels, the last axis: got {[*image.shape]}")
    return image
