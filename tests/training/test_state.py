"""How a run's state moves from stage to stage."""

import dataclasses

import pytest
import torch
from runs import CPU, NO_STORE, UPDATED, bytes_of, state_after, take_steps, tiny_config

from pgvae.objectives.pioneer import Pioneer
from pgvae.schedule import Moment
from pgvae.training.state import Dials, TrainState, derive_seed

GROW_8, FADED_8, GROW_16 = 48, 80, 104


def grown(images: int) -> TrainState:
    """A state that has just entered the stage at `images`."""
    state = state_after(images)
    state.enter(state.config.schedule.at(images))
    return state


def moments_of(state: TrainState, part: str) -> dict[str, torch.Tensor]:
    """Adam's moments by parameter and moment."""
    adam = state.optimizers[part].state
    return {
        f"{name}/{moment}": adam[parameter][moment].clone()
        for name, parameter in getattr(state.nets, part).named_parameters()
        for moment in (("step", "exp_avg", "exp_avg_sq") if parameter in adam else ())
    }


def test_growth_keeps_the_moments_of_the_layers_that_stay():
    state = state_after(GROW_8)
    before = {part: bytes_of(moments_of(state, part)) for part in UPDATED}
    state.enter(state.config.schedule.at(GROW_8))
    assert state.resolution == 8
    for part in UPDATED:
        after = bytes_of(moments_of(state, part))
        assert after == before[part]
        assert len(after) > 0


def test_new_layers_start_with_no_moments_and_are_counted_from_there():
    state = grown(GROW_8)
    for part in UPDATED:
        net, adam = getattr(state.nets, part), state.optimizers[part].state
        new = [p for n, p in net.named_parameters() if n.startswith(("blocks.8.", "rgb.8."))]
        assert new
        assert not any(parameter in adam for parameter in new)
    take_steps(state, Pioneer(), 1)
    for part, repeats in (("encoder", 1), ("generator", 2)):
        moments = moments_of(state, part)
        assert moments["rgb.8.weight/step"] == repeats
        assert moments["rgb.4.weight/step"] == repeats * (GROW_8 // 4 + 1)


def test_the_optimisers_hold_exactly_the_layers_that_there_are():
    state = state_after(0)
    for images in (0, GROW_8, FADED_8, GROW_16):
        state = grown(images)
        for part in UPDATED:
            held = state.optimizers[part].param_groups[0]["params"]
            there = list(getattr(state.nets, part).parameters())
            assert {id(p) for p in held} == {id(p) for p in there}
            assert {id(p) for p in state.optimizers[part].state} <= {id(p) for p in there}


def test_new_layers_of_the_average_equal_the_generators_and_old_ones_stay():
    state = state_after(GROW_8, ema_kimg=1.0, ema_rampup=1.0)
    before = bytes_of(state.nets.ema.state_dict())
    state.enter(state.config.schedule.at(GROW_8))
    after = bytes_of(state.nets.ema.state_dict())
    generator = bytes_of(state.nets.generator.state_dict())
    new = after.keys() - before.keys()
    assert {name.split(".")[1] for name in new} == {"8"}
    assert all(after[name] == generator[name] for name in new)
    assert all(after[name] == before[name] for name in before)
    assert any(after[name] != generator[name] for name in before)
    assert not any(p.requires_grad for p in state.nets.ema.parameters())


def test_growth_leaves_the_weights_that_were_there_as_they_were():
    state = state_after(GROW_8)
    before = {part: bytes_of(getattr(state.nets, part).state_dict()) for part in UPDATED}
    state.enter(state.config.schedule.at(GROW_8))
    for part in UPDATED:
        after = bytes_of(getattr(state.nets, part).state_dict())
        assert {name: after[name] for name in before[part]} == before[part]


def test_the_rgb_layers_of_the_stage_before_leave_everything_once_faded():
    state = state_after(FADED_8)  # the last step was at alpha < 1
    nets = (state.nets.encoder, state.nets.generator, state.nets.ema)
    assert all(set(net.rgb) == {"4", "8"} for net in nets)
    old = {id(p) for net in nets for p in net.rgb["4"].parameters()}
    stage = state.config.schedule.at(FADED_8)
    assert stage.alpha == 1
    state.enter(stage)
    assert all(set(net.rgb) == {"8"} for net in nets)
    for part in UPDATED:
        optimizer = state.optimizers[part]
        assert not old & {id(p) for p in optimizer.param_groups[0]["params"]}
        assert not old & {id(p) for p in optimizer.state}
        assert len(optimizer.state) == len(optimizer.param_groups[0]["params"])


def test_nothing_changes_within_a_stage():
    state = grown(GROW_8)
    optimizers, weights = dict(state.optimizers), bytes_of(state.nets.generator.state_dict())
    state.enter(state.config.schedule.at(GROW_8 + 4))
    assert all(state.optimizers[part] is optimizers[part] for part in UPDATED)
    assert bytes_of(state.nets.generator.state_dict()) == weights


def test_the_pool_empties_at_growth():
    state = state_after(GROW_8)
    assert state.pool.count == GROW_8
    state.enter(state.config.schedule.at(GROW_8))
    assert state.pool.count == 0
    assert state.pool.images is None


def test_a_jump_over_a_stage_grows_twice():
    state = state_after(0)
    state.enter(state.config.schedule.at(150))
    nets = state.nets
    assert [n.resolution for n in (nets.encoder, nets.generator, nets.ema)] == [16, 16, 16]
    assert set(nets.generator.rgb) == {"16"}


def test_the_learning_rate_of_all_optimisers_is_that_of_the_moment_in_growth_too():
    for images in (0, GROW_8):
        state = grown(images)
        state.dials.set(dataclasses.replace(state.config.schedule.at(images), lr=0.25), 0.5)
        assert [float(o.param_groups[0]["lr"]) for o in state.optimizers.values()] == [0.25, 0.25]


def test_dials_are_filled_in_place():
    """A captured iteration reads them where they were."""
    dials = Dials(CPU)
    before = [value.data_ptr() for value in vars(dials).values()]
    dials.set(Moment(8, alpha=0.1, batch_size=4, lr=1e-3, progress=0.3), ema_share=0.7)
    assert [value.data_ptr() for value in vars(dials).values()] == before
    values = (dials.alpha, dials.lr, dials.progress, dials.ema_share)
    assert [v.item() for v in values] == [0.1, 1e-3, 0.3, pytest.approx(0.7)]


def test_new_weights_depend_on_the_seed_alone():
    def weights(seed: int) -> dict[str, bytes]:
        state = TrainState.create(tiny_config(NO_STORE, seed=seed), CPU, 4)
        torch.rand(3)  # the global state of random numbers plays no part
        state.enter(state.config.schedule.at(GROW_8))
        return bytes_of(state.nets.generator.state_dict())

    assert weights(0) == weights(0)
    first, other = weights(0), weights(1)
    assert all(first[n] != other[n] for n in ("blocks.4.first.weight", "blocks.8.first.weight"))


def test_creating_a_state_leaves_the_global_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    grown_state = TrainState.create(tiny_config(NO_STORE), CPU, 4)
    grown_state.enter(grown_state.config.schedule.at(GROW_8))
    assert torch.equal(torch.rand(3), expected)


def test_seeds_differ_by_every_part_and_fit_63_bits():
    parts = [(0, "step", 1), (1, "step", 1), (0, "grow", 1), (0, "step", 2), (0, "step", "1")]
    seeds = [derive_seed(*p) for p in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "step", 1) == seeds[0]


def test_a_rank_draws_numbers_of_its_own_and_rank_0_those_of_a_single_process():
    state = state_after(4)
    alone = state.seed_of("step")
    assert alone == derive_seed(0, "step", 4)
    others = set()
    for state.rank in (1, 2, 3):
        others |= {state.seed_of("step"), state.seed_of("pool")}
    assert len(others) == 6
    assert alone not in others
