"""One iteration: phases, what they move, and numbers that are not finite."""

import math
from collections.abc import Callable

import pytest
import torch
from runs import altered, bytes_of, state_after, take_steps
from torch.nn import functional as F

from pgvae.errors import ResourceError
from pgvae.nn.layers import SpectralWeight, matrix_of
from pgvae.objectives.pioneer import Pioneer
from pgvae.training.step import resolve_precision


def trained_bytes(net: torch.nn.Module) -> dict[str, bytes]:
    return bytes_of(dict(net.named_parameters()))


def steps_of(state, part: str) -> set[float]:
    """Adam's step counters."""
    return {moments["step"].item() for moments in state.optimizers[part].state.values()}


def nan_at(*calls: int) -> Callable:
    def change(call, _phase, _nets, losses):
        return {name: loss * math.nan for name, loss in losses.items()} if call in calls else losses

    return change


def nan_gradient_at(bad_call: int) -> Callable:
    """A term that is 0 with a gradient that is NaN: the root of 0 times a weight."""

    def change(call, phase, nets, losses):
        if call == bad_call:
            net = nets.encoder if phase == "encoder" else nets.generator
            losses["root"] = (next(net.parameters()).sum() * 0).sqrt()
            assert all(loss.isfinite() for loss in losses.values())
        return losses

    return change


def test_no_gradient_is_left_behind():
    state = state_after(8)
    nets = (state.nets.encoder, state.nets.generator, state.nets.ema)
    assert all(p.grad is None for net in nets for p in net.parameters())


def test_time_moves_by_the_batch_and_the_scalars_are_named_by_phase():
    state = state_after(8)
    scalars = take_steps(state, Pioneer(), 1)
    assert state.images_seen == 12
    assert {"encoder/kl_real", "encoder/kl_fake", "encoder/rec_x", "encoder/l1"} <= scalars.keys()
    assert {"generator/kl_fake", "generator/rec_z"} <= scalars.keys()
    assert not any(value.requires_grad for value in scalars.values())
    assert all(value.isfinite() for value in scalars.values())


def test_spectral_vectors_move_once_for_each_encoder_update():
    state = state_after(8)
    layer = next(m for m in state.nets.encoder.modules() if isinstance(m, SpectralWeight))
    matrix, u = matrix_of(layer.weight.detach()).clone(), layer.u.clone()
    take_steps(state, Pioneer(), 1)  # one encoder update, three forward passes
    v = F.normalize(matrix.t() @ u, dim=0)
    torch.testing.assert_close(layer.v, v)
    torch.testing.assert_close(layer.u, F.normalize(matrix @ v, dim=0))
    assert not torch.equal(layer.u, u)


@pytest.mark.parametrize("poison", [nan_at, nan_gradient_at])
@pytest.mark.parametrize(
    ("call", "part", "done"), [(0, "encoder", 1), (1, "generator", 2), (2, "generator", 2)]
)
def test_an_update_that_is_not_finite_is_skipped(poison, call, part, done):
    state = state_after(8)
    before = {
        "encoder": (trained_bytes(state.nets.encoder), steps_of(state, "encoder")),
        "generator": (trained_bytes(state.nets.generator), steps_of(state, "generator")),
    }
    objective = altered(Pioneer(), poison(call))
    take_steps(state, objective, 1)
    assert state.skips.read() == (1, 1)
    assert state.images_seen == 12
    good = done - 1  # updates of the same network in that step that were finite
    net = trained_bytes(getattr(state.nets, part))
    assert (net == before[part][0]) == (good == 0)
    assert steps_of(state, part) == {before[part][1].pop() + good}
    for name in ("encoder", "generator", "ema"):
        assert all(p.isfinite().all() for p in getattr(state.nets, name).parameters())
    take_steps(state, objective, 1)  # and the run goes on
    assert (state.skips.read(), state.images_seen) == ((1, 0), 16)
    assert trained_bytes(getattr(state.nets, part)) != net


def test_an_infinite_loss_is_skipped_too():
    state = state_after(8)
    before = trained_bytes(state.nets.encoder)

    def change(call, _phase, _nets, losses):
        return {**losses, "kl_real": losses["kl_real"] * math.inf} if call == 0 else losses

    take_steps(state, altered(Pioneer(), change), 1)
    assert state.skips.read() == (1, 1)
    assert trained_bytes(state.nets.encoder) == before


@pytest.mark.parametrize(("calls", "name"), [((0, 3, 6), "encoder"), ((1, 4, 7), "generator")])
def test_the_third_iteration_in_a_row_with_a_bad_update_stops_the_run_with_names(calls, name):
    state = state_after(8)
    before = trained_bytes(state.nets.encoder)
    with pytest.raises(ResourceError, match="in a row were not finite") as caught:
        take_steps(state, altered(Pioneer(), nan_at(*calls)), 3)
    assert caught.value.exit_code == 4
    for word in (f"{name}/", "nan", "--lr", "--batch", "--init-from"):
        assert word in str(caught.value)
    assert (trained_bytes(state.nets.encoder) == before) == (name == "encoder")


def test_bad_updates_with_a_good_iteration_between_do_not_stop_it():
    state = state_after(8)
    take_steps(state, altered(Pioneer(), nan_at(0, 6, 9)), 4)
    assert state.skips.read() == (3, 2)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_precision_that_was_chosen_stays(precision):
    assert resolve_precision(precision, torch.device("cpu")) == precision


def test_automatic_precision_is_fp32_on_a_cpu():
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
