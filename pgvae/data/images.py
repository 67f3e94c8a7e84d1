"""From a file's bytes to square uint8 pixels, and to the pyramid below them.

Decoding is strict: what cannot be shown as it was meant is refused with a reason.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

Crop = Literal["center", "celeba", "pad"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 64 * 10**6
CELEBA_SIDE = 178  # central square of CelebA's 178x218 images, as PIONEER
BACKGROUND = (255, 255, 255)  # transparent pixels are composited on white; padding is white


class RejectError(Exception):
    """An image that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image, and a note where something was left out."""

    image: Image.Image
    note: str = ""


def decode(data: bytes) -> Decoded:
    """Bytes of a PNG, JPEG, WebP or BMP file (whatever its name) to an upright RGB image.

    EXIF rotation is applied; CMYK goes through its profile; 16 bits are scaled to 8; grey is
    replicated; transparency is composited on white; of an animation the first frame is taken.
    Raises RejectError for anything else, such as truncated data or more than 64 Mpx.
    """
    if not data:
        raise RejectError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image)
                note = "animation: first frame taken" if _frames(image) > 1 else ""
                image.load()
                return Decoded(_to_rgb(ImageOps.exif_transpose(image)), note)
    except UnidentifiedImageError as error:
        raise RejectError("not a PNG, JPEG, WebP or BMP image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RejectError("more than 64 million pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise RejectError(f"cannot be decoded: {error}") from error


def size_of(data: io.BufferedIOBase) -> tuple[int, int]:
    """Upright width and height from the header alone; RejectError where there is none."""
    try:
        with Image.open(data, formats=FORMATS) as image:
            _check_size(image)
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise RejectError(f"cannot be read: {error}") from error


def side_after(crop: Crop, width: int, height: int) -> int:
    """Pixels per side of the square that a crop policy makes of an image."""
    if crop == "pad":
        return max(width, height)
    return CELEBA_SIDE if crop == "celeba" else min(width, height)


def fit(image: Image.Image, resolution: int, crop: Crop, *, upscale: bool) -> Image.Image:
    """Crop or pad to a square and scale it to `resolution` (Lanczos).

    Raises RejectError where the image is too small: for the crop, or for the resolution when
    `upscale` is off.
    """
    width, height = image.size
    side = side_after(crop, width, height)
    if crop == "celeba" and min(width, height) < CELEBA_SIDE:
        raise RejectError(f"{width}x{height} px is too small for the {CELEBA_SIDE} px crop")
    if side < resolution and not upscale:
        raise RejectError(f"{width}x{height} px is below the resolution {resolution}")
    if crop == "pad":
        image = ImageOps.pad(image, (side, side), color=BACKGROUND)
        width = height = side
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    if side == resolution:
        return image.crop(box)
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)


def to_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """An RGB image as uint8 [C, H, W]; with one channel its luma (ITU-R 601-2)."""
    array = np.asarray(image if channels == 3 else image.convert("L"))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def pyramid(pixels: np.ndarray, lowest: int = 4) -> list[np.ndarray]:
    """uint8 [C, R, R] -> the same at R, R/2, ..., `lowest`: means of 2x2 boxes, rounded once.

    Each level is the exact mean of its pixels of the top level, rounded half up.
    """
    levels = [pixels]
    mean = pixels.astype(np.float64)
    while mean.shape[-1] > lowest:
        c, side = mean.shape[0], mean.shape[-1] // 2
        mean = mean.reshape(c, side, 2, side, 2).mean(axis=(2, 4))
        levels.append(np.floor(mean + 0.5).astype(np.uint8))
    return levels


def encode_pixels(pixels: np.ndarray, codec: str) -> bytes:
    """uint8 [C, H, W] as "raw", lossless "webp" or "png", or "jpeg" (quality 95, 4:4:4)."""
    if codec == "raw":
        return np.ascontiguousarray(pixels).tobytes()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    options = {
        "webp": {"lossless": True, "method": 0, "quality": 0},
        "png": {"compress_level": 1},
        "jpeg": {"quality": 95, "subsampling": 0},
    }[codec]
    out = io.BytesIO()
    image.save(out, codec.upper(), **options)
    return out.getvalue()


def decode_pixels(data: bytes, codec: str, channels: int, resolution: int) -> np.ndarray:
    """The inverse of `encode_pixels` (up to JPEG's loss): uint8 [C, R, R]."""
    if codec == "raw":
        return np.frombuffer(data, np.uint8).reshape(channels, resolution, resolution)
    with Image.open(io.BytesIO(data), formats=[codec.upper()]) as image:
        return to_pixels(image.convert("RGB"), channels)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise RejectError("more than 64 million pixels")


def _frames(image: Image.Image) -> int:
    return getattr(image, "n_frames", 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: a plain conversion would clip
        levels = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.floor(levels + 0.5).clip(0, 255).astype(np.uint8))
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            return ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            return image.convert("RGB")  # a broken profile: the plain conversion
    if image.has_transparency_data:
        image = image.convert("RGBA")
        under = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(under, image).convert("RGB")
    return image.convert("RGB")
