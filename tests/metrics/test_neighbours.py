"""Nearest images against brute force."""

import numpy as np
import pytest
import torch
from made import cut, noise, pictures
from torch import nn

from pgvae.metrics import ssim
from pgvae.metrics.features import Extractor, efficientnet
from pgvae.metrics.neighbours import MEASURES, nearest


class _Corner(nn.Module):
    """A stand-in for a network: the levels of the upper left quarter, about their mid."""

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return levels[:, :, :4, :4].flatten(1) - 127.5


CORNER = Extractor("corner", 48, _Corner())


def distances(queries: torch.Tensor, candidates: torch.Tensor, by: str) -> np.ndarray:
    """All [Q, N] figures, pair by pair."""

    def figure(query: torch.Tensor, candidate: torch.Tensor) -> float:
        if by == "l1":
            levels = (query.double() - candidate.double()) * 255 / 2
            return levels.abs().mean().item()
        if by == "ssim":
            return ssim(query[None], candidate[None]).item()
        levels = ((image.double() + 1) * 127.5 for image in (query, candidate))
        a, b = (x.round()[:, :4, :4].flatten().numpy() - 127.5 for x in levels)
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    return np.array([[figure(query, candidate) for candidate in candidates] for query in queries])


@pytest.mark.parametrize("by", MEASURES)
@pytest.mark.parametrize("sizes", [(40,), (1,), (7, 3, 90)])
def test_the_best_are_those_of_all_pairs_best_first(by, sizes):
    queries, candidates = pictures(3, 16, 0), pictures(40, 16, 1)
    figures, indices = nearest(queries, cut(candidates, *sizes), by, 5, CORNER)
    expected = distances(queries, candidates, by)
    order = np.argsort(expected if by == "l1" else -expected, axis=1)[:, :5]
    assert indices.tolist() == order.tolist()
    np.testing.assert_allclose(figures, np.take_along_axis(expected, order, 1), rtol=1e-4)


@pytest.mark.parametrize("by", MEASURES)
def test_an_image_is_nearest_to_itself(by):
    candidates = pictures(30, 16, 0)
    figures, indices = nearest(candidates[[17, 4]], candidates, by, 2, CORNER)
    assert indices[:, 0].tolist() == [17, 4]
    perfect, worse = figures.unbind(dim=1)
    assert perfect.tolist() == pytest.approx([0.0 if by == "l1" else 1.0] * 2, abs=1e-6)
    assert (worse > perfect).all() if by == "l1" else (worse < perfect).all()


def test_of_equals_the_earlier_comes_first_whatever_the_batches():
    image = pictures(1, 16, 0)
    candidates = image.repeat(200, 1, 1, 1)
    for sizes in ((200,), (1,), (30,)):
        _, indices = nearest(image, cut(candidates, *sizes), "l1", 4)
        assert indices.tolist() == [[0, 1, 2, 3]]


def test_features_are_by_default_those_of_efficientnet():
    queries, candidates = pictures(1, 16, 0), pictures(3, 16, 1)
    found = nearest(queries, candidates, "features", 3)
    expected = nearest(queries, candidates, "features", 3, efficientnet())
    torch.testing.assert_close(found, expected)
    assert found[0].max() <= 1


def test_black_and_white_are_255_levels_apart():
    white = torch.ones(1, 1, 4, 4)
    figures, _ = nearest(white, -white, "l1", 1)
    assert figures.tolist() == [[255.0]]


@pytest.mark.parametrize(
    ("count", "by", "resolution", "problem"),
    [
        (4, "l1", 16, "count is 4, but there are 3 candidates"),
        (0, "l1", 16, "use 1 or more"),
        (1, "l2", 16, "choose one of l1, ssim, features"),
        (1, "l1", 32, r"got \[3, 16, 16\] and \[3, 32, 32\]"),
    ],
)
def test_what_cannot_be_answered_is_refused(count, by, resolution, problem):
    with pytest.raises(ValueError, match=problem):
        nearest(noise(2, 16, 0), noise(3, resolution, 1), by, count)
