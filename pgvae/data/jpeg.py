"""Plain JPEGs, of which nothing is to be minded: their size and pixels without Pillow."""

from PIL import Image

try:
    import simplejpeg
except ImportError:  # of the extra [turbo]
    simplejpeg = None

START = 1024  # bytes that most headers of JPEGs lie in
_BITS = 8
_FRAME = (0xC0, 0xC1, 0xC2)  # markers of JPEG (ITU-T T.81, B.1.1.3): baseline to progressive
_SAYS_NOTHING = (0xE0, 0xFE, 0xDB, 0xC4)  # JFIF, a comment, and tables, before that


def decoded(data: bytes, most: int, resolution: int = 0) -> Image.Image | None:
    """A plain JPEG by libjpeg-turbo without Pillow: the same RGB pixels, sooner.

    None for others (as `size_of`), for what is decoded smaller for that resolution, for whatever
    has a fault, and where simplejpeg is not installed.
    """
    size = size_of(data[:START], most)
    if size is None or simplejpeg is None or (resolution and part_of(size, 2 * resolution) > 1):
        return None
    try:
        return Image.fromarray(simplejpeg.decode_jpeg(data))
    except ValueError:
        return None


def size_of(start: bytes, most: int) -> tuple[int, int] | None:
    """Width and height by the first bytes of a JPEG, if there is nothing else to know of it.

    None for others, with EXIF, a profile, four colours or more than `most` pixels: a decoder is to
    look, which takes far longer. Those of collections for training are mostly plain.
    """
    at = 2
    while start[:2] == b"\xff\xd8" and at + 10 <= len(start) and start[at] == 0xFF:
        kind, length = start[at + 1], int.from_bytes(start[at + 2 : at + 4])
        if kind in _FRAME:
            height, width = (int.from_bytes(start[at + k : at + k + 2]) for k in (5, 7))
            usual = start[at + 4] == _BITS and start[at + 9] in (1, 3)  # bits, colours
            return (width, height) if usual and 0 < width * height <= most else None
        if kind not in _SAYS_NOTHING:
            return None
        at += 2 + length
    return None


def part_of(size: tuple[int, int], least: int) -> int:
    """The largest number by which libjpeg can divide the sides so that `least` are left."""
    return next((p for p in (8, 4, 2) if min(size) >= p * least), 1)
