"""The image pool fills up, then swaps about half of the fakes for earlier ones."""

import pytest
import torch
from runs import CPU, NO_STORE, state_after, take_steps, tiny_config

from pgvae.objectives import OBJECTIVES
from pgvae.objectives.pioneer import Pioneer
from pgvae.training.pool import ImagePool, pool_capacity
from pgvae.training.state import TrainState


def numbered(first: int, count: int, side: int = 4) -> torch.Tensor:
    """Images that are one number everywhere: first, first + 1, ..."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(count, 3, side, side).contiguous()


def numbers_of(images: torch.Tensor) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all(), "an image was mixed with another"
    return images[:, 0, 0, 0].int().tolist()


def replay(pool: ImagePool, fakes: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """What an iteration does: draw the swaps, then make them."""
    pool.draw(len(fakes), fakes.shape[-1], seed, CPU)
    return pool.replay(fakes)


def full_pool() -> ImagePool:
    """A pool of images 0..199."""
    pool = ImagePool()
    for first in range(0, 200, 40):
        replay(pool, numbered(first, 40))
    return pool


@pytest.mark.parametrize(
    ("resolution", "capacity"), [(4, 200), (128, 200), (256, 100), (1024, 100)]
)
def test_the_capacity_is_200_and_100_from_256_px(resolution, capacity):
    assert pool_capacity(resolution) == capacity


def test_it_fills_before_it_swaps():
    pool = ImagePool()
    for first in range(0, 200, 40):
        fakes = numbered(first, 40)
        assert torch.equal(replay(pool, fakes), fakes)
        assert pool.count == first + 40
    assert numbers_of(pool.images) == list(range(200))


def test_a_batch_that_overfills_it_comes_back_as_it_is():
    pool = full_pool()
    pool.clear()
    fakes = numbered(0, 250)
    assert torch.equal(replay(pool, fakes), fakes)
    assert pool.count == 200
    assert numbers_of(pool.images) == list(range(200))


def test_a_swapped_fake_takes_the_place_of_the_earlier_one():
    pool = full_pool()
    shown = numbers_of(replay(pool, numbered(200, 40)))
    assert sorted(shown + numbers_of(pool.images)) == list(range(240))
    assert any(number < 200 for number in shown)
    assert any(number >= 200 for number in shown)


def test_a_fake_that_is_not_swapped_keeps_its_place_in_the_batch():
    pool = full_pool()
    shown = numbers_of(replay(pool, numbered(200, 40)))
    own = [(place, number) for place, number in enumerate(shown) if number >= 200]
    assert own
    assert all(number == 200 + place for place, number in own)


def test_about_half_are_swapped():
    pool = full_pool()
    swapped = 0
    for first in range(200, 4200, 40):
        shown = numbers_of(replay(pool, numbered(first, 40), first))
        swapped += sum(number < first for number in shown)
    # 4000 fair coins: a standard deviation of 0.8 %
    assert abs(swapped / 4000 - 0.5) < 4 * 0.5 / 4000**0.5


def test_more_fakes_than_it_holds_are_swapped_as_far_as_it_goes():
    pool = full_pool()
    shown = numbers_of(replay(pool, numbered(200, 230)))
    assert sorted(shown + numbers_of(pool.images)) == list(range(430))
    assert shown[200:] == list(range(400, 430))


def test_the_same_random_numbers_give_the_same_swaps():
    first = replay(full_pool(), numbered(200, 40), 5)
    again = replay(full_pool(), numbered(200, 40), 5)
    other = replay(full_pool(), numbered(200, 40), 6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_pool_keeps_no_graph():
    pool = ImagePool()
    replay(pool, numbered(0, 4).requires_grad_())
    assert not pool.images.requires_grad


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
    state = TrainState.create(tiny_config(NO_STORE, objective), CPU, 4)
    take_steps(state, OBJECTIVES[objective](), 2)
    assert state.pool.count == 0
    assert state.pool.images is None
