"""The AS distance: a kernel two-sample distance of sets of posteriors (eq. 8 of AS-IntroVAE)."""

import itertools
import math

import numpy as np
import pytest
import torch

from pgvae.objectives import terms

FORMS = ("marginal", "tempered", "cauchy_schwarz")
UNBIASED_FORMS = ("marginal", "tempered")  # the logarithm of a mean is not one

Gaussians = tuple[torch.Tensor, torch.Tensor]


def gaussians(
    count: int, d: int, seed: int, shift: float = 0.0, dtype: torch.dtype = torch.float64
) -> Gaussians:
    """Means and log variances [count, d] of random posteriors."""
    rng = torch.Generator().manual_seed(seed)
    mu, logvar = torch.randn(2, count, d, generator=rng, dtype=dtype)
    return mu + shift, 0.5 * logvar - 1


def take(gaussians: Gaussians, rows) -> Gaussians:
    return tuple(part[list(rows)] for part in gaussians)


def distance(real: Gaussians, fake: Gaussians, form: str, **options) -> float:
    return terms.as_distance(*real, *fake, form, **options).item()


def combined(kernel, n: int, m: int, form: str, d: int, unbiased: bool) -> float:
    """k(set, i, set, j) to E k(r, r') + E k(f, f') - 2 E k(r, f), or its logarithmic form."""
    pairs = {
        "rr": [
            kernel("r", i, "r", j) for i in range(n) for j in range(n) if i != j or not unbiased
        ],
        "ff": [
            kernel("f", i, "f", j) for i in range(m) for j in range(m) if i != j or not unbiased
        ],
        "rf": [kernel("r", i, "f", j) for i in range(n) for j in range(m)],
    }
    rr, ff, rf = (sum(values) / len(values) for values in pairs.values())
    if form == "cauchy_schwarz":
        return (math.log(rr) + math.log(ff) - 2 * math.log(rf)) / d
    return rr + ff - 2 * rf


def brute_force(real: Gaussians, fake: Gaussians, form: str, unbiased: bool) -> float:
    sets = {"r": [p.numpy() for p in real], "f": [p.numpy() for p in fake]}
    d = real[0].shape[1]

    def kernel(a: str, i: int, b: str, j: int) -> float:
        values = []
        for k in range(d):
            v = math.exp(sets[a][1][i, k]) + math.exp(sets[b][1][j, k])
            gap = sets[a][0][i, k] - sets[b][0][j, k]
            values.append(math.exp(-(gap**2) / (2 * v)) / math.sqrt(v))
        if form == "marginal":
            return sum(values) / d
        product = math.prod(values)
        return product ** (1 / d) if form == "tempered" else product

    return combined(kernel, len(real[0]), len(fake[0]), form, d, unbiased)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (4, 4, 3), (5, 3, 7), (2, 6, 16)])
def test_it_is_the_sum_over_pairs(form, unbiased, n, m, d) -> None:
    real, fake = gaussians(n, d, seed=1), gaussians(m, d, seed=2, shift=0.4)
    expected = brute_force(real, fake, form, unbiased)
    actual = distance(real, fake, form, unbiased=unbiased)
    assert actual == pytest.approx(expected, rel=1e-5, abs=1e-6)
    if form == "marginal" and unbiased:
        assert terms.as_distance(*real, *fake).item() == actual  # the defaults


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(
    ("form", "d"), [(form, d) for form in FORMS for d in (1, 2) if (form, d) != ("marginal", 2)]
)
def test_its_kernel_is_the_overlap_of_two_posteriors(form, d, unbiased) -> None:
    """The integral of q_i q_j over latents, by the trapezoidal rule, less constant factors."""
    real, fake = gaussians(3, d, seed=3), gaussians(2, d, seed=4, shift=0.5)
    sets = {"r": [p.numpy() for p in real], "f": [p.numpy() for p in fake]}
    axis = np.linspace(-14, 14, 281)
    grid = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1)  # [281, ..., d]

    def density(name: str, i: int) -> np.ndarray:
        mu, var = sets[name][0][i], np.exp(sets[name][1][i])
        log = -0.5 * ((grid - mu) ** 2 / var + np.log(2 * np.pi * var))
        return np.exp(log.sum(axis=-1))

    def kernel(a: str, i: int, b: str, j: int) -> float:
        k = (density(a, i) * density(b, j)).sum() * (axis[1] - axis[0]) ** d
        return k if form == "cauchy_schwarz" else k ** (1 / d) * math.sqrt(2 * math.pi)

    expected = combined(kernel, 3, 2, form, d, unbiased)
    actual = distance(real, fake, form, unbiased=unbiased)
    assert actual == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("form", UNBIASED_FORMS)
def test_halves_of_one_set_are_on_average_not_apart(form) -> None:
    """The expectation over all splits of a pool: each pair is as often in one half as in two."""
    pool = gaussians(6, 4, seed=5)
    splits = [
        distance(take(pool, half), take(pool, set(range(6)) - set(half)), form)
        for half in itertools.combinations(range(6), 3)
    ]
    assert max(map(abs, splits)) > 1e-3
    assert np.mean(splits) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_with_its_diagonal_a_set_is_at_no_distance_from_itself(form) -> None:
    real = gaussians(5, 8, seed=8)
    assert distance(real, real, form, unbiased=False) == pytest.approx(0.0, abs=1e-6)
    other = gaussians(5, 8, seed=9)
    assert distance(real, other, form, unbiased=False) > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_it_grows_as_the_sets_part(form) -> None:
    mu, logvar = gaussians(16, 8, seed=10)
    values = [distance((mu, logvar), (mu + t, logvar), form) for t in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert values == sorted(values)
    assert values[-1] - values[0] > 0.1


@pytest.mark.parametrize("form", UNBIASED_FORMS)
@pytest.mark.parametrize("d", [8, 512])
def test_dimensions_that_repeat_leave_it_unchanged(form, d) -> None:
    """At variance 0.1 the product of 512 kernels is 0 in float32; these forms never form it."""
    real, fake = gaussians(6, 4, seed=14), gaussians(6, 4, seed=15, shift=0.5)
    real, fake = ((mu, torch.full_like(mu, math.log(0.1))) for mu, _ in (real, fake))
    many = [tuple(part.repeat(1, d // 4).float() for part in side) for side in (real, fake)]
    assert distance(*many, form) == pytest.approx(distance(real, fake, form), abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variance", [1e-3, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_512_dimensions_give_a_finite_value_and_gradient(form, variance, spread) -> None:
    sides = [gaussians(8, 512, seed, dtype=torch.float32) for seed in (16, 17)]
    leaves = [
        part.requires_grad_()
        for mu, _ in sides
        for part in (spread * mu, torch.full_like(mu, math.log(variance)))
    ]
    value = terms.as_distance(*leaves, form)
    value.backward()
    assert value.isfinite()
    # At 30 deviations from one mean to another the tempered kernel itself is below e^-400.
    vanishes = form == "tempered" and spread**2 / variance == 1000
    for leaf in leaves:
        assert leaf.grad.isfinite().all()
        assert vanishes or leaf.grad.any()


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_its_gradient_is_that_of_finite_differences(form, unbiased) -> None:
    parts = [*gaussians(3, 2, seed=18), *gaussians(4, 2, seed=19, shift=0.4)]
    leaves = [part.clone().requires_grad_() for part in parts]
    terms.as_distance(*leaves, form, unbiased=unbiased).backward()
    step = 1e-5
    for k, leaf in enumerate(leaves):
        for index in np.ndindex(*leaf.shape):
            values = []
            for sign in (1, -1):
                moved = [part.clone() for part in parts]
                moved[k][index] += sign * step
                values.append(brute_force(moved[:2], moved[2:], form, unbiased))
            slope = (values[0] - values[1]) / (2 * step)
            assert leaf.grad[index].item() == pytest.approx(slope, abs=2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_variances_below_1e_4_count_as_1e_4(form) -> None:
    real, fake = gaussians(3, 2, seed=20), gaussians(3, 2, seed=21)
    narrow, least = (
        [(0.01 * mu, torch.full_like(mu, logvar)) for mu, _ in (real, fake)]
        for logvar in (-30.0, math.log(1e-4))
    )
    assert distance(*narrow, form) == pytest.approx(distance(*least, form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "m"), [(1, 4), (4, 1), (1, 1)])
def test_a_side_of_one_is_refused(form, n, m) -> None:
    with pytest.raises(ValueError, match=r"2|two"):
        terms.as_distance(*gaussians(n, 3, seed=1), *gaussians(m, 3, seed=2), form)
