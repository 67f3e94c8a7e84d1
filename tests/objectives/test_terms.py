"""Terms that objectives share, against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pgvae.objectives import terms


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


# --- priors


@pytest.mark.parametrize("d", [2, 5, 512])
def test_the_sphere_prior_has_the_direction_of_its_noise_and_unit_length(d: int) -> None:
    noise = randn(400, d)
    z = terms.on_prior("sphere", noise)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(400, dtype=z.dtype))
    torch.testing.assert_close(z * noise.norm(dim=1, keepdim=True), noise)


def test_the_gaussian_prior_is_the_noise() -> None:
    noise = randn(4, 3)
    assert torch.equal(terms.on_prior("gaussian", noise), noise)


# --- divergences


def test_gaussian_kl_is_torchs_divergence_of_two_normals() -> None:
    mu, logvar = randn(6, 4, seed=1), randn(6, 4, seed=2)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(terms.gaussian_kl(mu, logvar), expected.sum(1))
    assert terms.gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0.0, 0.0]


def slopes(function, x: torch.Tensor) -> torch.Tensor:
    """The gradient of a scalar function by central differences."""
    result = torch.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = torch.zeros_like(x)
        step[index] = 1e-5
        result[index] = (function(x + step) - function(x - step)) / 2e-5
    return result


def test_the_gradient_of_gaussian_kl_is_that_of_finite_differences() -> None:
    mu, logvar = randn(3, 4, seed=1).requires_grad_(), randn(3, 4, seed=2).requires_grad_()
    weights = randn(3, seed=3)  # of samples that count differently
    (weights * terms.gaussian_kl(mu, logvar)).sum().backward()
    of_mu, of_logvar = mu.detach(), logvar.detach()
    expected = slopes(lambda m: (weights * terms.gaussian_kl(m, of_logvar)).sum(), of_mu)
    torch.testing.assert_close(mu.grad, expected, rtol=1e-6, atol=1e-8)
    expected = slopes(lambda v: (weights * terms.gaussian_kl(of_mu, v)).sum(), of_logvar)
    torch.testing.assert_close(logvar.grad, expected, rtol=1e-6, atol=1e-8)


def test_the_gradient_of_moment_kl_is_that_of_finite_differences() -> None:
    z = randn(4, 3, seed=1).requires_grad_()
    terms.moment_kl(z).backward()
    expected = slopes(terms.moment_kl, z.detach())
    torch.testing.assert_close(z.grad, expected, rtol=1e-6, atol=1e-8)


def test_moment_kl_sums_the_divergence_of_each_dimension() -> None:
    z = randn(7, 5, seed=1)
    mean, var = z.mean(0), z.var(0, correction=0)
    expected = (-0.5 * var.log() + (var + mean**2) / 2 - 0.5).sum()
    torch.testing.assert_close(terms.moment_kl(z), expected)


def test_moment_kl_on_the_sphere_is_least_for_equal_variances() -> None:
    """sum_d (s_d^2 + m_d^2) = 1 there, so KL = 1/2 - d/2 - 1/2 sum_d log v_d."""
    d = 8
    least = 0.5 - d / 2 + d / 2 * math.log(d)
    corners = torch.tensor([[(-1.0) ** (i >> k & 1) for k in range(d)] for i in range(2**d)])
    corners = corners.double() / math.sqrt(d)
    assert terms.moment_kl(corners).item() == pytest.approx(least, rel=1e-12)
    z = F.normalize(randn(50, d, seed=1))
    expected = 0.5 - d / 2 - 0.5 * z.var(0, correction=0).log().sum()
    torch.testing.assert_close(terms.moment_kl(z), expected)
    assert expected > least


def test_moment_kl_refuses_one_sample() -> None:
    with pytest.raises(ValueError, match="1"):
        terms.moment_kl(randn(1, 4))


# --- reconstruction errors


def test_cosine_distance_of_each_pair_is_from_0_to_2() -> None:
    a = F.normalize(randn(6, 5, seed=1))
    assert terms.cosine_distance(a, a).tolist() == pytest.approx([0.0] * 6, abs=1e-12)
    assert terms.cosine_distance(a, -a).tolist() == pytest.approx([2.0] * 6)
    b = F.normalize(randn(6, 5, seed=2))
    expected = [1 - np.dot(p, q) for p, q in zip(a.numpy(), b.numpy(), strict=True)]
    assert terms.cosine_distance(a, b).tolist() == pytest.approx(expected, rel=1e-12)


def test_abs_error_is_the_mean_over_the_pixels_of_each_image() -> None:
    x, y = randn(3, 2, 4, 5, seed=1), randn(3, 2, 4, 5, seed=2)
    expected = np.abs(x.numpy() - y.numpy()).sum(axis=(1, 2, 3)) / (2 * 4 * 5)
    assert terms.abs_error(x, y).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("kind", "factor"), [("mse", 4), ("l1", 2), ("bce", 1)])
def test_pixel_sums_are_sums_over_the_pixels_of_each_image(kind: str, factor: int) -> None:
    """Of images in [-1, 1], `factor` times those of images taken to [0, 1]; bce is of these."""
    x, y = (torch.tanh(randn(3, 2, 4, 5, seed=seed)).float() for seed in (1, 2))
    p, q = ((image.double().numpy() + 1) / 2 for image in (x, y))
    values = {
        "mse": (p - q) ** 2,
        "l1": np.abs(p - q),
        "bce": -p * np.log(q) - (1 - p) * np.log(1 - q),
    }[kind].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(terms.unit_pixel_sum(kind, x, y).numpy(), values, rtol=2e-6)
    np.testing.assert_allclose(terms.pixel_sum(kind, x, y).numpy(), factor * values, rtol=2e-6)


@pytest.mark.parametrize("kind", ["mse", "l1", "bce"])
def test_sums_over_halves_are_computed_in_float32(kind: str) -> None:
    x, y = (torch.tanh(randn(2, 3, 16, 16, seed=seed)).bfloat16() for seed in (1, 2))
    assert torch.equal(terms.pixel_sum(kind, x, y), terms.pixel_sum(kind, x.float(), y.float()))
    logits, targets = x[:, 0, :, 0], (y[:, 0, :, 0] > 0).float()
    expected = terms.known_bce(logits.float(), targets)
    assert torch.equal(terms.known_bce(logits, targets), expected)


def test_cross_entropy_of_saturated_pixels_is_finite() -> None:
    """A tanh output reaches -1 and 1 exactly in float32."""
    x = torch.tensor([-1.0, 1.0, -1.0, 1.0]).view(1, 1, 2, 2)
    x_r = torch.tensor([-1.0, 1.0, 1.0, -1.0]).view(1, 1, 2, 2).requires_grad_()
    (loss,) = terms.pixel_sum("bce", x, x_r)
    loss.backward()
    assert loss.isfinite()
    assert loss > 1
    assert x_r.grad.isfinite().all()
    beyond = terms.pixel_sum("bce", 1.001 * x, x_r)  # as rounding leaves images
    assert torch.equal(beyond, terms.pixel_sum("bce", x, x_r))


# --- labels, of which some are not known

LOGITS = [[0.3, -2.0, 4.0], [-1.0, 0.7, 0.2]]
TARGETS = [[1.0, math.nan, 0.0], [math.nan, 1.0, 0.0]]


def known_bce_of(logits, targets) -> float:
    """-log of the probability of every known target, on average."""
    known = [
        (s, y) for s, y in zip(np.ravel(logits), np.ravel(targets), strict=True) if not np.isnan(y)
    ]
    probabilities = [1 / (1 + math.exp(-s if y == 1 else s)) for s, y in known]
    return float(-np.mean(np.log(probabilities)))


def test_known_bce_is_a_mean_over_the_labels_that_are_known() -> None:
    actual = terms.known_bce(torch.tensor(LOGITS), torch.tensor(TARGETS))
    assert actual.shape == ()
    assert actual.item() == pytest.approx(known_bce_of(LOGITS, TARGETS), rel=1e-6)
    targets = torch.tensor(TARGETS).nan_to_num(1.0)
    expected = F.binary_cross_entropy_with_logits(torch.tensor(LOGITS), targets)
    torch.testing.assert_close(terms.known_bce(torch.tensor(LOGITS), targets), expected)


def test_an_unknown_label_has_no_gradient() -> None:
    logits = torch.tensor(LOGITS, requires_grad=True)
    terms.known_bce(logits, torch.tensor(TARGETS)).backward()
    targets = np.array(TARGETS)
    expected = (1 / (1 + np.exp(-np.array(LOGITS))) - np.nan_to_num(targets)) / 4
    expected[np.isnan(targets)] = 0
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-5)


def test_without_a_known_label_the_loss_and_its_gradient_are_zero() -> None:
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss = terms.known_bce(logits, torch.full((2, 3), math.nan))
    assert loss.item() == 0.0
    (loss + 0 * logits.sum()).backward()
    assert not logits.grad.any()


def test_known_bce_of_confident_logits_is_finite() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = terms.known_bce(logits, torch.tensor([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(200.0)
    assert logits.grad.tolist() == [[0.5, -0.5]]


def test_known_accuracy_is_the_share_of_known_labels_on_the_right_side_of_0() -> None:
    """Of 0.3 for 1, 4.0 for 0, 0.7 for 1 and 0.2 for 0, two are right."""
    accuracy = terms.known_accuracy(torch.tensor(LOGITS), torch.tensor(TARGETS))
    assert accuracy.item() == 0.5
    right = torch.where(torch.tensor(TARGETS) == 1, 2.0, -2.0)
    assert terms.known_accuracy(right, torch.tensor(TARGETS)).item() == 1.0
    assert terms.known_accuracy(-right, torch.tensor(TARGETS)).item() == 0.0
