"""Scores of points in the plane: the published ones' calibration, and a computation by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from pgvae.metrics import toy2d

RADIUS, SIGMA, COUNT = 2 / 1.414, 0.02 / 1.414, 5000
ANGLES = 2 * np.pi * np.arange(8) / 8
RING = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
SEEDS = range(6)


def ring(seed: int, *, sigma: float = SIGMA, of: int = 8) -> np.ndarray:
    """Points of the first `of` Gaussians on the ring, each drawn with equal chance: [5000, 2]."""
    rng = np.random.default_rng([seed, of])
    return RING[rng.integers(0, of, COUNT)] + sigma * rng.standard_normal((COUNT, 2))


def blob(seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((COUNT, 2))


def mean_scores(real, fake) -> toy2d.Scores:
    """The mean of each score over draws; `real` and `fake` take a seed."""
    drawn = [toy2d.scores(real(2 * seed), fake(2 * seed + 1)) for seed in SEEDS]
    return toy2d.Scores(*np.mean(drawn, axis=0).tolist())


def by_hand(real: np.ndarray, fake: np.ndarray) -> toy2d.Scores:
    """The three scores cell by cell, in plain Python; the true one as entropies."""

    def cells(points: np.ndarray) -> Counter:
        found = Counter()
        for x, y in points.tolist():
            if abs(x) <= 2 and abs(y) <= 2:
                found[min(math.floor((x + 2) / 0.04), 99), min(math.floor((y + 2) / 0.04), 99)] += 1
        return Counter({cell: count / len(points) for cell, count in found.items()})

    def published(a: Counter, b: Counter) -> float:
        terms = (a[c] / 0.0016 * math.log(a[c] / 0.0016 / (b[c] / 0.0016 + 1e-14)) for c in a)
        return sum(terms) / 100

    def entropy(shares: Counter) -> float:
        outside = 1 - sum(shares.values())
        return -sum(s * math.log(s) for s in (*shares.values(), outside) if s > 1e-12)

    p, q = cells(real), cells(fake)
    mid = Counter({cell: (p[cell] + q[cell]) / 2 for cell in p.keys() | q.keys()})
    return toy2d.Scores(
        kl=published(p, q),
        jsd=(published(mid, p) + published(mid, q)) / 2,
        jsd_true=entropy(mid) - (entropy(p) + entropy(q)) / 2,
    )


# Calibration: the figures of one draw, computed independently. Each tolerance is twice the standard
# deviation of a draw; ours are means of six.


@pytest.mark.parametrize(
    ("fake", "kl", "jsd"),
    [
        (ring, (0.79, 0.35), (0.34, 0.10)),
        (blob, (220.2, 0.3), (103.9, 0.2)),
        (lambda seed: ring(seed, of=7), (27.8, 2.4), (7.0, 0.6)),
        (lambda seed: ring(seed, sigma=2 * SIGMA), (2.3, 0.2), (7.2, 0.8)),
    ],
    ids=["real points", "a blob at the origin", "seven of eight modes", "twice the sigma"],
)
def test_the_published_scores_are_those_of_an_independent_computation(fake, kl, jsd):
    found = mean_scores(ring, fake)
    assert found.kl == pytest.approx(kl[0], abs=kl[1])
    assert found.jsd == pytest.approx(jsd[0], abs=jsd[1])


# The definition


def scattered(seed: int) -> np.ndarray:
    """Points of which some are out of range."""
    return 1.2 * np.random.default_rng(seed).standard_normal((400, 2))


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (ring(1), ring(2)),
        (ring(1), blob(2)),
        (ring(1), ring(2, of=3)),
        (ring(3), np.concatenate([ring(4)[:2500], blob(4)[:700]])),
        (scattered(5), scattered(6)),
    ],
    ids=["modes", "blob", "three modes", "a mixture of another size", "partly outside"],
)
def test_the_scores_are_those_computed_cell_by_cell(real, fake):
    found, expected = toy2d.scores(real, fake), by_hand(real, fake)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_set_against_itself_scores_zero():
    assert toy2d.scores(ring(1), ring(1)) == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_true_jsd_of_disjoint_sets_is_ln_2_and_of_a_half_in_common_is_half_of_it():
    here, there = np.full((10, 2), 0.5), np.full((10, 2), -0.5)
    assert toy2d.scores(here, there).jsd_true == pytest.approx(math.log(2), rel=1e-12)
    # p = (1, 0), q = (1/2, 1/2): H(3/4, 1/4) - H(1/2, 1/2) / 2
    mixed = np.concatenate([here[:5], there[:5]])
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25) - math.log(2) / 2
    assert toy2d.scores(here, mixed).jsd_true == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_true_jsd_is_symmetric_and_at_most_ln_2(seed):
    real, fake = scattered(seed), np.concatenate([blob(seed)[:50], ring(seed)[:50]])
    one, other = toy2d.scores(real, fake).jsd_true, toy2d.scores(fake, real).jsd_true
    assert one == pytest.approx(other, rel=1e-12)
    assert 0 < one <= math.log(2) + 1e-12


def test_a_histogram_holds_the_share_of_points_in_each_cell():
    points = np.array([[-2.0, -2.0], [2.0, 2.0], [0.01, 0.05], [0.03, 0.05], [0.03, 5.0]])
    found = toy2d.histogram(points)
    assert found.shape == (100, 100)
    assert (found[0, 0], found[99, 99], found[50, 51]) == (0.2, 0.2, 0.4)
    assert found.sum() == pytest.approx(0.8)


# Points that are nowhere


@pytest.mark.parametrize("value", [9.0, -1e30, math.inf, -math.inf, math.nan])
def test_points_that_are_all_out_of_range_score_as_a_miss_and_not_as_nan(value):
    found = toy2d.scores(ring(1), np.full((COUNT, 2), value))
    assert all(math.isfinite(score) for score in found)
    assert found.kl == pytest.approx(220.2, abs=1)
    assert found.jsd_true == pytest.approx(math.log(2))


def test_one_point_that_is_not_finite_is_one_point_outside():
    spoilt = ring(1)
    spoilt[0] = math.nan
    moved = ring(1)
    moved[0] = (3.0, 0.0)
    assert toy2d.scores(ring(2), spoilt) == toy2d.scores(ring(2), moved)
    assert toy2d.histogram(spoilt).sum() == pytest.approx(1 - 1 / COUNT)


# Modes


def test_the_real_points_have_all_modes_and_99_per_cent_are_in_one():
    covered, share = toy2d.modes(ring(1), RING, SIGMA)
    assert covered == 8
    # In the plane 3 sigma hold 1 - exp(-9/2) of a Gaussian; a standard deviation is 0.0015.
    assert share == pytest.approx(1 - math.exp(-4.5), abs=4 * 0.0015)


@pytest.mark.parametrize("of", [1, 3, 7])
def test_the_modes_that_have_points_are_counted(of):
    assert toy2d.modes(ring(1, of=of), RING, SIGMA)[0] == of


def test_a_mode_counts_from_a_tenth_of_its_fair_share_on():
    def with_last(count: int) -> np.ndarray:
        """800 points, `count` of them at the last centre: a fair share is 100."""
        return np.concatenate([RING[:1].repeat(800 - count, 0), RING[7:].repeat(count, 0)])

    assert toy2d.modes(with_last(10), RING, SIGMA)[0] == 2
    assert toy2d.modes(with_last(9), RING, SIGMA)[0] == 1


def test_points_between_the_modes_are_in_none():
    assert toy2d.modes(np.zeros((50, 2)), RING, SIGMA) == (0, 0.0)
    half = np.concatenate([np.zeros((50, 2)), RING[:1].repeat(50, 0)])
    assert toy2d.modes(half, RING, SIGMA) == (1, 0.5)
    assert toy2d.modes(np.full((50, 2), math.nan), RING, SIGMA) == (0, 0.0)
