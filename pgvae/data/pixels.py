"""Pixels of images: the pyramid below them, and the bytes that are kept of them."""

import io

import numpy as np
from PIL import Image

LOSSY = ("jpeg",)  # of the codecs
_WIDER = 10  # bits of a box from which on its sum needs more than 16


def pyramid(pixels: np.ndarray, lowest: int = 4) -> list[np.ndarray]:
    """uint8 [C, R, R] -> the same at R, R/2, ..., `lowest`: means of 2x2 boxes, rounded once.

    R is the longer side of images that are not square.

    Each level is the exact mean of its pixels of the top level, rounded half up: sums are whole
    numbers, at most 255 * 256^2, and rounding a level never adds to the next one's error.
    """
    levels, sums = [pixels], pixels.astype(np.uint16)
    while max(sums.shape[1:]) > lowest:
        bits = 2 * len(levels)  # a box of the top level holds 2**bits pixels
        if bits == _WIDER:
            sums = sums.astype(np.uint32)
        rows = sums[:, 0::2] + sums[:, 1::2]
        sums = rows[:, :, 0::2] + rows[:, :, 1::2]
        levels.append(((sums + (1 << (bits - 1))) >> bits).astype(np.uint8))
    return levels


def encode_pixels(pixels: np.ndarray, codec: str) -> bytes:
    """uint8 [C, H, W] as "raw", lossless "webp" or "png", or "jpeg" (quality 95, 4:4:4)."""
    if codec == "raw":
        return pixels.tobytes()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    options = {
        "webp": {"lossless": True, "method": 0, "quality": 0},
        "png": {"compress_level": 1},
        "jpeg": {"quality": 95, "subsampling": 0},
    }[codec]
    out = io.BytesIO()
    image.save(out, codec.upper(), **options)
    return out.getvalue()


def decode_pixels(data: bytes, codec: str, channels: int, size: tuple[int, int]) -> np.ndarray:
    """The inverse of `encode_pixels` (up to JPEG's loss): uint8 [C, H, W], of size (H, W)."""
    if codec == "raw":
        return np.frombuffer(data, np.uint8).reshape(channels, *size)
    with Image.open(io.BytesIO(data), formats=[codec.upper()]) as image:
        bands = image.split()[:channels]  # WebP has no grey: its three bands are then the same
        return np.stack([np.asarray(band) for band in bands])
