"""Principal components of latents."""

import math

import numpy as np
import pytest
import torch

from pgvae.errors import InputError
from pgvae.explore.components import move, principal


def latents(count: int = 400, dim: int = 16) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(count, dim, generator=rng) @ torch.randn(dim, dim, generator=rng) + 3


def test_components_are_those_of_a_singular_value_decomposition():
    x = latents().double().numpy()
    _, sizes, vectors = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    found = principal(latents())
    deviations = sizes / math.sqrt(len(x) - 1)
    np.testing.assert_allclose(found.deviations, deviations[:12], rtol=1e-5)
    np.testing.assert_allclose(found.shares, deviations[:12] ** 2 / sum(deviations**2), rtol=1e-5)
    alike = np.abs((found.directions.double().numpy() * vectors[:12]).sum(axis=1))
    np.testing.assert_allclose(alike, 1, atol=1e-5)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-5)


def test_signs_do_not_depend_on_the_order_of_the_latents():
    one, other = principal(latents()), principal(latents().flip(0))
    torch.testing.assert_close(one.directions, other.directions, atol=1e-4, rtol=0)


def test_there_are_no_more_than_the_latents_have():
    assert len(principal(latents(3))) == 2
    assert len(principal(latents(50, 4))) == 4
    assert len(principal(latents(50), most=5)) == 5


@pytest.mark.parametrize("x", [torch.ones(1, 4), torch.ones(9, 4)])
def test_latents_that_do_not_vary_are_refused(x):
    with pytest.raises(InputError):
        principal(x)


def test_moves_add_up_and_are_of_so_many_deviations():
    found = principal(latents())
    start = torch.zeros(2, 16)
    both = move("gaussian", start, found, {0: 2.0, 5: -1.0})
    apart = move("gaussian", move("gaussian", start, found, {0: 2.0}), found, {5: -1.0})
    torch.testing.assert_close(both, apart)
    along = both @ found.directions.t() / found.deviations
    expected = torch.zeros(2, 12)
    expected[:, 0], expected[:, 5] = 2, -1
    torch.testing.assert_close(along, expected, atol=1e-5, rtol=0)
    assert move("gaussian", start, found, {}) is start


def test_a_move_on_the_sphere_stays_there():
    x = torch.nn.functional.normalize(latents(), dim=1)
    moved = move("sphere", x[:3], principal(x), {1: 3.0})
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(3))
    assert (moved - x[:3]).abs().max() > 0.05


def test_a_component_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no component 13: there are 12"):
        move("gaussian", torch.zeros(1, 16), principal(latents()), {12: 1.0})
