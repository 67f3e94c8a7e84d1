"""A whole iteration is the same with native and with reference ops, but for rounding."""

import copy

import pytest
import torch

from pgvae import ops
from pgvae.config import ModelConfig, RunConfig
from pgvae.objectives import OBJECTIVES, settings_of
from pgvae.request import Request
from pgvae.schedule import from_preset
from pgvae.training.state import TrainState
from pgvae.training.step import train_step
from pgvae.types import Batch

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(
        bool(ops.native.why_not(torch.empty(0))), reason="no native ops are built for the CPU"
    ),
]
STEPS = 20


def start(name: str, fmap_max: int, lr: float = 1e-3):
    """An objective and its first state at 16 px."""
    objective = OBJECTIVES[name]()
    model = ModelConfig(
        resolution=16, fmap_max=fmap_max, latent_dim=32, **objective.model_settings()
    )
    config = RunConfig(
        dataset="random",
        dataset_digest="",
        model=model,
        schedule=from_preset(objective.schedule, (16,), Request(batch=8, lr=lr)),
        objective=settings_of(objective),
    )
    return objective, TrainState.create(config, torch.device("cpu"), 16)


def step(impl: str, objective, state, images) -> dict[str, float]:
    with ops.using(impl):
        scalars = train_step(state, objective, state.config.schedule.at(0), Batch(images), "fp32")
    # A gap is a difference of losses that are nearly equal.
    return {k: float(v) for k, v in scalars.items() if not k.endswith("_gap")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pioneer", "vae"])
@pytest.mark.parametrize("fmap_max", [24, pytest.param(128, id="128: Winograd")])
def test_losses_of_20_iterations_agree_to_1e_5(name, fmap_max) -> None:
    """Each from one state, at a small rate: Adam begins with signs, which rounding can turn."""
    torch.manual_seed(0)
    objective, state = start(name, fmap_max, lr=1e-6)
    for _ in range(STEPS):
        other = copy.deepcopy(state)
        images = torch.rand(8, 3, 16, 16) * 2 - 1
        native = step("native", objective, state, images)
        reference = step("reference", objective, other, images)
        assert native == pytest.approx(reference, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["pioneer", "vae"])
def test_losses_of_free_runs_agree_in_float64(name) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        objective, state = start(name, 24)
        other = copy.deepcopy(state)
        for _ in range(4):
            images = torch.rand(8, 3, 16, 16) * 2 - 1
            native = step("native", objective, state, images)
            reference = step("reference", objective, other, images)
            assert native == pytest.approx(reference, rel=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)
