"""Priors fitted to latents, and how a model draws from them and from the training prior."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from latent_models import rng
from snapshots import a_prior, make
from torch import Tensor
from torch.nn import functional as F

from pgvae.errors import InputError
from pgvae.inference import Model, fit_gaussian, fit_mixture
from pgvae.inference.fits import draw_posteriors, fit, split_off
from pgvae.prior import log_joint, noise_rows
from pgvae.types import Posterior


def correlated(count: int, dim: int, seed: int = 0) -> Tensor:
    """Draws of a Gaussian whose dimensions depend on each other, with a mean of their own."""
    mix = torch.randn(dim, dim, generator=rng(99))
    return torch.randn(count, dim, generator=rng(seed)) @ mix + torch.arange(dim)


def covariance_of(prior) -> np.ndarray:
    factor = prior.factors[0].double()
    return (factor @ factor.t()).numpy()


def shrunk_by_hand(x: np.ndarray) -> np.ndarray:
    """Schaefer and Strimmer's covariance with target D, entry by entry."""
    x = x - x.mean(axis=0)
    count, dim = x.shape
    covariance, noise, total = np.zeros((dim, dim)), 0.0, 0.0
    for i in range(dim):
        for j in range(dim):
            products = x[:, i] * x[:, j]
            covariance[i, j] = products.mean()
            if i != j:
                noise += products.var() / count
                total += products.mean() ** 2
    kept = 1 - min(1, noise / total)
    return np.where(np.eye(dim, dtype=bool), covariance, kept * covariance)


@pytest.mark.parametrize("count", [6, 30, 400])
@pytest.mark.parametrize("head", ["gaussian", "sphere"])
def test_the_gaussian_has_the_moments_of_the_aggregate_posterior(head, count):
    mean = correlated(count, 5)
    logvar = torch.randn(count, 5, generator=rng(1))
    if head == "sphere":
        mean, logvar = F.normalize(mean - mean.mean(dim=0), dim=1), None
    prior = fit_gaussian(mean, logvar)
    x = mean.double().numpy()
    expected = shrunk_by_hand(x)
    if logvar is not None:
        expected += np.diag(np.exp(logvar.double().numpy()).mean(axis=0))
    np.testing.assert_allclose(prior.means[0].numpy(), x.mean(axis=0), rtol=1e-5, atol=1e-6)
    spread = np.sqrt(np.diag(expected))
    error = (covariance_of(prior) - expected) / np.outer(spread, spread)
    assert abs(error).max() < 2e-5
    assert (prior.kind, prior.about) == ("gaussian", {"images": count})


def test_of_many_images_the_covariance_is_hardly_shrunk():
    mean = correlated(20_000, 5)
    found, plain = covariance_of(fit_gaussian(mean)), np.cov(mean.double().numpy().T, bias=True)
    assert abs(found - plain).max() < 1e-3 * abs(plain).max()


def test_of_few_images_it_is_nearer_to_the_truth_than_the_plain_covariance():
    """Of independent dimensions, more of them than images."""
    mean = torch.randn(40, 60, generator=rng(2))
    found = covariance_of(fit_gaussian(mean))
    plain = np.cov(mean.double().numpy().T, bias=True)
    errors = [np.linalg.norm(c - np.eye(60)) for c in (found, plain)]
    assert errors[0] < 0.4 * errors[1]


@pytest.mark.parametrize(
    "mean",
    [
        torch.ones(1, 6),
        torch.ones(9, 6),
        torch.zeros(9, 6),
        torch.randn(3, 64, generator=rng(0)),
        torch.randn(50, 6, generator=rng(0)) * torch.tensor([1.0, 1, 1, 0, 0, 1e-12]),
        torch.randn(50, 1, generator=rng(0)).expand(50, 6),
        1e6 * torch.randn(50, 6, generator=rng(0)),
    ],
    ids=["one", "all equal", "zeros", "fewer than d", "dead", "all the same", "large"],
)
def test_there_is_a_gaussian_of_any_latents(mean):
    prior = fit_gaussian(mean)
    assert prior.sample(4, rng(0)).isfinite().all()
    assert prior.log_likelihood(mean).isfinite().all()


def test_its_draws_are_likelier_for_it_than_those_of_another_place():
    prior = fit_gaussian(correlated(500, 5))
    here, there = prior.log_likelihood(correlated(500, 5, seed=5)), correlated(500, 5) + 3
    assert here.mean() > prior.log_likelihood(there).mean() + 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_latents_that_are_not_finite_are_refused(bad):
    mean = torch.zeros(9, 4)
    mean[3, 2] = bad
    for given in ((mean,), (torch.zeros(9, 4), mean)):
        with pytest.raises(InputError, match="not finite"):
            fit_gaussian(*given)
    with pytest.raises(InputError, match="not finite"):
        fit_mixture(mean, 2)


def ring(count: int, clusters: int) -> Tensor:
    """Narrow clusters on a circle of radius 9."""
    angles = torch.arange(count) % clusters * (2 * math.pi / clusters)
    centres = 9 * torch.stack([angles.cos(), angles.sin()], dim=1)
    return centres + 0.3 * torch.randn(count, 2, generator=rng(3))


def test_a_mixture_finds_the_clusters_and_how_many():
    latents = ring(801, 4)  # a prime to 5, so that every fifth is of every cluster
    prior, candidates = fit(Posterior(latents))
    assert prior.components == 4
    expected = torch.tensor([[-9.0, 0], [0, -9], [0, 9], [9.0, 0]])
    gaps = torch.cdist(expected, prior.means).min(dim=1).values
    assert gaps.max() < 0.15
    best = max(candidates, key=lambda c: c.held_out)
    assert best.components == 4
    assert [c.components for c in candidates] == [1, 2, 4, 8]
    one = fit(Posterior(latents), components=1)[0]
    assert prior.log_likelihood(latents).mean() > one.log_likelihood(latents).mean() + 1


@pytest.mark.parametrize("count", [1, 4, 30, 2000])
def test_of_one_gaussian_a_mixture_is_one_with_its_bytes(count):
    mean = torch.randn(count, 5, generator=rng(2)) * torch.arange(1.0, 6) + 7
    posterior = Posterior(mean, torch.full((count, 5), -3.0))
    (found, candidates), (expected, one) = (
        fit(posterior, kind) for kind in ("mixture", "gaussian")
    )
    assert (found.kind, found.components) == ("gaussian", 1)
    assert torch.equal(found.means, expected.means)
    assert torch.equal(found.factors, expected.factors)
    assert candidates[:1] == one
    assert len(candidates) == min(len(one), 1) + (count >= 30)


def steps_by_hand(x: np.ndarray, shares: np.ndarray, pooled: float) -> tuple[np.ndarray, ...]:
    """One step of expectation maximisation, image by image: shares [N, K], means, covariances."""
    (count, dim), parts = x.shape, shares.shape[1]
    sums = shares.sum(axis=0)
    means = np.stack([(shares[:, k, None] * x).sum(axis=0) / sums[k] for k in range(parts)])
    scatter = np.zeros((parts, dim, dim))
    for k in range(parts):
        for n in range(count):
            scatter[k] += shares[n, k] * np.outer(x[n] - means[k], x[n] - means[k])
    within = scatter.sum(axis=0) / count
    covariances = np.stack(
        [(s + pooled * within) / (n + pooled) for s, n in zip(scatter, sums, strict=True)]
    )
    covariances += 1e-3 * np.eye(dim)
    density = np.zeros((count, parts))
    for k in range(parts):
        inverse, volume = np.linalg.inv(covariances[k]), np.linalg.det(2 * np.pi * covariances[k])
        for n in range(count):
            far = (x[n] - means[k]) @ inverse @ (x[n] - means[k])
            density[n, k] = sums[k] / count * np.exp(-far / 2) / np.sqrt(volume)
    return density / density.sum(axis=1, keepdims=True), means, covariances


def test_one_more_step_of_expectation_maximisation_by_hand_changes_little():
    latents = torch.cat([correlated(120, 3), 8 - correlated(80, 3, seed=1)]).double()
    unit = latents.var(dim=0, unbiased=False).mean().sqrt()
    prior = fit_mixture(latents, 3)
    weights, means, factors = (t.double() for t in (prior.weights, prior.means, prior.factors))
    joint = log_joint(latents, weights, means, factors)
    again = steps_by_hand((latents / unit).numpy(), joint.softmax(dim=0).t().numpy(), 4 * 3)
    shares, centres, covariances = again
    np.testing.assert_allclose(means / unit, centres, atol=0.04)
    np.testing.assert_allclose((factors @ factors.mT) / unit**2, covariances, atol=0.04)
    np.testing.assert_allclose(weights, shares.mean(axis=0), atol=0.01)


@pytest.mark.parametrize("clusters", [2, 5])
def test_of_clusters_that_are_apart_it_has_their_moments(clusters):
    """Each its mean and share, and its covariance drawn to the common one, by 4 d latents."""
    latents = ring(300, clusters).double()[clusters // 2 :]  # of unequal sizes
    which = torch.arange(300)[clusters // 2 :] % clusters
    parts = [latents[which == k] for k in range(clusters)]
    scatter = [(part - part.mean(dim=0)).t() @ (part - part.mean(dim=0)) for part in parts]
    within = torch.stack(scatter).sum(dim=0) / len(latents)
    ridge = 1e-3 * latents.var(dim=0, unbiased=False).mean() * torch.eye(2)
    prior = fit_mixture(latents, clusters)
    for part, own in zip(parts, scatter, strict=True):
        k = int((prior.means - part.mean(dim=0)).norm(dim=1).argmin())
        np.testing.assert_allclose(prior.means[k], part.mean(dim=0), atol=1e-4)
        assert prior.weights[k].item() == pytest.approx(len(part) / len(latents), abs=1e-5)
        expected = (own + 8 * within) / (len(part) + 8) + ridge
        np.testing.assert_allclose(prior.factors[k] @ prior.factors[k].t(), expected, atol=1e-4)


def test_few_latents_do_not_make_components_narrow():
    """Of two that are seen apart both get nearly the covariance that they have in common."""
    latents = torch.cat(
        [torch.randn(40, 6, generator=rng(0)), 30 + torch.randn(4, 6, generator=rng(1))]
    )
    prior = fit_mixture(latents, 2)
    few = int(prior.weights.argmin())
    assert prior.weights[few].item() == pytest.approx(4 / 44, abs=1e-3)
    covariance = (prior.factors[few] @ prior.factors[few].t()).numpy()
    assert np.linalg.eigvalsh(covariance).min() > 0.3  # of four points in six dimensions: 0


def test_what_is_held_out_was_not_learned_from():
    latents = ring(400, 2)
    learned, held = split_off(400)
    assert sorted([*learned.tolist(), *held.tolist()]) == list(range(400))
    prior, [candidate] = fit(Posterior(latents), components=2)
    moved = latents.clone()
    moved[held] += 0.5  # what is learned stays
    [other] = fit(Posterior(moved), components=2)[1]
    partly = fit_mixture(latents[learned], 2)
    assert candidate.held_out > other.held_out + 0.5
    assert partly.about["images"] < prior.about["images"] == 400


@pytest.mark.parametrize(("count", "components"), [(20, 9), (3, 2), (4000, 257)])
def test_too_many_components_are_refused(count, components):
    with pytest.raises(InputError, match=rf"^{components} components: .* images are enough for"):
        fit(Posterior(torch.randn(count, 2, generator=rng(0))), components=components)


@pytest.mark.parametrize("components", [-1, 0, 21, 257])
def test_a_mixture_of_none_or_of_more_than_there_are_latents_is_refused(components):
    with pytest.raises(InputError, match=f"^{components} components of 20 latents: use 1 to 20"):
        fit_mixture(torch.randn(20, 2, generator=rng(0)), components)


@pytest.mark.parametrize(
    "latents",
    [torch.zeros(60, 4), torch.ones(60, 4) * 1e6, ring(60, 3) * 1e-12, ring(60, 3) * 1e12],
    ids=["zeros", "all the same", "small", "large"],
)
def test_there_is_a_mixture_of_any_latents(latents):
    prior = fit_mixture(latents, 4)
    assert prior.sample(4, rng(0)).isfinite().all()
    assert prior.log_likelihood(latents).isfinite().all()


def test_posterior_variance_counts_in_both_kinds():
    posterior = Posterior(torch.zeros(4000, 3), torch.tensor([0.0, -2, 1]).expand(4000, 3))
    for kind, components in (("gaussian", 1), ("mixture", 2)):
        prior, [candidate] = fit(posterior, kind, components)
        variances = prior.sample(20_000, rng(0)).double().var(dim=0).numpy()
        np.testing.assert_allclose(variances, np.exp([0, -2, 1]), rtol=0.1)
        entropy = 1.5 * math.log(2 * math.pi * math.e) + sum([0, -2, 1]) / 2
        assert candidate.held_out == pytest.approx(-entropy, abs=0.1)


def test_points_are_their_own_posteriors():
    points = F.normalize(torch.randn(9, 4, generator=rng(0)), dim=1)
    assert torch.equal(draw_posteriors(Posterior(points)), points)


def model_with(prior=None, head: str = "gaussian") -> Model:
    norm = {"encoder_norm": "equalized"} if head == "gaussian" else {}
    return Model(dataclasses.replace(make(head=head, **norm), prior=prior))


@pytest.mark.parametrize("head", ["gaussian", "sphere"])
def test_a_model_draws_from_the_fitted_prior_on_its_head(head):
    prior = a_prior()
    model = model_with(prior, head)
    z = prior.sample(5, rng(3))
    expected = F.normalize(z, dim=1) if head == "sphere" else z
    assert torch.equal(model.sample_latents(5, seed=3, prior="fitted"), expected)
    assert torch.equal(model.sample_latents(5, seed=3), expected)
    assert torch.equal(model.sample(5, seed=3), model.decode(expected))
    assert not torch.equal(model.sample_latents(5, seed=4), expected)
    shrunk = prior.sample(5, rng(3), 0.5)
    expected = F.normalize(shrunk, dim=1) if head == "sphere" else shrunk
    assert torch.equal(model.sample_latents(5, seed=3, truncation=0.5), expected)


@pytest.mark.parametrize("head", ["gaussian", "sphere"])
def test_the_training_prior_is_what_it_was(head):
    noise = noise_rows(5, 8, rng(3))
    expected = F.normalize(noise, dim=1) if head == "sphere" else noise
    for model in (model_with(None, head), model_with(a_prior(is_default=False), head)):
        assert model.default_prior == "training"
        assert torch.equal(model.sample_latents(5, seed=3), expected)
    model = model_with(a_prior(), head)
    assert model.default_prior == "fitted"
    assert torch.equal(model.sample_latents(5, seed=3, prior="training"), expected)


def test_truncation_of_the_training_prior():
    model = model_with()
    full, part = (model.sample_latents(5, truncation=truncation) for truncation in (1.0, 0.3))
    torch.testing.assert_close(part, 0.3 * full)
    with pytest.raises(InputError, match=r"^truncation 0.3: the training prior of a sphere has no"):
        model_with(head="sphere").sample_latents(5, truncation=0.3)


def test_bad_choices_are_refused():
    with pytest.raises(InputError, match=r"no fitted prior: fit one with `pgvae prior --snapshot"):
        model_with().sample_latents(2, prior="fitted")
    with pytest.raises(InputError, match=r"^prior is 'both': choose one of fitted, training"):
        model_with().sample_latents(2, prior="both")
    for truncation in (0.0, -1.0, 1.5, math.nan):
        with pytest.raises(InputError, match=r"^truncation is"):
            model_with().sample_latents(2, truncation=truncation)
