"""Reconstruction errors against closed forms and a float64 computation."""

import math

import numpy as np
import pytest
import torch
from made import blurred, noise

from pgvae import metrics
from pgvae.errors import InputError


def images(seed: int, count: int = 4) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 6, 5, generator=rng) * 2 - 1


def mean_squares(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    return ((a.double().numpy() - b.double().numpy()) ** 2).mean(axis=(1, 2, 3))


def test_errors_are_those_of_8_bit_levels_for_each_pair():
    """But for mse, which is of images from 0 to 1."""
    a, b = images(1), images(2)
    errors = mean_squares(a, b) * (255 / 2) ** 2
    np.testing.assert_allclose(metrics.rmse(a, b), np.sqrt(errors), rtol=1e-5)
    np.testing.assert_allclose(metrics.mse(a, b), errors / 255**2, rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(a, b), 10 * np.log10(255**2 / errors), rtol=1e-5)


def test_one_level_everywhere_is_an_rmse_of_1_and_a_psnr_of_48_13_db():
    a = torch.zeros(2, 3, 4, 4)
    b = a + 2 / 255
    assert metrics.rmse(a, b).tolist() == pytest.approx([1.0, 1.0], rel=1e-5)
    assert metrics.psnr(a, b).tolist() == pytest.approx([20 * math.log10(255)] * 2, rel=1e-5)
    assert round(metrics.psnr(a, b)[0].item(), 2) == 48.13


def test_black_against_white_is_the_worst_there_is():
    a = torch.ones(1, 1, 4, 4)
    assert metrics.rmse(a, -a).item() == pytest.approx(255.0)
    assert metrics.mse(a, -a).item() == 1.0
    assert metrics.psnr(a, -a).item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("metric", [metrics.mse, metrics.rmse, metrics.psnr])
def test_bytes_are_no_images(metric):
    images = torch.zeros(1, 3, 4, 4)
    with pytest.raises(InputError, match=r"got torch\.uint8"):
        metric(images.to(torch.uint8), images)
    with pytest.raises(InputError, match=r"and torch\.int64"):
        metric(images, images.long())


def test_equal_images_have_no_error_and_an_infinite_psnr():
    a = images(1)
    assert metrics.rmse(a, a).tolist() == metrics.mse(a, a).tolist() == [0.0] * 4
    assert metrics.ssim(a, a).tolist() == [1.0] * 4
    assert metrics.psnr(a, a).tolist() == [math.inf] * 4


@pytest.mark.parametrize("metric", [metrics.mse, metrics.rmse, metrics.psnr, metrics.ssim])
def test_a_pair_does_not_depend_on_its_batch(metric):
    a, b = images(1), images(2)
    alone = torch.cat([metric(a[i : i + 1], b[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(metric(a, b), alone)
    torch.testing.assert_close(metric(a, b), metric(b, a))
    assert metric(a[:0], b[:0]).shape == (0,)


def direct_ssim(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """Wang et al., 2004, eq. 13, of one pair [C, H, W] in [0, 1]: every window, in loops."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for x, y in zip(a, b, strict=True):
        for i in range(a.shape[1] - window + 1):
            for j in range(a.shape[2] - window + 1):
                p, q = (image[i : i + window, j : j + window] for image in (x, y))
                mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
                var_p, var_q = (
                    (weights * (p - mean_p) ** 2).sum(),
                    (weights * (q - mean_q) ** 2).sum(),
                )
                both = (weights * (p - mean_p) * (q - mean_q)).sum()
                luminance = (2 * mean_p * mean_q + 1e-4) / (mean_p**2 + mean_q**2 + 1e-4)
                found.append(luminance * (2 * both + 9e-4) / (var_p + var_q + 9e-4))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("side", "window"), [(16, 11), (12, 11), (11, 11), (10, 9), (8, 7), (4, 3)]
)
def test_ssim_is_that_of_loops_over_windows(side: int, window: int):
    a = noise(2, side, 0)
    b = 0.5 * a + 0.4 * blurred(noise(2, side, 1), 1) + 0.1
    unit = [((x.double() + 1) / 2).numpy() for x in (a, b)]
    expected = [direct_ssim(p, q, window) for p, q in zip(*unit, strict=True)]
    assert metrics.ssim(a, b).tolist() == pytest.approx(expected, abs=1e-5)


def test_ssim_of_flat_images_is_that_of_their_luminance_and_of_an_inverted_one_negative():
    black, white = -torch.ones(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert metrics.ssim(black, white).item() == pytest.approx(1e-4 / (1 + 1e-4), rel=1e-3)
    expected = (2 * 0.5 + 1e-4) / (1 + 0.25 + 1e-4)
    assert metrics.ssim(white, 0 * white).item() == pytest.approx(expected, rel=1e-5)
    assert metrics.ssim(noise(1, 16, 0), -noise(1, 16, 0)).item() < -0.9


def test_ssim_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="same dimensions"):
        metrics.ssim(noise(2, 16, 0), noise(2, 8, 0))


@pytest.mark.parametrize("metric", [metrics.mse, metrics.rmse, metrics.psnr])
@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (2, 3, 4, 4), (2, 1, 8, 8), (3, 8, 8)])
def test_images_that_are_no_pairs_are_refused_in_a_line(metric, shape):
    with pytest.raises(
        InputError, match=r"images must be in pairs of one shape \[N, C, H, W\]: got "
    ):
        metric(torch.zeros(2, 3, 8, 8), torch.zeros(shape))
