"""Fitting to a square, the pyramid below it, and the codecs of a store."""

import numpy as np
import pytest
from making import noise
from PIL import Image

from pgvae.data.images import (
    RejectError,
    box_after,
    fit,
)

PLACES = np.stack(np.broadcast_arrays(*np.mgrid[:256, :256], 7), -1).astype(np.uint8)  # (y, x, 7)


@pytest.mark.parametrize(
    ("crop", "width", "height", "left", "top", "side"),
    [
        ("center", 12, 8, 2, 0, 8),
        ("center", 8, 12, 0, 2, 8),
        ("center", 13, 8, 2, 0, 8),
        ("center", 8, 8, 0, 0, 8),
        ("celeba", 178, 218, 0, 20, 178),
        ("celeba", 250, 200, 36, 11, 178),
        ("celeba", 178, 178, 0, 0, 178),
    ],
)
def test_a_crop_takes_the_pixels_it_names(crop, width, height, left, top, side):
    array = PLACES[:height, :width]
    fitted = np.asarray(fit(Image.fromarray(array), side, crop, upscale=False))
    np.testing.assert_array_equal(fitted, array[top : top + side, left : left + side])
    assert box_after(crop, width, height) == (side, side)


@pytest.mark.parametrize(("width", "height"), [(8, 4), (4, 8), (8, 6), (8, 8)])
def test_padding_is_white_on_both_sides_alike(width, height):
    array = PLACES[:height, :width]
    top, left = (8 - height) // 2, (8 - width) // 2
    expected = np.full((8, 8, 3), 255, np.uint8)
    expected[top : top + height, left : left + width] = array
    fitted = fit(Image.fromarray(array), 8, "pad", upscale=False)
    np.testing.assert_array_equal(np.asarray(fitted), expected)
    assert box_after("pad", width, height) == (8, 8)


def test_scaling_is_lanczos_of_the_crop():
    image = Image.fromarray(noise(10, 30, 47))
    fitted = np.asarray(fit(image, 16, "center", upscale=False))
    cropped = image.crop((8, 0, 38, 30)).resize((16, 16), Image.Resampling.LANCZOS)
    inner = slice(3, -3)  # at its left and right the filter may see beyond the crop
    np.testing.assert_array_equal(fitted[:, inner], np.asarray(cropped)[:, inner])


@pytest.mark.parametrize(
    ("crop", "size", "resolution"),
    [("center", (40, 31), 32), ("pad", (31, 8), 32), ("celeba", (178, 218), 256)],
)
def test_below_the_resolution_every_crop_needs_upscale(crop, size, resolution):
    image = Image.new("RGB", size)
    with pytest.raises(RejectError, match=f"{size[0]}x{size[1]} px is below the resolution"):
        fit(image, resolution, crop, upscale=False)
    assert fit(image, resolution, crop, upscale=True).size == (resolution, resolution)


@pytest.mark.parametrize("size", [(177, 218), (218, 177)])
@pytest.mark.parametrize("upscale", [False, True])
def test_below_178_px_celebas_crop_is_refused(size, upscale):
    with pytest.raises(RejectError, match="too small for the 178 px crop"):
        fit(Image.new("RGB", size), 64, "celeba", upscale=upscale)
