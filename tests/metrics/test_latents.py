"""Statistics of latents against closed forms."""

import math

import pytest
import torch

from pgvae.metrics.latents import latent_statistics


def axes(dim: int) -> torch.Tensor:
    """The 2 d ends of the axes: mean 0, variance 1 / d each, nothing correlated."""
    return torch.cat([torch.eye(dim), -torch.eye(dim)])


def test_points_spread_over_the_sphere_are_the_prior():
    assert latent_statistics(axes(8), None, "sphere") == pytest.approx(
        {
            "mean_norm": 0.0,
            "variance_mean": 1.0,
            "variance_min": 1.0,
            "variance_max": 1.0,
            "correlation_max": 0.0,
            "active": 8.0,
        }
    )


def test_points_at_one_place_of_the_sphere_have_collapsed():
    found = latent_statistics(axes(8)[:1].repeat(5, 1), None, "sphere")
    assert found == pytest.approx(dict.fromkeys(found, 0.0) | {"mean_norm": 1.0})


def test_points_on_a_circle_use_two_dimensions_of_the_sphere():
    angles = torch.arange(12.0) / 12 * 2 * math.pi
    points = torch.zeros(12, 6)
    points[:, 1], points[:, 4] = angles.cos(), angles.sin()
    found = latent_statistics(points, None, "sphere")
    assert found["active"] == 2
    assert found["variance_max"] == pytest.approx(3.0)  # 1/2 each, in units of 1/6
    assert found["variance_min"] == 0.0
    assert found["variance_mean"] == pytest.approx(1.0)


@pytest.mark.parametrize(("share", "active"), [(0.11, 2), (0.09, 1)])
def test_a_dimension_of_the_sphere_is_active_above_a_tenth_of_its_share(share, active):
    """d = 4; one dimension has a variance of `share` / 4, with mean 0."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    lengths = torch.tensor([math.sqrt(1 - share / 4), math.sqrt(share / 4)])
    points = torch.cat([signs * lengths, torch.zeros(4, 2)], dim=1)
    assert latent_statistics(points, None, "sphere")["active"] == active


def test_a_gaussian_posterior_that_says_nothing_is_the_prior():
    found = latent_statistics(torch.zeros(6, 4), torch.zeros(6, 4), "gaussian")
    ones = {"variance_mean": 1.0, "variance_min": 1.0, "variance_max": 1.0}
    assert found == dict.fromkeys(found, 0.0) | ones
    assert "kl" in found


def test_a_gaussian_aggregate_has_the_variance_of_its_means_and_its_noise():
    mean = torch.tensor([[1.0, 3.0], [3.0, 3.0]])
    logvar = torch.tensor([[0.5, 0.1], [0.3, 0.2]]).log()
    found = latent_statistics(mean, logvar, "gaussian")
    assert found["mean_norm"] == pytest.approx(math.sqrt(2**2 + 3**2))
    assert found["variance_max"] == pytest.approx(1 + 0.4)
    assert found["variance_min"] == pytest.approx(0.15)
    assert found["variance_mean"] == pytest.approx((1.4 + 0.15) / 2)
    assert found["active"] == 1
    # Of each dimension, with variance v: (mean^2 + v - 1 - log v) / 2.
    kls = [1 + 0.5, 9 + 0.1, 9 + 0.3, 9 + 0.2]
    logs = math.log(0.5 * 0.1 * 0.3 * 0.2)
    assert found["kl"] == pytest.approx((sum(kls) - 4 - logs) / 2 / 2)


def test_the_correlation_is_that_of_the_aggregate():
    mean = torch.tensor([[1.0, 2.0, 0.0], [-1.0, -2.0, 0.0]])
    found = latent_statistics(mean, torch.full((2, 3), -100.0), "gaussian")
    assert found["correlation_max"] == pytest.approx(1.0)
    # Noise of variance 1: covariance 2, variances 2 and 5.
    found = latent_statistics(mean, torch.zeros(2, 3), "gaussian")
    assert found["correlation_max"] == pytest.approx(2 / math.sqrt(10))
    found = latent_statistics(mean * torch.tensor([1.0, -1.0, 1.0]), torch.zeros(2, 3), "gaussian")
    assert found["correlation_max"] == pytest.approx(2 / math.sqrt(10))


@pytest.mark.parametrize(("deviation", "active"), [(0.09, 0), (0.11, 3)])
def test_a_gaussian_dimension_is_active_above_a_variance_of_its_means_of_a_hundredth(
    deviation, active
):
    mean = deviation * torch.tensor([[1.0], [-1.0]]).repeat(1, 3)
    assert latent_statistics(mean, torch.zeros(2, 3), "gaussian")["active"] == active


def test_many_samples_of_the_prior_are_near_it():
    rng = torch.Generator().manual_seed(0)
    mean = torch.randn(20_000, 5, generator=rng) * 0.8
    logvar = torch.full_like(mean, math.log(1 - 0.64))
    found = latent_statistics(mean, logvar, "gaussian")
    assert found["mean_norm"] < 0.03
    assert found["correlation_max"] < 0.03
    assert 0.97 < found["variance_min"] < found["variance_max"] < 1.03
    assert found["kl"] == pytest.approx(-2.5 * math.log(0.36), rel=0.02)


@pytest.mark.parametrize(
    ("mean", "logvar", "head", "problem"),
    [
        (torch.zeros(1, 3), None, "sphere", r"at least 2 images: got \[1, 3\]"),
        (torch.zeros(4, 3), torch.zeros(4, 3), "sphere", "sphere with a logvar"),
        (torch.zeros(4, 3), None, "gaussian", "gaussian with no logvar"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "gaussian", "one shape"),
        (torch.zeros(4, 3), None, "torus", "head is 'torus'"),
    ],
)
def test_latents_that_are_no_posterior_are_refused(mean, logvar, head, problem):
    with pytest.raises(ValueError, match=problem):
        latent_statistics(mean, logvar, head)
