"""Reconstruction errors against closed forms and a float64 computation."""

import math

import numpy as np
import pytest
import torch

from pgvae import metrics


def images(seed: int, count: int = 4) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 6, 5, generator=rng) * 2 - 1


def mean_squares(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    return ((a.double().numpy() - b.double().numpy()) ** 2).mean(axis=(1, 2, 3))


def test_rmse_is_in_8_bit_levels_for_each_pair() -> None:
    a, b = images(1), images(2)
    levels = np.sqrt(mean_squares(a, b)) * 255 / 2
    assert metrics.rmse(a, b).shape == (4,)
    np.testing.assert_allclose(metrics.rmse(a, b).numpy(), levels, rtol=1e-5)


def test_psnr_is_that_of_8_bit_images_for_each_pair() -> None:
    a, b = images(1), images(2)
    mse_of_levels = mean_squares(a, b) * (255 / 2) ** 2
    assert metrics.psnr(a, b).shape == (4,)
    expected = 10 * np.log10(255**2 / mse_of_levels)
    np.testing.assert_allclose(metrics.psnr(a, b).numpy(), expected, rtol=1e-5)


def test_one_level_everywhere_is_an_rmse_of_1_and_a_psnr_of_48_13_db() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a + 2 / 255
    assert metrics.rmse(a, b).tolist() == pytest.approx([1.0, 1.0], rel=1e-5)
    assert metrics.psnr(a, b).tolist() == pytest.approx([20 * math.log10(255)] * 2, rel=1e-5)
    assert round(metrics.psnr(a, b)[0].item(), 2) == 48.13


def test_black_against_white_is_the_worst_there_is() -> None:
    a = torch.ones(1, 1, 4, 4)
    assert metrics.rmse(a, -a).item() == pytest.approx(255.0)
    assert metrics.psnr(a, -a).item() == pytest.approx(0.0, abs=1e-5)


def test_equal_images_have_no_error_and_an_infinite_psnr() -> None:
    a = images(1)
    assert metrics.rmse(a, a).tolist() == [0.0] * 4
    assert metrics.psnr(a, a).tolist() == [math.inf] * 4


def test_a_pair_does_not_depend_on_its_batch() -> None:
    a, b = images(1), images(2)
    for metric in (metrics.rmse, metrics.psnr):
        alone = torch.cat([metric(a[i : i + 1], b[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(metric(a, b), alone)
        torch.testing.assert_close(metric(a, b), metric(b, a))


def test_a_set_of_no_images_has_no_figures() -> None:
    assert metrics.rmse(images(1)[:0], images(2)[:0]).shape == (0,)
    assert metrics.psnr(images(1)[:0], images(2)[:0]).shape == (0,)
