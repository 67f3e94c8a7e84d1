"""MS-SSIM against pytorch-msssim, a plain float64 version, and by its properties."""

import numpy as np
import pytest
import pytorch_msssim
import torch
from made import blurred, cut, noise, pictures

from pgvae.metrics import msssim, ssim
from pgvae.metrics.multiscale import PairSimilarity, msssim_pairs

PUBLISHED = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]


def pairs(side: int, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    a = pictures(count, side, 0)
    return a, 0.6 * a + 0.3 * pictures(count, side, 1) + 0.1 * noise(count, side, 2)


def direct(a: np.ndarray, b: np.ndarray, scales: int) -> float:
    """Of one pair [C, H, W] in [0, 1], with windows of 11 pixels, in float64."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / 4.5)
    line /= line.sum()

    def smooth(image: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            image = np.apply_along_axis(np.convolve, axis, image, line, mode="valid")
        return image

    weights = np.array(PUBLISHED[:scales]) / sum(PUBLISHED[:scales])
    found = []
    for x, y in zip(a, b, strict=True):
        terms = []
        for scale in range(scales):
            m, n = smooth(x), smooth(y)
            v, w, c = smooth(x * x) - m * m, smooth(y * y) - n * n, smooth(x * y) - m * n
            term = (2 * c + 9e-4) / (v + w + 9e-4)
            if scale == scales - 1:
                term = term * (2 * m * n + 1e-4) / (m * m + n * n + 1e-4)
            terms.append(max(term.mean(), 0))
            x, y = (z.reshape(len(z) // 2, 2, -1, 2).mean(axis=(1, 3)) for z in (x, y))
        found.append(np.prod(np.array(terms) ** weights))
    return float(np.mean(found))


@pytest.mark.parametrize("side", [161, 176])
def test_five_scales_are_those_of_pytorch_msssim(side):
    a, b = pairs(side)
    theirs = pytorch_msssim.ms_ssim((a + 1) / 2, (b + 1) / 2, data_range=1, size_average=False)
    assert theirs.min() > 0.2
    assert theirs.max() < 0.95
    torch.testing.assert_close(msssim_pairs(a, b), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("side", "scales"), [(16, 1), (32, 2), (64, 3), (128, 4)])
def test_smaller_images_have_as_many_scales_as_fit(side, scales):
    a, b = pairs(side)
    unit = [((x.double() + 1) / 2).numpy() for x in (a, b)]
    expected = [direct(p, q, scales) for p, q in zip(*unit, strict=True)]
    assert msssim_pairs(a, b).tolist() == pytest.approx(expected, abs=2e-5)
    similarity = PairSimilarity()
    similarity.add(a)
    assert similarity.scales == scales


@pytest.mark.parametrize("side", [4, 8, 16])
def test_one_scale_is_ssim(side):
    a, b = pairs(side)
    torch.testing.assert_close(msssim_pairs(a, b), ssim(a, b).clamp(min=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [8, 32, 176])
def test_equal_images_have_1_and_unrelated_ones_much_less(side):
    images = noise(4, side, 0)
    assert msssim_pairs(images, images).tolist() == [1.0] * 4
    assert msssim(images[:1].repeat(4, 1, 1, 1)) == 1.0
    assert msssim(images) < 0.3


def test_images_that_are_opposites_have_0():
    images = noise(2, 32, 0)
    assert msssim_pairs(images, -images).tolist() == [0.0, 0.0]


def test_a_set_is_measured_by_its_consecutive_pairs():
    images = pictures(6, 32, 0)
    expected = msssim_pairs(images[[0, 2, 4]], images[[1, 3, 5]]).mean().item()
    assert msssim(images) == pytest.approx(expected, rel=1e-6)
    assert msssim(images[[0, 2, 1, 3, 4, 5]]) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("sizes", [(1,), (2,), (3,), (5, 1, 40)])
def test_pairs_go_over_the_borders_of_batches(sizes):
    images = pictures(41, 32, 0)
    similarity = PairSimilarity()
    for batch in cut(images, *sizes):
        similarity.add(batch)
    assert similarity.pairs == 20
    assert similarity.mean() == pytest.approx(msssim(images), rel=1e-6)
    assert msssim(cut(images, *sizes)) == pytest.approx(msssim(images), rel=1e-6)


def test_an_odd_last_image_is_left_out():
    images = pictures(7, 32, 0)
    assert msssim(images) == msssim(images[:6])


def test_less_varied_images_are_more_alike():
    images = pictures(20, 32, 0)
    few = images[[0, 1, 0, 0, 1, 1, 1, 0]]
    assert msssim(images) < msssim(few)
    assert msssim(images) < msssim(blurred(images, 3))


@pytest.mark.parametrize("count", [0, 1])
def test_a_set_without_a_pair_has_no_mean(count):
    with pytest.raises(ValueError, match="at least 2 images"):
        msssim(noise(count, 16, 0))


def test_images_of_two_shapes_are_no_pair():
    with pytest.raises(ValueError, match="one shape"):
        msssim_pairs(noise(2, 16, 0), noise(2, 32, 0))
