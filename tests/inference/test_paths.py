"""Ways through the latent space: their ends, their counts, and even steps along them."""

import pytest
import torch
from latent_models import HEADS, model_of, prior
from torch import Tensor
from torch.nn import functional as F

from pgvae.errors import InputError
from pgvae.inference.paths import line, polyline, slerp, square


def step_lengths(head: str, points: Tensor) -> Tensor:
    """From each point [n, d] to the next: the angle on the sphere, the distance otherwise."""
    before, after = points[:-1].double(), points[1:].double()
    chords = (after - before).norm(dim=-1)
    return 2 * torch.asin(chords / 2) if head == "sphere" else chords


@pytest.fixture(params=HEADS)
def head(request) -> str:
    return request.param


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_a_line_goes_from_one_end_to_the_other(head, steps):
    a, b = prior(head, 5, 6, seed=0), prior(head, 5, 6, seed=1)
    points = line(head, a, b, steps)
    assert points.shape == (steps, 5, 6)
    torch.testing.assert_close(points[0], a)
    torch.testing.assert_close(points[-1], b)


def test_the_steps_of_a_line_are_equal_and_together_the_shortest_way(head):
    a, b = prior(head, 2, 6)
    steps = step_lengths(head, line(head, a, b, 8))
    [direct] = step_lengths(head, torch.stack([a, b]))
    torch.testing.assert_close(steps, (direct / 7).expand(7), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_slerp_of_nearly_equal_and_opposite_vectors_is_finite(distance, sign):
    a = prior("sphere", 20, 8, seed=4)
    b = sign * F.normalize(a + distance * prior("sphere", 20, 8, seed=5), dim=1)
    for ratio in torch.linspace(0, 1, 7):
        point = slerp(a, b, ratio)
        assert point.isfinite().all()
        if sign > 0:
            assert (point - a).norm(dim=1).max() <= distance + 1e-3
    torch.testing.assert_close(slerp(a, b, 0.0), a, atol=1e-4, rtol=0)
    torch.testing.assert_close(slerp(a, b, 1.0), b, atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [2, 5])
def test_the_corners_of_a_square_are_the_given_latents_row_by_row(head, steps):
    corners = prior(head, 4, 6)
    grid = square(head, corners, steps)
    assert grid.shape == (steps, steps, 6)
    found = torch.stack([grid[0, 0], grid[0, -1], grid[-1, 0], grid[-1, -1]])
    torch.testing.assert_close(found, corners)


def test_the_edges_of_a_square_are_lines(head):
    corners = prior(head, 4, 6)
    grid = square(head, corners, 5)
    edges = [(grid[0], 0, 1), (grid[-1], 2, 3), (grid[:, 0], 0, 2), (grid[:, -1], 1, 3)]
    for edge, start, end in edges:
        torch.testing.assert_close(edge, line(head, corners[start], corners[end], 5))


def test_a_square_is_bilinear_for_a_gaussian():
    corners = prior("gaussian", 4, 6)
    across = torch.linspace(0, 1, 5)
    right, down = across[None, :, None], across[:, None, None]
    top = (1 - right) * corners[0] + right * corners[1]
    bottom = (1 - right) * corners[2] + right * corners[3]
    expected = (1 - down) * top + down * bottom
    torch.testing.assert_close(square("gaussian", corners, 5), expected)


@pytest.mark.parametrize(("count", "steps"), [(2, 1), (2, 4), (5, 3)])
@pytest.mark.parametrize("closed", [False, True])
def test_a_walk_passes_a_point_every_so_many_steps(head, count, steps, closed):
    points = prior(head, count, 6)
    walk = polyline(head, points, steps, closed)
    assert walk.shape == (count * steps if closed else (count - 1) * steps + 1, 6)
    torch.testing.assert_close(walk[::steps], points)
    if closed:  # it ends one step before its start
        last_leg = torch.cat([walk[-steps:], points[:1]])
        torch.testing.assert_close(last_leg, line(head, points[-1], points[0], steps + 1))


@pytest.mark.parametrize("closed", [False, True])
def test_the_steps_of_a_leg_are_equal(head, closed):
    points = prior(head, 4, 6)
    walk = polyline(head, points, 5, closed=closed)
    ends = points
    if closed:
        walk, ends = torch.cat([walk, walk[:1]]), torch.cat([points, points[:1]])
    legs = step_lengths(head, ends)
    expected = (legs / 5).repeat_interleave(5)
    torch.testing.assert_close(step_lengths(head, walk), expected, rtol=1e-4, atol=1e-5)


def test_every_way_stays_on_the_sphere():
    a, b = prior("sphere", 40, 6, seed=0), prior("sphere", 40, 6, seed=1)
    ways = (line("sphere", a, b, 9), square("sphere", a[:4], 7), polyline("sphere", a, 7, True))
    for way in ways:
        norms = way.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-6)


@pytest.mark.parametrize("closed", [False, True])
def test_a_model_decodes_the_walk_through_its_latents(closed, head):
    model, latents = model_of(head), prior(head, 3, 8)
    images = model.walk(latents, steps=4, closed=closed)
    assert images.shape == (12 if closed else 9, 3, 8, 8)
    torch.testing.assert_close(images, model.decode(polyline(head, latents, 4, closed)))
    torch.testing.assert_close(images[::4], model.decode(latents))


@pytest.mark.parametrize(("count", "steps"), [(0, 4), (1, 4), (3, 0), (3, 10**9)])
def test_a_model_walks_through_two_latents_or_more_and_by_steps(count, steps, head):
    with pytest.raises(ValueError, match="latents"):
        model_of(head).walk(prior(head, count, 8), steps)


def test_more_images_than_anybody_means_are_refused(head):
    model = model_of(head)
    with pytest.raises(ValueError, match="2 or more steps, 100000 at most: got 2, 1000000000"):
        model.interpolate(model.sample(2), steps=10**9)
    with pytest.raises(InputError, match="count is 1000000000: use 10000000 at most"):
        model.sample(10**9)
