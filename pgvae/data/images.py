"""From a file's bytes to uint8 pixels of one size, and to the pyramid below them.

Decoding is strict: what cannot be shown as it was meant is refused with a reason.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from pgvae.choices import Crop
from pgvae.data import jpeg
from pgvae.sizes import SQUARE, Base, size_at, size_named

HEIC = "HEIF"  # pillow-heif's name of it
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
READ = "PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF or HEIC"
MAX_PIXELS = 64 * 10**6
CELEBA_SIDE = 178  # central square of CelebA's 178x218 images, as PIONEER
BACKGROUND = (255, 255, 255)  # transparent pixels are composited on white; padding is white
# Importing them here spares each process those of all other kinds.
_PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
_DIM = 64  # of 255: the most that 14 bits in 16 come to
_FRAMES = "animation: first frame taken"
_PAGES = {"TIFF": "several pages: the first is taken", HEIC: "several pictures: one is taken"}
_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 turn by 90 degrees
_TOO_LARGE = f"more than {MAX_PIXELS // 10**6} million pixels"
_OTHER_KINDS = {
    b"GIF8": "a damaged GIF",
    b"II*\0": "a damaged TIFF, or a raw photograph",
    b"MM\0*": "a damaged TIFF, or a raw photograph",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "a PDF",
    b"<": "HTML or SVG",
    b"8BPS": "a PSD",
    b"\0\0\1\0": "an icon",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PBM, PGM or PPM"),
}


class RejectError(Exception):
    """An image that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image, and a note where something was left out.

    part: the image is a 1/part of the file's own `full` width and height.
    content: SHA-256 of the file that it was made of, where only a prepared set knows of it.
    levels: uint8 [C, R, R] at R, R/2, ..., 4, where a prepared set has them.
    """

    image: Image.Image
    note: str = ""
    part: int = 1
    full: tuple[int, int] = (0, 0)
    content: bytes = b""
    levels: tuple[np.ndarray, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole."""
        return self.full if self.part > 1 else self.image.size


def decode(data: bytes, resolution: int = 0, crop: Crop = "center") -> Decoded:
    """Bytes of a file of one of the `FORMATS` (whatever its name) to an upright RGB image.

    resolution, crop: what will be made of it (0: anything): a JPEG with many times more pixels is
    decoded at a half, a quarter or an eighth, with twice the pixels a side that are wanted or more.

    EXIF rotation is applied; CMYK goes through its profile; 16 bits are scaled to 8; grey is
    replicated; transparency is composited on white; of an animation, or of pages, the first is
    taken. Raises RejectError for anything else, such as truncated data or more than 64 Mpx.
    """
    if not data:
        raise RejectError("empty file")
    if (plain := jpeg.decoded(data, MAX_PIXELS, resolution)) is not None:
        return Decoded(plain)
    with _strict(data[:16]), _opened(io.BytesIO(data), data[:16]) as image:
        _check_size(image)
        note = _PAGES.get(image.format, _FRAMES) if _has_frames(image) else ""
        deep = _has_16_bits(image)
        part, full = 1, image.size
        if resolution and crop == "center" and image.format == "JPEG":
            part = _draft(image, 2 * resolution)
        image.load()
        check_depth(image)
        upright = _upright(image)
        decoded = to_rgb(upright)
        if deep and is_nearly_black(decoded):
            note = "16 bits a pixel of which the upper ones are not used, so they are nearly black"
        return Decoded(decoded, note, part, full[::-1] if _is_turned(image) else full)


def size_of(file: BinaryIO) -> tuple[int, int]:
    """Upright width and height from the header alone; RejectError where there is none."""
    start = file.read(jpeg.START)
    if (size := jpeg.size_of(start, MAX_PIXELS)) is not None:
        return size
    file.seek(0)
    with _strict(start), _opened(file, start) as image:
        _check_size(image)
        return image.size[::-1] if _is_turned(image) else image.size


def box_after(
    crop: Crop,
    width: int,
    height: int,
    least: int = 1,
    *,
    upscale: bool = False,
    base: Base = SQUARE,
) -> tuple[int, int]:
    """Width and height, in the ratio of `base`, of what a crop policy takes of an image.

    Raises RejectError where the image is too small: for the crop, or when `upscale` is off for
    the size of `base` whose longer side is `least`.
    """
    given, (rows, columns) = f"{width}x{height} px", base
    if crop == "celeba":
        if min(width, height) < CELEBA_SIDE:
            raise RejectError(f"{given} is too small for the {CELEBA_SIDE} px crop")
        width = height = CELEBA_SIDE
    inner = max if crop == "pad" else min
    box = (
        inner(width, (height * columns + rows // 2) // rows),
        inner(height, (width * rows + columns // 2) // columns),
    )
    wanted = size_at(base, least)
    if not upscale and (box[0] < wanted[1] or box[1] < wanted[0]):
        raise RejectError(f"{given} is below the resolution {size_named(base, least)}")
    return box


def fit(
    image: Image.Image, resolution: int, crop: Crop, *, upscale: bool, base: Base = SQUARE
) -> Image.Image:
    """Crop or pad to the ratio of `base` and scale to `size_at` a resolution (Lanczos).

    Raises RejectError where the image is too small, as `box_after`.
    """
    return _fit(Decoded(image), resolution, crop, upscale, base)


def fitted(
    data: bytes | Decoded, resolution: int, crop: Crop, *, upscale: bool, base: Base = SQUARE
) -> tuple[Decoded, Image.Image]:
    """What a source gives, decoded, and as `fit` makes it; RejectError as those two."""
    decoded = data if isinstance(data, Decoded) else decode(data, resolution, crop)
    return decoded, _fit(decoded, resolution, crop, upscale, base)


def _fit(decoded: Decoded, resolution: int, crop: Crop, upscale: bool, base: Base) -> Image.Image:
    image, part = decoded.image, decoded.part
    size = size_at(base, resolution)[::-1]
    taken = box_after(crop, *decoded.size, resolution, upscale=upscale, base=base)
    if crop == "pad":
        image = ImageOps.pad(image, taken, color=BACKGROUND)
    whole = taken if crop == "pad" else decoded.size
    left, top = ((all_ - kept) // 2 for all_, kept in zip(whole, taken, strict=True))
    box = (left, top, left + taken[0], top + taken[1])
    if box == (0, 0, *size) == (0, 0, *image.size):
        return image
    if taken == size:
        return image.crop(box)
    box = tuple(edge / part for edge in box)
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


def as_pixels(
    data: bytes | Decoded,
    resolution: int,
    channels: int,
    crop: Crop = "center",
    base: Base = SQUARE,
) -> np.ndarray:
    """What a source gives as networks take it: uint8 [C, R, R], small images enlarged.

    Raises RejectError as `decode` and `fit`.
    """
    return to_pixels(fitted(data, resolution, crop, upscale=True, base=base)[1], channels)


def to_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """An RGB image as uint8 [C, H, W]; with one channel its luma (ITU-R 601-2)."""
    if channels == 1:
        return np.asarray(image.convert("L"))[None]
    lines = np.frombuffer(image.tobytes("raw", "RGB;L"), np.uint8)  # line by line R, G, B
    return np.ascontiguousarray(lines.reshape(image.height, 3, image.width).transpose(1, 0, 2))


@contextlib.contextmanager
def _strict(start: bytes) -> Iterator[None]:
    """Turn whatever a decoder raises on bad data into RejectError with a reason."""
    try:
        with warnings.catch_warnings():
            # Broken EXIF and odd palettes are no news to a user; size is checked by ourselves.
            warnings.simplefilter("ignore")
            yield
    except RejectError:
        raise
    except UnidentifiedImageError as error:
        raise RejectError(
            f"not a {READ} image ({_kind(start)})" if start else "empty file"
        ) from error
    except Image.DecompressionBombError as error:
        raise RejectError(_TOO_LARGE) from error
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise RejectError(f"cannot be decoded: {error or type(error).__name__}") from error


def _kind(start: bytes) -> str:
    """What a refused file seems to be, for the message."""
    if start[4:8] == b"ftyp":
        return "it seems to be a damaged HEIC or AVIF, or a film"
    known = next((kind for magic, kind in _OTHER_KINDS.items() if start.startswith(magic)), None)
    return f"it seems to be {known}" if known else "damaged, or of an unknown kind"


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise RejectError(_TOO_LARGE)


def _draft(image: Image.Image, least: int) -> int:
    """Have libjpeg decode fewer pixels, `least` a side or more; -> what divides the sides."""
    part = jpeg.part_of(image.size, least)
    if part > 1:
        image.draft(None, (image.width // part, image.height // part))
    return part


def check_depth(image: Image.Image) -> None:
    """RejectError for pixels of which nobody can tell what is white."""
    if image.mode == "F":
        raise RejectError("floating-point pixels: save it with 8 or 16 bits")
    if image.mode == "I" and not all(0 <= value < 1 << 16 for value in image.getextrema()):
        raise RejectError("32 bits a pixel: save it with 8 or 16")


def is_nearly_black(image: Image.Image) -> bool:
    """Whether an RGB image, made of 16 bits a pixel, shows that few of them were used."""
    return 0 < max(high for _, high in image.getextrema()) <= _DIM


def _opened(file: BinaryIO, start: bytes) -> Image.Image:
    """An image whose header is read; RejectError where its decoder is not there."""
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if not brand or brand in (b"avif", b"avis"):
        return Image.open(file, formats=FORMATS)
    try:
        import pillow_heif
    except ImportError as error:
        raise RejectError("HEIC needs pillow-heif: pip install 'pgvae[sources]'") from error
    pillow_heif.register_heif_opener()  # again changes nothing
    return Image.open(file, formats=(HEIC, "AVIF"))


def _has_frames(image: Image.Image) -> bool:
    """Of an MPO, a JPEG with a second view or a preview, the first picture is all there is."""
    return image.format != "MPO" and getattr(image, "n_frames", 1) > 1


def _has_16_bits(image: Image.Image) -> bool:
    """Before it is loaded: Pillow keeps 8 bits of each colour, and its mode does not tell."""
    return image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in image.tile)


def _is_turned(image: Image.Image) -> bool:
    """Whether it lies on its side, by its EXIF."""
    if image.format == "JPEG" and _says_nothing(image):
        return False
    exif = Image.Image.getexif(image)  # PNG's own decodes all of the image to look behind it
    return exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)


def _says_nothing(image: Image.Image) -> bool:
    """Whether nothing in a JPEG tells how it lies; to look further takes long."""
    return not {"exif", "xmp"} & image.info.keys()


def _upright(image: Image.Image) -> Image.Image:
    if image.format == "JPEG" and _says_nothing(image):
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about rotation
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: a plain conversion would clip
        levels = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.floor(levels + 0.5).clip(0, 255).astype(np.uint8))
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            return ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            return image.convert("RGB")  # a broken profile: the plain conversion
    if image.has_transparency_data:
        image = image.convert("RGBA")
        under = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(under, image).convert("RGB")
    if image.mode == "RGB":
        return image
    return image.convert("RGB")
