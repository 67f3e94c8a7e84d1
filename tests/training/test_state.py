"""How a run's state moves from stage to stage."""

import dataclasses

import pytest
import torch
from runs import CPU, NO_STORE, UPDATED, bytes_of, state_after, take_steps, tiny_config

from pgvae.errors import ResourceError
from pgvae.objectives.pioneer import Pioneer
from pgvae.schedule import Moment
from pgvae.training.state import Dials, Skips, TrainState, derive_seed
from pgvae.types import AVERAGES

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
        for moment in adam.get(parameter, ())
    }


def tensors_of(state: TrainState) -> dict[str, dict[str, bytes]]:
    """The bytes of each network, and of Adam's moments."""
    nets = {part: bytes_of(net.state_dict()) for part, net in state.nets.parts().items()}
    return nets | {f"adam {part}": bytes_of(moments_of(state, part)) for part in UPDATED}


def test_growth_keeps_what_there_is_and_new_layers_start_anew():
    state = state_after(GROW_8, ema_kimg=1.0, ema_rampup=1.0)
    before = tensors_of(state)
    state.enter(state.config.schedule.at(GROW_8))
    after = tensors_of(state)
    assert state.resolution == 8
    assert all(before.values())
    assert {k: {n: after[k][n] for n in before[k]} for k in before} == before
    for part in UPDATED:
        assert after[f"adam {part}"].keys() == before[f"adam {part}"].keys()
        assert after[part].keys() > before[part].keys()
    # The average of new layers is the layers themselves.
    for average, followed in AVERAGES.items():
        new = after[average].keys() - before[average].keys()
        assert {name.split(".")[1] for name in new} == {"8"}
        assert all(after[average][name] == after[followed][name] for name in new)
        assert any(before[average][name] != before[followed][name] for name in before[average])
        assert not any(p.requires_grad for p in state.nets.parts()[average].parameters())
    take_steps(state, Pioneer(), 1)
    for part, repeats in (("encoder", 1), ("generator", 2)):
        moments = moments_of(state, part)
        assert moments["rgb.8.weight/step"] == repeats
        assert moments["rgb.4.weight/step"] == repeats * (GROW_8 // 4 + 1)


@pytest.mark.parametrize("images", [0, GROW_8, FADED_8, GROW_16])
def test_the_optimisers_hold_exactly_the_layers_that_there_are_at_one_rate(images):
    state = grown(images)
    rgb = {0: {"4"}, GROW_8: {"4", "8"}, FADED_8: {"8"}, GROW_16: {"8", "16"}}  # the old one fades
    assert all(set(net.rgb) == rgb[images] for net in state.nets.parts().values())
    state.dials.set(dataclasses.replace(state.config.schedule.at(images), lr=0.25), 0.5)
    for part in UPDATED:
        [group], moved = state.optimizers[part].param_groups, state.optimizers[part].state
        there = list(getattr(state.nets, part).parameters())
        assert {id(p) for p in group["params"]} == {id(p) for p in there}
        assert {id(p) for p in moved} <= {id(p) for p in there}
        assert (len(moved) == len(there)) == (images == FADED_8)  # nothing new, nothing old
        assert float(group["lr"]) == 0.25


def test_nothing_changes_within_a_stage():
    state = grown(GROW_8)
    optimizers, before = dict(state.optimizers), tensors_of(state)
    state.enter(state.config.schedule.at(GROW_8 + 4))
    assert all(state.optimizers[part] is optimizers[part] for part in UPDATED)
    assert tensors_of(state) == before


def test_a_jump_over_a_stage_grows_twice():
    state = state_after(0)
    state.enter(state.config.schedule.at(150))
    assert {net.resolution for net in state.nets.parts().values()} == {16}
    assert set(state.nets.generator.rgb) == {"16"}


def test_dials_are_filled_in_place():
    """A captured iteration reads them where they were."""
    dials = Dials(CPU)
    before = [value.data_ptr() for value in vars(dials).values()]
    dials.set(Moment(8, alpha=0.1, batch_size=4, lr=1e-3, progress=0.3), ema_share=0.7)
    assert [value.data_ptr() for value in vars(dials).values()] == before
    values = (dials.alpha, dials.lr, dials.progress, dials.ema_share)
    assert [v.item() for v in values] == [0.1, 1e-3, 0.3, pytest.approx(0.7)]


def test_new_weights_depend_on_the_seed_alone_and_leave_the_global_numbers_alone():
    def weights(seed: int) -> dict[str, bytes]:
        before = torch.get_rng_state()
        state = TrainState.create(tiny_config(NO_STORE, seed=seed), CPU, 4)
        state.enter(state.config.schedule.at(GROW_8))
        assert torch.equal(torch.get_rng_state(), before)
        return bytes_of(state.nets.generator.state_dict())

    first = weights(0)
    torch.rand(3)
    assert weights(0) == first
    other = weights(1)
    assert all(first[n] != other[n] for n in ("blocks.4.first.weight", "blocks.8.first.weight"))


def test_seeds_differ_by_every_part_and_fit_63_bits():
    parts = [(0, "step", 1), (1, "step", 1), (0, "grow", 1), (0, "step", 2), (0, "step", "1")]
    seeds = [derive_seed(*p) for p in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "step", 1) == seeds[0]


def test_three_bad_iterations_in_a_row_are_told_though_a_good_one_followed():
    skips = Skips(CPU)
    for bad in (True, True, True, False):
        skips.note(torch.tensor(bad), {"encoder/rec": torch.tensor(torch.nan)})
        skips.end_iteration()
    with pytest.raises(ResourceError, match=r"of 3 iterations in a row .*encoder/rec nan"):
        skips.read()
