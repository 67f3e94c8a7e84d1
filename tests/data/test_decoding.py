"""Decoding: what is accepted and how, and what is refused, each with its reason."""

import io
import struct
import sys
import zlib
from functools import partial

import numpy as np
import pytest
from making import encoded, noise, png_chunk, png_file, truncated_png
from memory import forget_peak, peak
from PIL import Image

from pgvae.data import jpeg
from pgvae.data.images import MAX_PIXELS, RejectError, decode, fitted, size_of

KINDS = ("PNG", "JPEG", "WEBP", "BMP")


def pixels_of(data: bytes) -> np.ndarray:
    image = decode(data).image
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_files_give_their_pixels(kind):
    array = noise(0, 16, 16)
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(pixels_of(encoded(array, kind, **options)), array)


def test_of_an_animation_the_first_frame_is_taken_with_a_note():
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for kind in ("WEBP", "PNG"):
        data = encoded(first, kind, save_all=True, append_images=[second], lossless=True)
        decoded = decode(data)
        assert "first frame" in decoded.note
        assert decoded.image.getpixel((4, 4))[0] > 250
    assert decode(encoded(first)).note == ""


# Damage and other kinds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(kind, share):
    data = encoded(noise(0, 64, 64), kind)
    with pytest.raises(RejectError):
        decode(data[: int(share * len(data))])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_without_half_its_rows_is_refused_though_verify_passes(kind):
    data = encoded(noise(0, 64, 64), "JPEG")
    data = truncated_png() if kind == "PNG" else data[: len(data) // 2]
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
    with pytest.raises(RejectError, match="cannot be decoded"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"GIF89a" + bytes(40), "a damaged GIF"),
        (b"II*\0" + bytes(40), "a damaged TIFF"),
        (b"\0\0\0\x20ftypheic" + bytes(40), "HEIC or AVIF"),
        (b"<!DOCTYPE html><html>not found</html>", "HTML"),
        (bytes(range(64)), "unknown kind"),
    ],
)
def test_other_kinds_of_file_are_refused_by_their_content(data, reason):
    with pytest.raises(RejectError, match=reason):
        decode(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_decoded_or_refused_and_nothing_else(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(2, 24, 20), kind, **({} if kind == "BMP" else {"exif": exif}))
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(250):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        try:
            pixels_of(bytes(damaged))
            size_of(io.BytesIO(bytes(damaged)))
        except RejectError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("side", [(2**31 - 1, 2**31 - 1), (20_000, 20_000), (8_001, 8_000)])
def test_a_bomb_is_refused_from_its_header_without_allocating(side):
    data = png_file(*side, zlib.compress(bytes(1000)))
    forget_peak()
    before = peak()
    for look in (decode, lambda file: size_of(io.BytesIO(file))):
        with pytest.raises(RejectError, match="64 million pixels"):
            look(data)
    assert peak() - before < 50_000  # kB; the pixels would be 190,000 or more


def test_the_size_is_read_from_the_header_alone():
    assert MAX_PIXELS == 8_000 * 8_000
    assert size_of(io.BytesIO(png_file(8_000, 8_000, b""))) == (8_000, 8_000)


# Depth and colour


def test_grey_is_replicated():
    array = noise(0, 16, 16, channels=1)
    np.testing.assert_array_equal(pixels_of(encoded(array)), np.stack([array] * 3, axis=-1))


def deep_colour(level: int) -> bytes:
    """A PNG of 16 bits for each colour, which Pillow cannot write."""
    row = b"\0" + struct.pack(">3H", level, 0, level) * 4
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(row * 4))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("level", "grey", "colour"),  # Pillow takes the high byte of colours
    [(0, 0, 0), (257, 1, 1), (1000, 4, 3), (32_768, 128, 128), (65_278, 254, 254),
     (65_535, 255, 255)],
)  # fmt: skip
def test_sixteen_bits_are_scaled_and_not_clipped(level, grey, colour):
    assert np.unique(pixels_of(encoded(np.full((4, 4), level, np.uint16)))).tolist() == [grey]
    data = deep_colour(level)
    assert np.unique(pixels_of(data).reshape(-1, 3), axis=0).tolist() == [[colour, 0, colour]]


@pytest.mark.parametrize("bits", [10, 12, 14, 15, 16])
def test_sixteen_bits_of_which_the_upper_ones_are_not_used_are_noted(bits):
    level = 2**bits - 1
    grey = encoded(np.linspace(0, level, 16).astype(np.uint16).reshape(4, 4))
    for data in (grey, deep_colour(level)):
        assert ("nearly black" in decode(data).note) is (bits < 15)


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint16), np.full((4, 4), 9, np.uint8)])
def test_black_and_dark_pictures_of_8_bits_are_no_news(array):
    assert decode(encoded(array)).note == ""


def grey_ink_profile() -> bytes:
    """An ICC profile (v2, lut8) in which cyan prints as the grey L* = 50, and paper is white."""
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = bytes(range(256))
    nodes = b"".join(
        bytes([0 if i % 2 else 128 if i >= 8 else 255, 128, 128])  # L, a, b
        for i in range(16)  # of ink (c, m, y, k), c slowest; black is black
    )
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + nodes + ramp * 3
    text = b"text" + bytes(4) + b"test\0" + bytes(3)
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50
    tags = {b"A2B0": lut, b"cprt": text, b"wtpt": b"XYZ " + bytes(4) + white}
    body, table, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    kinds = (0x02400000, b"prtr", b"CMYK", b"Lab ")
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), *kinds)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def test_cmyk_with_a_profile_goes_through_it():
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    data = encoded(inks, "JPEG", quality=100, icc_profile=grey_ink_profile())
    # L* = 128 / 255 * 100 -> Y by CIE 1976, -> sRGB by IEC 61966-2-1
    luminance = ((100 * 128 / 255 + 16) / 116) ** 3
    expected = 255 * (1.055 * luminance ** (1 / 2.4) - 0.055)
    mean = pixels_of(data).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(mean, [expected] * 3, atol=3)  # plain conversion: (0, 255, 255)


@pytest.mark.parametrize("profile", [None, b"nonsense" * 20])
def test_cmyk_without_a_profile_or_with_a_broken_one_is_converted_plainly(profile):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = pixels_of(encoded(image, "JPEG", quality=95, icc_profile=profile))
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 12


def palette(transparency: int | bytes) -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 20, 0, 0, 250])
    image.putdata([0, 1])
    return encoded(image, transparency=transparency)


def two(mode: str, first: tuple[int, ...], second: tuple[int, ...]) -> Image.Image:
    image = Image.new(mode, (2, 1))
    image.putdata([first, second])
    return image


TRANSPARENT = {
    "rgba": (encoded(two("RGBA", (9, 9, 9, 0), (0, 0, 250, 255))), [[255] * 3, [0, 0, 250]]),
    "rgba fifth": (
        encoded(two("RGBA", (255, 0, 0, 51), (0, 0, 0, 51))),
        [[255, 204, 204], [204] * 3],
    ),
    "la": (encoded(two("LA", (30, 0), (30, 255))), [[255] * 3, [30] * 3]),
    "la two fifths": (encoded(two("LA", (0, 102), (0, 255))), [[153] * 3, [0] * 3]),
    "palette index": (palette(0), [[255] * 3, [0, 0, 250]]),
    "palette alphas": (palette(bytes([255, 0])), [[200, 10, 20], [255] * 3]),
    "rgb key": (
        encoded(two("RGB", (9, 8, 7), (1, 2, 3)), transparency=(9, 8, 7)),
        [[255] * 3, [1, 2, 3]],
    ),
    "webp": (
        encoded(two("RGBA", (1, 2, 3, 0), (4, 5, 6, 255)), "WEBP", lossless=True),
        [[255] * 3, [4, 5, 6]],
    ),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_of_every_kind_is_composited_on_white(kind):
    data, expected = TRANSPARENT[kind]
    assert pixels_of(data)[0].tolist() == expected


UPRIGHT = {  # EXIF 2.3, table 6: what the stored rows and columns are of the scene
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_exif_orientation_is_applied(orientation, kind):
    stored, exif = noise(6, 5, 8), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = UPRIGHT[orientation](stored)
    np.testing.assert_array_equal(pixels_of(data), expected)
    for file in (data, encoded(stored, "JPEG", exif=exif)):
        assert size_of(io.BytesIO(file)) == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True, "restart_marker_rows": 1},
        {"comment": b"of " * 99},
        {"comment": b"of " * 999},
        {"icc_profile": b"p" * 300},
        {"subsampling": 0, "qtables": [[3] * 64, [5] * 64]},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_size_of_a_jpeg_is_what_a_decoder_finds(mode, options, monkeypatch):
    data = encoded(Image.new(mode, (40, 24)), "JPEG", **options)
    assert size_of(io.BytesIO(data)) == (40, 24)
    monkeypatch.setattr(jpeg, "size_of", lambda start, most: None)
    assert size_of(io.BytesIO(data)) == (40, 24)


def test_the_sizes_that_a_damaged_jpeg_has_are_those_of_a_decoder_or_it_is_refused(monkeypatch):
    whole, rng = encoded(noise(0, 24, 40), "JPEG"), np.random.default_rng(0)
    quick = partial(jpeg.size_of, most=MAX_PIXELS)
    assert quick(whole[:1024]) == (40, 24)
    monkeypatch.setattr(jpeg, "size_of", lambda start, most: None)
    differing = 0
    for _ in range(500):
        data = bytearray(whole)
        data[rng.integers(200)] ^= 1 << rng.integers(8)
        found = quick(bytes(data[:1024]))
        try:
            expected = size_of(io.BytesIO(data))
        except RejectError:
            differing += found is not None  # by what comes behind the size: found when it is made
        else:
            assert found in (None, expected)
    assert differing < 25


def test_a_faster_decoder_gives_the_same_pixels_and_takes_nothing_that_pillow_refuses(monkeypatch):
    pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")
    options = [{"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"optimize": True}]
    whole = [encoded(noise(i, 24, 40), "JPEG", **each) for i, each in enumerate(options)]
    whole.append(encoded(Image.new("L", (40, 24), 99), "JPEG"))
    files, rng = list(whole), np.random.default_rng(0)
    for i in range(400):
        data = bytearray(whole[i % len(whole)])
        at, end = sorted(rng.integers(2, len(data), 2))
        if i % 3 == 0:
            data[at] ^= 1 << rng.integers(8)
        elif i % 3 == 1:
            del data[at : at + 1 + (end - at) % 20]
        else:
            data[at:at] = rng.bytes(1 + (end - at) % 20)
        files.append(bytes(data))
    quick = [jpeg.decoded(data, MAX_PIXELS) for data in files]
    assert all(quick[: len(whole)])
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    for data, found in zip(files, quick, strict=True):
        assert jpeg.decoded(data, MAX_PIXELS) is None
        if found is not None:
            np.testing.assert_array_equal(np.asarray(found), pixels_of(data))
    assert sum(found is not None for found in quick) > 50


@pytest.mark.parametrize(("resolution", "part"), [(64, 1), (16, 2), (8, 4)])
def test_a_large_jpeg_is_decoded_smaller_by_whichever_decoder(resolution, part):
    data = encoded(noise(0, 64, 64), "JPEG")
    assert decode(data, resolution).part == part


def test_a_broken_exif_block_is_passed_over():
    data = encoded(noise(0, 8, 8), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert decode(data).image.size == (8, 8)


# Further kinds of file


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "AVIF", "HEIF"])
def test_further_kinds_are_read_and_refused_where_they_are_cut(kind):
    if kind == "HEIF":
        pytest.importorskip(
            "pillow_heif", reason="pillow-heif is not installed"
        ).register_heif_opener()
    picture = Image.new("RGB", (40, 24), (200, 30, 60))
    data = encoded(picture, kind)
    found = decode(data)
    assert (found.image.size, found.note) == ((40, 24), "")
    assert size_of(io.BytesIO(data)) == (40, 24)
    assert np.abs(np.asarray(found.image).astype(int) - (200, 30, 60)).max() <= 4
    for cut in (15, 40, len(data) // 2, len(data) - 20):
        with pytest.raises(RejectError):
            decode(data[:cut])


@pytest.mark.parametrize(("kind", "note"), [("GIF", "first frame"), ("TIFF", "several pages")])
def test_of_frames_and_pages_the_first_is_taken_with_a_note(kind, note):
    first, second = (Image.new("RGB", (16, 16), shade) for shade in ("red", "blue"))
    found = decode(encoded(first, kind, save_all=True, append_images=[second]))
    assert note in found.note
    assert found.image.getpixel((3, 3)) == (255, 0, 0)


def test_heic_without_its_decoder_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        RejectError, match=r"HEIC needs pillow-heif: pip install 'pgvae\[sources\]'"
    ):
        decode(b"\0\0\0\x20ftypheic" + bytes(40))


def test_pixels_of_which_nobody_knows_the_white_are_refused():
    floats = Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32))
    with pytest.raises(RejectError, match="floating-point"):
        decode(encoded(floats, "TIFF"))
    deep = Image.fromarray(np.full((8, 8), 1 << 20, np.int32))
    with pytest.raises(RejectError, match="32 bits"):
        decode(encoded(deep, "TIFF"))


@pytest.mark.parametrize(("side", "part"), [(255, 1), (256, 2), (300, 2), (512, 4), (1024, 8)])
def test_a_large_jpeg_decoded_at_a_part_is_nearly_the_one_decoded_in_full(side, part):
    coarse = Image.fromarray(noise(3, 9, 9)).resize((side, side + 40), Image.Resampling.BICUBIC)
    data = encoded(coarse, "JPEG", quality=92)
    assert decode(data, 64).image.width == side // part
    made = [fitted(given, 64, "center", upscale=False)[1] for given in (data, decode(data))]
    difference = np.abs(np.asarray(made[0]).astype(int) - np.asarray(made[1]))
    assert difference.mean() < 0.6
    assert difference.max() <= 4
