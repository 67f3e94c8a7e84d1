"""Decoding: what is accepted and how, and what is refused, each with its reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import encoded, noise, png
from PIL import Image, ImageCms

from pgvae.data import images
from pgvae.data.images import RejectError, decode


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(decode(data).image)


def header_of_a_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + crc

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_files_give_their_pixels(kind):
    array = noise()
    np.testing.assert_array_equal(pixels_of(encoded(Image.fromarray(array), kind)), array)


def test_lossless_webp_gives_its_pixels():
    array = noise()
    np.testing.assert_array_equal(
        pixels_of(encoded(Image.fromarray(array), "WEBP", lossless=True)), array
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(kind, share):
    data = encoded(Image.fromarray(noise(64)), kind)
    with pytest.raises(RejectError):
        decode(data[: int(share * len(data))])


def test_zero_bytes_are_refused():
    with pytest.raises(RejectError, match="empty file"):
        decode(b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"GIF89a" + bytes(40), "a GIF"),
        (b"II*\0" + bytes(40), "a TIFF"),
        (b"\0\0\0\x20ftypheic" + bytes(40), "HEIC or AVIF"),
        (b"<!DOCTYPE html><html>not found</html>", "HTML"),
        (bytes(range(64)), "unknown kind"),
    ],
)
def test_other_kinds_of_file_are_refused_by_their_content(data, reason):
    with pytest.raises(RejectError, match=reason):
        decode(data)


def test_a_bomb_is_refused_from_its_header():
    for side in (8001, 30_000, 2**31 - 1):
        with pytest.raises(RejectError, match="64 million pixels"):
            decode(header_of_a_png(side, side))
        with pytest.raises(RejectError, match="64 million pixels"):
            images.size_of(io.BytesIO(header_of_a_png(side, side)))


def test_sixteen_bits_are_scaled_and_not_clipped():
    levels = np.array([[0, 257, 1000], [32768, 40000, 65535]], np.uint16)
    grey = pixels_of(encoded(Image.fromarray(levels)))
    np.testing.assert_array_equal(grey[..., 0], np.floor(levels / 257 + 0.5))


def test_grey_is_replicated():
    array = noise(channels=1)
    np.testing.assert_array_equal(
        pixels_of(encoded(Image.fromarray(array))), np.stack([array] * 3, axis=-1)
    )


def test_alpha_is_composited_on_white():
    array = noise(channels=4)
    alpha = array[..., 3:].astype(float) / 255
    expected = array[..., :3] * alpha + 255 * (1 - alpha)
    found = pixels_of(encoded(Image.fromarray(array)))
    assert np.abs(found - expected).max() <= 1


def test_a_transparent_palette_entry_becomes_white():
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    found = pixels_of(encoded(image, transparency=0))
    assert found.tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_cmyk_without_a_profile_is_converted():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = pixels_of(encoded(image, "JPEG", quality=95))
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 12


def test_a_broken_cmyk_profile_falls_back_to_the_plain_conversion():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    plain = pixels_of(encoded(image, "JPEG", quality=95))
    broken = pixels_of(encoded(image, "JPEG", quality=95, icc_profile=b"nonsense" * 20))
    np.testing.assert_array_equal(broken, plain)


def test_a_cmyk_profile_is_used(monkeypatch):
    used = []
    real = ImageCms.profileToProfile

    def spy(image, source, target, **options):
        used.append(options["outputMode"])
        return image.convert("RGB")

    monkeypatch.setattr(ImageCms, "profileToProfile", spy)
    assert real is not spy
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    decode(encoded(image, "JPEG", icc_profile=profile))
    assert used == ["RGB"]


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_applied(orientation, turns):
    array = noise(8)[:, :4]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(array), exif=exif)
    np.testing.assert_array_equal(pixels_of(data), np.rot90(array, turns))
    assert images.size_of(io.BytesIO(data)) == decode(data).image.size


def test_a_broken_exif_block_is_passed_over():
    data = encoded(Image.fromarray(noise(8)), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert decode(data).image.size == (8, 8)


def test_of_an_animation_the_first_frame_is_taken_with_a_note():
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for kind in ("WEBP", "PNG"):
        data = encoded(first, kind, save_all=True, append_images=[second], lossless=True)
        decoded = decode(data)
        assert "first frame" in decoded.note
        assert decoded.image.getpixel((4, 4))[0] > 250


def test_a_still_image_has_no_note():
    assert decode(png()).note == ""


def test_the_central_square_is_taken():
    array = noise(20)[:12]  # 20 wide, 12 high
    found = images.fit(Image.fromarray(array), 12, "center", upscale=False)
    np.testing.assert_array_equal(np.asarray(found), array[:, 4:16])


def test_celebas_crop_is_its_central_178_pixels():
    array = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    found = images.fit(Image.fromarray(array), 178, "celeba", upscale=False)
    np.testing.assert_array_equal(np.asarray(found), array[20:198])
    with pytest.raises(RejectError, match="too small for the 178 px crop"):
        images.fit(Image.fromarray(array[:170]), 64, "celeba", upscale=True)


def test_padding_adds_white_borders_and_keeps_every_pixel():
    array = noise(16)[:8]
    found = np.asarray(images.fit(Image.fromarray(array), 16, "pad", upscale=False))
    np.testing.assert_array_equal(found[4:12], array)
    assert (found[:4] == 255).all()
    assert (found[12:] == 255).all()


def test_a_small_image_is_refused_unless_upscaling_is_wanted():
    image = Image.fromarray(noise(16))
    with pytest.raises(RejectError, match="16x16 px is below the resolution 32"):
        images.fit(image, 32, "center", upscale=False)
    assert images.fit(image, 32, "center", upscale=True).size == (32, 32)


def test_every_level_of_the_pyramid_is_the_rounded_box_mean_of_the_top():
    top = noise(64).transpose(2, 0, 1)
    levels = images.pyramid(top)
    assert [level.shape[-1] for level in levels] == [64, 32, 16, 8, 4]
    for level in levels:
        box = 64 // level.shape[-1]
        means = top.reshape(3, 64 // box, box, 64 // box, box).mean(axis=(2, 4))
        np.testing.assert_array_equal(level, np.floor(means + 0.5))


def test_the_sums_of_a_1024_px_pyramid_do_not_overflow():
    levels = images.pyramid(np.full((1, 1024, 1024), 255, np.uint8))
    assert all((level == 255).all() for level in levels)


@pytest.mark.parametrize("codec", ["raw", "webp", "png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_codecs_return_what_they_were_given(codec, channels):
    array = np.random.default_rng(0).integers(0, 256, (channels, 32, 32), dtype=np.uint8)
    data = images.encode_pixels(array, codec)
    np.testing.assert_array_equal(images.decode_pixels(data, codec, channels, 32), array)


def test_jpeg_keeps_a_smooth_image_within_a_few_levels():
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8), (3, 64, 64))
    found = images.decode_pixels(images.encode_pixels(ramp, "jpeg"), "jpeg", 3, 64)
    assert np.abs(found.astype(int) - ramp).max() <= 4
