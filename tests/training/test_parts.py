"""Micro-batches: whatever the parts, an update learns what it learns from the undivided batch."""

import pytest
import torch
from world import FINAL, World, smooth_world

from pgvae.objectives import OBJECTIVES, Context, Objective
from pgvae.training.parts import Work, slices_of
from pgvae.training.pool import ImagePool
from pgvae.training.ranks import ALONE

COUNT = 5


def an(name: str) -> Objective:
    return OBJECTIVES[name](**({"game_from": 4} if name == "rivae" else {}))


def phases_of(name: str) -> list[str]:
    kind = OBJECTIVES[name]
    phases = [*kind.phases, *([kind.pretraining] if kind.pretraining else [])]
    extra = ["generator_rec"] if issubclass(kind, OBJECTIVES["age"]) else []
    return [*(phase.name for phase in phases), *extra]


PHASES = [(name, phase) for name in OBJECTIVES for phase in phases_of(name)]


def context_of(w: World, seed: int = 0) -> Context:
    rng = torch.Generator().manual_seed(seed)
    return Context(
        alpha=torch.tensor(w.alpha, dtype=torch.float64),
        noise=lambda shape: torch.randn(shape, generator=rng, dtype=torch.float64),
        progress=torch.tensor(0.1),
    )


def learned(name: str, phase: str, size: int, pool: ImagePool | None = None):
    """Losses, reports and gradients of one update, `size` images at a time."""
    objective = an(name)
    w = smooth_world(objective, count=COUNT, resolution=FINAL)
    context = context_of(w)
    work = Work(context, ALONE, COUNT, pool.replay if pool else None)
    losses = work.run(
        size,
        lambda rows, part: objective.losses(phase, w.nets, w.batch.rows(rows), part),
    )
    if pool:
        pool.settle()
    nets = w.nets.trained().values()
    gradients = [p.grad for net in nets for p in net.parameters() if p.grad is not None]
    return {**losses, **context.reported}, gradients


@pytest.mark.parametrize(("name", "phase"), PHASES)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_learn_what_the_whole_batch_does(name: str, phase: str, size: int) -> None:
    (expected, whole), (found, parts) = (learned(name, phase, n) for n in (COUNT, size))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12, msg=key)
    assert len(parts) == len(whole) > 0
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["pioneer", "balanced_pioneer"])
def test_the_pool_is_shown_and_filled_as_by_the_whole_batch(name: str) -> None:
    results = []
    for size in (COUNT, 2):
        pool = ImagePool()
        for seed in range(45):  # full of 200 after 40
            pool.draw(COUNT, FINAL, seed, torch.device("cpu"))
            values, _ = learned(name, "encoder", size, pool)
        results.append((values, pool.images.clone()))
    (values, images), (other_values, other_images) = results
    torch.testing.assert_close(images, other_images)
    for key, value in values.items():
        torch.testing.assert_close(value, other_values[key], rtol=1e-6, atol=1e-7)


def test_parts_are_as_equal_as_can_be() -> None:
    for count in (1, 2, 5, 16, 33):
        for size in (1, 2, 3, 16, 40):
            parts = slices_of(count, size)
            lengths = [part.stop - part.start for part in parts]
            assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
            assert (parts[0].start, parts[-1].stop) == (0, count)
            assert max(lengths) <= size
            assert max(lengths) - min(lengths) <= 1
            assert len(parts) == -(-count // size)
