"""How well points in the plane follow a density: Soft-IntroVAE's toy scores, and true ones.

The published scores (Table 1 of AS-IntroVAE's paper) are no divergences in nats: histograms enter
as densities, the sum is divided by 100, and the "JSD" takes KL the other way round. They are
computed as published, so that figures compare; `jsd_true` is the Jensen-Shannon divergence.
"""

from typing import NamedTuple

import numpy as np

BINS, LIMIT = 100, 2.0
_EPSILON = 1e-14


class Scores(NamedTuple):
    """kl, jsd: the published scores. jsd_true: nats, 0 to ln 2."""

    kl: float
    jsd: float
    jsd_true: float


def histogram(points: np.ndarray) -> np.ndarray:
    """Shares of points [N, 2] in a grid of 100 x 100 over [-2, 2]^2: [100, 100], sum at most 1.

    Points outside (or not finite) count in N and fall in no cell.

    >>> found = histogram(np.array([[0.01, 0.01], [0.01, 0.01], [9.0, 9.0], [0.5, 0.5]]))
    >>> float(found.max()), float(found.sum())
    (0.5, 0.75)
    """
    inside = points[np.isfinite(points).all(axis=1)]
    limits = [[-LIMIT, LIMIT]] * 2
    counts, _, _ = np.histogram2d(inside[:, 0], inside[:, 1], bins=BINS, range=limits)
    return counts / len(points)


def scores(real: np.ndarray, fake: np.ndarray) -> Scores:
    """Scores of generated points [M, 2] against real ones [N, 2]; finite whatever the points.

    >>> here, there = np.full((10, 2), 0.5), np.full((10, 2), -0.5)
    >>> round(scores(here, there).jsd_true, 4)  # ln 2
    0.6931
    """
    p, q = histogram(real), histogram(fake)
    area = (2 * LIMIT / BINS) ** 2
    mid = (p + q) / 2
    jsd = (_published_kl(mid / area, p / area) + _published_kl(mid / area, q / area)) / 2
    # What falls outside of the grid is one more cell.
    whole = [np.append(h, max(0.0, 1 - h.sum())) for h in (p, q)]
    between = (whole[0] + whole[1]) / 2
    true = sum(_kl(h, between) for h in whole) / 2
    return Scores(_published_kl(p / area, q / area), jsd, true)


def modes(points: np.ndarray, centres: np.ndarray, sigma: float) -> tuple[int, float]:
    """(centres that have points within 3 sigma, share of points within 3 sigma of a centre).

    points: [N, 2]; centres: [K, 2]. A centre counts with a tenth of its fair share, N / 10 K.

    >>> centres = np.array([[-1.0, 0.0], [1.0, 0.0]])
    >>> modes(np.array([[1.0, 0.01], [0.0, 0.0]]), centres, sigma=0.02)
    (1, 0.5)
    """
    distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
    near = distances <= 3 * sigma
    covered = (near.sum(axis=0) >= len(points) / (10 * len(centres))).sum()
    return int(covered), float(near.any(axis=1).mean())


def _published_kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(_kl(p, q + _EPSILON) / 100)


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / q[held])))
