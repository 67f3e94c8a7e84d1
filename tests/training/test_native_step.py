"""A whole iteration is the same with native and with reference ops, but for rounding."""

import copy
import dataclasses

import pytest
import torch
from runs import CPU, NO_STORE, tiny_config

from pgvae import ops
from pgvae.objectives import OBJECTIVES
from pgvae.training.state import TrainState
from pgvae.training.step import train_step
from pgvae.types import Batch

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(
        bool(ops.native.why_not(torch.empty(0))), reason="no native ops are built for the CPU"
    ),
]


def assert_agree(name: str, fmap_max: int, lr: float, steps: int, *, free: bool, **close) -> None:
    """The losses of iterations at 16 px.

    free: each kind of ops goes on from its own state, not both from that of the native ones.
    """
    torch.manual_seed(0)
    config = tiny_config(NO_STORE, name)
    model = dataclasses.replace(config.model, fmap_max=fmap_max, latent_dim=32)
    state = TrainState.create(dataclasses.replace(config, model=model), CPU, 16)
    for net in state.nets.parts().values():
        net.to(torch.get_default_dtype())
    other, moment = copy.deepcopy(state), dataclasses.replace(config.schedule.at(150), lr=lr)
    for _ in range(steps):
        if not free:
            other = copy.deepcopy(state)
        batch, losses = Batch(torch.rand(8, 3, 16, 16) * 2 - 1), []
        for impl, mine in (("native", state), ("reference", other)):
            with ops.using(impl):
                scalars = train_step(mine, OBJECTIVES[name](), moment, batch, "fp32")
            # A gap is a difference of losses that are nearly equal.
            losses.append({k: float(v) for k, v in scalars.items() if not k.endswith("_gap")})
        assert losses[0] == pytest.approx(losses[1], **close)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pioneer", "vae"])
@pytest.mark.parametrize("fmap_max", [24, pytest.param(144, id="144: Winograd")])
def test_losses_of_20_iterations_agree_to_1e_5(name, fmap_max) -> None:
    """Each from one state, at a small rate: Adam begins with signs, which rounding can turn."""
    assert_agree(name, fmap_max, lr=1e-6, steps=20, free=False, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["pioneer", "vae"])
def test_losses_of_free_runs_agree_in_float64(name) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert_agree(name, 24, lr=1e-3, steps=4, free=True, rel=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)
