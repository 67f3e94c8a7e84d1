"""One iteration: phases, settings of a stage, and numbers that are not finite."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from runs import (
    CPU,
    NO_STORE,
    PRETRAINED,
    altered,
    random_batch,
    state_after,
    take_steps,
    tiny_config,
    weights_of,
)

from pgvae.errors import InputError, ResourceError
from pgvae.objectives import OBJECTIVES, Objective
from pgvae.objectives.age import Age
from pgvae.objectives.pioneer import Pioneer
from pgvae.training.state import TrainState
from pgvae.training.step import resolve_precision, train_step


def test_time_moves_no_gradient_stays_and_the_scalars_are_named_by_phase():
    state = state_after(8)
    scalars = take_steps(state, Pioneer(), 1)
    assert state.images_seen == 12
    assert {"encoder/kl_real", "encoder/kl_fake", "encoder/rec_x", "encoder/l1"} <= scalars.keys()
    assert {"generator/kl_fake", "generator/rec_z"} <= scalars.keys()
    assert "generator/l1" not in scalars  # what another phase has reported
    assert not any(value.requires_grad for value in scalars.values())
    assert all(value.isfinite() for value in scalars.values())
    assert all(p.grad is None for net in state.nets.parts().values() for p in net.parameters())


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "auto"])
def test_a_precision_that_was_chosen_stays_and_automatic_is_fp32_on_a_cpu(precision):
    assert resolve_precision(precision, CPU) == precision.replace("auto", "fp32")


def test_bf16_rounds_the_losses():
    found = []
    for precision in ("fp32", "bf16"):
        state = state_after(8)
        moment, batch = state.config.schedule.at(8), random_batch(state)
        found.append(train_step(state, Pioneer(), moment, batch, precision)["encoder/rec_x"].item())
    assert found[0] != found[1] == pytest.approx(found[0], rel=0.05)


# Numbers that are not finite


def bad_at(*calls: int, factor: float = math.nan) -> Callable:
    def change(call, _phase, _nets, losses, *_):
        return {name: loss * factor for name, loss in losses.items()} if call in calls else losses

    return change


def nan_gradient_at(bad_call: int) -> Callable:
    """A term that is 0 with a gradient that is NaN: the root of 0 times a weight."""

    def change(call, phase, nets, losses, *_):
        if call == bad_call:
            net = nets.encoder if phase == "encoder" else nets.generator
            losses["root"] = (next(net.parameters()).sum() * 0).sqrt()
            assert all(loss.isfinite() for loss in losses.values())
        return losses

    return change


def steps_of(state: TrainState, part: str) -> set[float]:
    """Adam's step counters."""
    return {moments["step"].item() for moments in state.optimizers[part].state.values()}


@pytest.mark.parametrize(
    "poison", [bad_at, lambda call: bad_at(call, factor=math.inf), nan_gradient_at]
)
@pytest.mark.parametrize(
    ("call", "part", "done"), [(0, "encoder", 0), (1, "generator", 1), (2, "generator", 1)]
)
def test_an_update_that_is_not_finite_is_skipped(poison, call, part, done):
    """done: updates of the same network in that iteration that were finite."""
    state = state_after(8)
    weights, [steps] = weights_of(state), steps_of(state, part)
    objective = altered(Pioneer(), poison(call))
    take_steps(state, objective, 1)
    assert (state.skips.read(), state.images_seen) == ((1, 1), 12)
    after = weights_of(state)
    assert (after[part] == weights[part]) == (done == 0)
    assert steps_of(state, part) == {steps + done}
    for net in state.nets.parts().values():
        assert all(p.isfinite().all() for p in net.parameters())
    take_steps(state, objective, 1)  # and the run goes on
    assert (state.skips.read(), state.images_seen) == ((1, 0), 16)
    assert weights_of(state)[part] != after[part]


@pytest.mark.parametrize(("calls", "name"), [((0, 3, 6), "encoder"), ((1, 4, 7), "generator")])
def test_the_third_iteration_in_a_row_with_a_bad_update_stops_the_run_with_names(calls, name):
    state = state_after(8)
    before = weights_of(state)
    with pytest.raises(ResourceError, match="in a row were not finite") as caught:
        take_steps(state, altered(Pioneer(), bad_at(*calls)), 3)
    assert caught.value.exit_code == 4
    for word in (f"{name}/", "nan", "--lr", "--batch", "--init-from"):
        assert word in str(caught.value)
    assert (weights_of(state)["encoder"] == before["encoder"]) == (name == "encoder")


def test_bad_updates_with_a_good_iteration_between_do_not_stop_it():
    state = state_after(8)
    take_steps(state, altered(Pioneer(), bad_at(0, 6, 9)), 4)
    assert state.skips.read() == (3, 2)


# Settings of a stage, pre-training, progress


def test_the_settings_of_a_stage_change_the_losses_and_go_no_further():
    """With l1 times lambda_x d the reconstruction, 15 in place of 10 is half as much again."""
    objective, rec = Pioneer(), []
    for settings in ({}, {"lambda_x": 15.0}):
        state = state_after(8)
        stage = dataclasses.replace(state.config.schedule.at(8), settings=settings)
        scalars = train_step(state, objective, stage, random_batch(state), "fp32")
        rec.append(scalars["encoder/rec_x"].item())
    assert rec[1] == pytest.approx(1.5 * rec[0], rel=1e-6)
    assert objective == Pioneer()
    stage = dataclasses.replace(stage, settings={"lambda_x": -1.0})
    with pytest.raises(InputError, match="lambda_x is -1"):
        train_step(state, objective, stage, random_batch(state), "fp32")


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_first_iterations_are_an_autoencoders_and_then_the_game_begins(name):
    state, phases = state_after(0, name, pretrain_kimg=0.012), []
    objective = altered(
        OBJECTIVES[name](), lambda _call, phase, _nets, losses, *_: phases.append(phase) or losses
    )
    scalars = take_steps(state, objective, 1)
    of_age = isinstance(objective, Age)
    rec = "pretrain/rec_x" if of_age else "pretrain/rec"
    assert {rec, "pretrain/kl", "pretrain/kl_real", "pretrain/l1"} == scalars.keys()
    take_steps(state, objective, 4)  # of 4 images: 12 are three iterations
    game = ["encoder", "generator", "generator"] if of_age else ["encoder", "generator"]
    assert phases == ["pretrain"] * 3 + game * 2


def test_settings_decide_the_updates_of_an_iteration():
    state, phases = state_after(8), []
    objective = altered(
        Pioneer(rec_to_generator=True),
        lambda _c, phase, _n, losses, *_: phases.append(phase) or losses,
    )
    scalars = take_steps(state, objective, 1)
    assert phases == ["encoder", "generator", "generator_rec"]
    assert "generator_rec/rec_x" in scalars
    assert "generator/rec_x" not in scalars


@pytest.mark.parametrize("name", ["pioneer", "balanced_pioneer"])
def test_the_pool_of_fakes_is_empty_until_the_game_begins(name):
    state = state_after(0, name, pretrain_kimg=0.012)
    take_steps(state, OBJECTIVES[name](), 3)
    assert (state.pool.images, state.pool.count) == (None, 0)
    take_steps(state, OBJECTIVES[name](), 1)
    assert (len(state.pool.images), state.pool.count) == (200, 4)


def test_progress_reaches_the_objective_and_starts_after_pretraining_whatever_the_resolution():
    state = TrainState.create(tiny_config(NO_STORE, "as_introvae", pretrain_kimg=0.06), CPU, 4)
    seen = []

    def look(_call, phase, _nets, losses, context):
        seen.append((phase, context.progress.item(), state.resolution))
        return losses

    objective = altered(OBJECTIVES["as_introvae"](), look)
    shares = [take_steps(state, objective, 1).get("encoder/c") for _ in range(40)]
    assert [phase for phase, *_ in seen[:17]] == ["pretrain"] * 15 + ["encoder", "generator"]
    assert seen[15][2] == 8
    progress = [progress for phase, progress, _ in seen if phase == "encoder"]
    assert progress == pytest.approx([4 * k / 100 for k in range(25)])
    # Its annealing: c = min(5 t, 1), t the share of the game that is done.
    assert torch.stack(shares[15:]).tolist() == pytest.approx([min(5 * t, 1) for t in progress])


# --- memory


def of_at_most(images: int, kind: type[Objective]) -> Objective:
    """The objective, on a machine whose memory holds so many images."""

    class Small(kind):
        def losses(self, phase, nets, batch, context):
            if len(batch.images) > images:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().losses(phase, nets, batch, context)

    return Small()


@pytest.mark.parametrize("name", ["pioneer", "soft_introvae", "introvac"])
def test_where_memory_runs_out_the_update_is_made_with_fewer_images_at_a_time(name) -> None:
    large, small = (state_after(0, name) for _ in range(2))
    expected = take_steps(large, OBJECTIVES[name](), 1)
    found = take_steps(small, of_at_most(1, OBJECTIVES[name]), 1)
    assert (large.batch_gpu, small.batch_gpu) == (None, 1)
    assert small.images_seen == large.images_seen == 4
    assert small.skips.read() == (0, 0)
    first = next(iter(expected)).split("/")[0]  # the phase before which nothing has moved
    for key, value in expected.items():
        if key.startswith(first):
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)
    if name == "pioneer":
        torch.testing.assert_close(small.pool.images, large.pool.images)


def test_memory_that_does_not_hold_one_image_is_an_error() -> None:
    state = state_after(0, "vae")
    with pytest.raises(torch.OutOfMemoryError):
        take_steps(state, of_at_most(0, OBJECTIVES["vae"]), 1)
