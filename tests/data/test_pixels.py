"""The pyramid below an image, and the codecs that its levels are kept in."""

import numpy as np
import pytest
from making import noise

from pgvae.data.pixels import decode_pixels, encode_pixels, pyramid


@pytest.mark.parametrize("size", [64, 512])
def test_every_level_of_the_pyramid_is_the_rounded_box_mean_of_the_top(size):
    top = np.maximum(noise(0, size, size).transpose(2, 0, 1), 200)  # sums as large as they may be
    levels = pyramid(top)
    assert [level.shape[-1] for level in levels] == [size >> k for k in range(len(levels))]
    assert levels[-1].shape[-1] == 4
    for level in levels:
        box = size // level.shape[-1]
        means = top.reshape(3, size // box, box, size // box, box).mean(axis=(2, 4))
        np.testing.assert_array_equal(level, np.floor(means + 0.5))


def test_the_sums_of_a_1024_px_pyramid_do_not_overflow():
    levels = pyramid(np.full((1, 1024, 1024), 255, np.uint8))
    assert all((level == 255).all() for level in levels)


@pytest.mark.parametrize("codec", ["raw", "webp", "png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_codecs_return_what_they_were_given(codec, channels):
    array = noise(0, 32, 32).transpose(2, 0, 1)[:channels]
    data = encode_pixels(array, codec)
    np.testing.assert_array_equal(decode_pixels(data, codec, channels, (32, 32)), array)


def test_jpeg_keeps_a_smooth_image_within_a_few_levels():
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8), (3, 64, 64))
    found = decode_pixels(encode_pixels(ramp, "jpeg"), "jpeg", 3, (64, 64))
    assert np.abs(found.astype(int) - ramp).max() <= 4
