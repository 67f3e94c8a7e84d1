"""The image pool fills up, then swaps about half of the fakes for earlier ones."""

import pytest
import torch
from runs import CPU, state_after, take_steps

from pgvae.objectives.pioneer import Pioneer
from pgvae.training.pool import ImagePool, pool_capacity


def numbered(first: int, count: int) -> torch.Tensor:
    """Images that are one number everywhere: first, first + 1, ..."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(count, 3, 4, 4).contiguous()


def numbers_of(images: torch.Tensor) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all(), "an image was mixed with another"
    return images[:, 0, 0, 0].int().tolist()


def replay(pool: ImagePool, fakes: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """What an iteration does: draw the swaps, show them, then make them."""
    pool.draw(len(fakes), fakes.shape[-1], seed, CPU)
    shown = pool.replay(fakes)
    assert torch.equal(shown, pool.replay(fakes))  # until it settles it stays as it is
    pool.settle()
    return shown


def full_pool() -> ImagePool:
    """A pool of images 0..199."""
    pool = ImagePool()
    replay(pool, numbered(0, 200))
    return pool


def test_the_capacity_is_200_and_100_from_256_px():
    assert [pool_capacity(resolution) for resolution in (4, 128, 256, 1024)] == [200, 200, 100, 100]


@pytest.mark.parametrize("batch", [40, 60, 250])
def test_it_fills_before_it_swaps_and_keeps_no_graph(batch):
    pool = ImagePool()
    for first in range(0, 200, batch):
        fakes = numbered(first, batch).requires_grad_()
        assert torch.equal(replay(pool, fakes), fakes)
        assert pool.count == min(200, first + batch)
    assert numbers_of(pool.images) == list(range(200))
    assert not pool.images.requires_grad


@pytest.mark.parametrize("count", [40, 230])
def test_a_swapped_fake_takes_the_place_of_the_earlier_one_and_others_keep_theirs(count):
    pool = full_pool()
    shown = numbers_of(replay(pool, numbered(200, count)))
    assert sorted(shown + numbers_of(pool.images)) == list(range(200 + count))
    own = [(place, number) for place, number in enumerate(shown) if number >= 200]
    assert 0 < len(own) < count
    assert all(number == 200 + place for place, number in own)
    assert shown[200:] == list(range(400, 200 + count))  # more than it holds


@pytest.mark.parametrize("size", [1, 7, 64, 230])
def test_parts_of_a_batch_are_shown_what_the_whole_is(size):
    expected, fakes, pool = full_pool(), numbered(200, 230), full_pool()
    shown = replay(expected, fakes)
    pool.draw(230, 4, 0, CPU)
    starts = range(0, 230, size)
    assert torch.equal(torch.cat([pool.replay(fakes[s : s + size], s) for s in starts]), shown)
    pool.settle()
    assert torch.equal(pool.images, expected.images)


def test_about_half_are_swapped():
    pool = full_pool()
    swapped = 0
    for first in range(200, 4200, 40):
        shown = numbers_of(replay(pool, numbered(first, 40), first))
        swapped += sum(number < first for number in shown)
    # 4000 fair coins: a standard deviation of 0.8 %
    assert abs(swapped / 4000 - 0.5) < 4 * 0.5 / 4000**0.5


def test_the_same_random_numbers_give_the_same_swaps():
    first, again, other = (replay(full_pool(), numbered(200, 40), seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_run_uses_the_pool_only_at_alpha_1():
    state = state_after(48)  # the first stage has no fade: 12 batches of 4
    assert state.pool.count == 48
    take_steps(state, Pioneer(), 1)  # growth to 8 px, then a fade of 32 images
    assert (state.resolution, state.pool.count, state.pool.images) == (8, 0, None)
    take_steps(state, Pioneer(), 7)
    assert state.pool.count == 0
    take_steps(state, Pioneer(), 1)
    assert state.pool.count == 4
    assert state.pool.images.shape == (200, 3, 8, 8)


@pytest.mark.parametrize("objective", ["age", "vae"])
def test_an_objective_without_a_pool_leaves_it_empty(objective):
    state = state_after(8, objective)
    assert (state.pool.count, state.pool.images) == (0, None)
