"""What holds for every objective: what an iteration moves, and that it repeats."""

import dataclasses
from itertools import pairwise
from typing import get_args

import pytest
import torch
from runs import (
    CPU,
    NO_STORE,
    PRETRAINED,
    all_bytes,
    altered,
    random_batch,
    state_after,
    take_steps,
    tiny_config,
    weights_of,
)

from pgvae.config import Arch
from pgvae.nn.layers import SpectralWeight
from pgvae.objectives import OBJECTIVES, objective_from
from pgvae.training.state import TrainState
from pgvae.training.step import train_step

EVERY = pytest.mark.parametrize("name", OBJECTIVES)
BOTH_ARCHS = pytest.mark.parametrize("arch", get_args(Arch))


@pytest.mark.parametrize(
    ("name", "arch", "pretrain_kimg"),
    [
        *((name, arch, 0.0) for name in OBJECTIVES for arch in get_args(Arch)),
        *((name, None, 0.1) for name in PRETRAINED),
    ],
)
def test_each_phase_moves_all_of_the_networks_that_it_trains_alone(name, arch, pretrain_kimg):
    """The average moves at the end of the iteration alone."""
    state, kind = state_after(4, name, arch=arch, pretrain_kimg=pretrain_kimg), OBJECTIVES[name]
    seen = []

    def look(_call, phase, _nets, losses, _):
        seen.append((phase, weights_of(state)))
        return losses

    take_steps(state, altered(kind(), look), 1)
    average = [weights["ema"] for _, weights in seen]
    seen.append(("", weights_of(state)))  # how it ended
    moves = [
        (phase, {part for part in state.optimizers if after[part] != before[part]})
        for (phase, before), (_, after) in pairwise(seen)
    ]
    phases = [kind.pretraining] if pretrain_kimg else kind.phases
    assert moves == [(p.name, set(p.trains)) for p in phases for _ in range(p.repeats)]
    first, last = seen[0][1], seen[-1][1]
    still = {w for p in first for w in first[p] if last[p][w] == first[p][w]}
    assert still == ({"critic.weight"} if name == "rivae" else set())  # it judges from 16 px on
    assert all(weights == first["ema"] for weights in average)


@EVERY
def test_spectral_vectors_move_once_for_each_update_of_their_network(name, monkeypatch):
    state = state_after(4, name)
    layers = {
        part: [m for m in net.modules() if isinstance(m, SpectralWeight)]
        for part, net in state.nets.trained().items()
    }
    moved, iterate = [], SpectralWeight.iterate
    monkeypatch.setattr(
        SpectralWeight, "iterate", lambda layer: moved.append(layer) or iterate(layer)
    )
    take_steps(state, OBJECTIVES[name](), 1)
    for part in layers:
        updates = sum(p.repeats for p in OBJECTIVES[name].phases if part in p.trains)
        assert all(sum(m is layer for m in moved) == updates for layer in layers[part])
    assert bool(layers.get("encoder")) == (name in ("pioneer", "balanced_pioneer"))
    assert (len(layers["generator"]) > 0) == (name == "balanced_pioneer")


@EVERY
def test_the_same_seed_gives_the_same_bytes_twice(name):
    first = state_after(24, name)
    torch.rand(5)  # the global state of random numbers plays no part
    assert all_bytes(state_after(24, name)) == all_bytes(first)
    assert all_bytes(state_after(24, name, seed=1)) != all_bytes(first)


@EVERY
@BOTH_ARCHS
def test_two_images_in_bf16_stay_finite(name, arch):
    config = tiny_config(NO_STORE, name, arch=arch)
    state = TrainState.create(config, CPU, 16)
    objective = objective_from(config.objective)
    for _ in range(8):
        stage = dataclasses.replace(config.schedule.at(150), batch_size=2)
        state.images_seen = 150 + state.images_seen % 150  # draws differ, the stage does not
        scalars = train_step(state, objective, stage, random_batch(state, count=2), "bf16")
        assert all(value.isfinite() for value in scalars.values())
    assert state.skips.read() == (0, 0)
    for net in state.nets.parts().values():
        for tensor in net.state_dict().values():
            assert tensor.isfinite().all()
            assert tensor.dtype == torch.float32


@pytest.mark.parametrize("name", [n for n, kind in OBJECTIVES.items() if kind.min_batch == 1])
def test_one_image_is_enough_where_no_statistic_is_over_the_batch(name):
    state = state_after(0, name)
    batch = random_batch(state, count=1)
    scalars = train_step(state, OBJECTIVES[name](), state.config.schedule.at(0), batch, "fp32")
    assert all(value.isfinite() for value in scalars.values())
    assert (state.skips.read(), state.images_seen) == ((0, 0), 1)


@EVERY
def test_a_whole_run_through_growth_and_fades_skips_nothing(name):
    state = state_after(160, name, pretrain_kimg=0.02 if name in PRETRAINED else 0.0)
    assert (state.images_seen, state.resolution, state.skips.read()) == (160, 16, (0, 0))
    assert not state.nets.generator.fading
