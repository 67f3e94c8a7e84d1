"""What the tests of training share: a tiny config, and the bytes of a state."""

import contextlib
import dataclasses
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

from pgvae.config import ModelConfig, RunConfig
from pgvae.data import Store
from pgvae.objectives import OBJECTIVES, settings_of
from pgvae.schedule import Schedule
from pgvae.training import engine
from pgvae.training.engine import train
from pgvae.training.rundir import RunDirectory
from pgvae.training.state import TrainState
from pgvae.training.step import train_step
from pgvae.types import Batch

CPU = torch.device("cpu")


NO_STORE = SimpleNamespace(name="tiny", digest="0" * 64)  # where no image is read


def tiny_config(store: Store, objective: str = "pioneer", **changes: Any) -> RunConfig:
    """4 -> 16 px in 40 steps of 4 images: 48 + 56 (32 fading) + 56 images."""
    chosen = OBJECTIVES[objective]()
    schedule = Schedule(
        resolutions=(4, 8, 16),
        batch_sizes=(4, 4, 4),
        learning_rates=(1e-3, 1e-3, 1e-3),
        first_kimg=0.048,
        fade_kimg=0.032,
        stable_kimg=0.024,
        total_kimg=0.160,
        grown_weights=chosen.grown_weights,
    )
    config = RunConfig(
        dataset=store.name,
        dataset_digest=store.digest,
        model=ModelConfig(resolution=16, latent_dim=8, fmap_max=8, **chosen.model_settings()),
        schedule=schedule,
        objective=settings_of(chosen),
        mirror=True,
        snapshot_kimg=10.0,
    )
    return dataclasses.replace(config, **changes)


def run_to(config: RunConfig, store: Store, run_dir: Path, total_kimg: float) -> None:
    """Train in `run_dir`, from its newest checkpoint if it has one, to `total_kimg`."""
    run_dir.mkdir(exist_ok=True)
    schedule = dataclasses.replace(config.schedule, total_kimg=total_kimg)
    run = RunDirectory(run_dir)
    try:
        train(dataclasses.replace(config, schedule=schedule), store, run, CPU)
    finally:
        run.close()


def state_bytes(run_dir: Path, images: int) -> dict[str, str]:
    """SHA-256 of every tensor of a checkpoint: weights, averages, Adam, u and v, pool."""
    tensors = load_file(run_dir / f"checkpoint-{images:09d}" / "state.safetensors")
    return {k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in tensors.items()}


def bytes_of(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """The bytes of tensors, to compare before and after."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}


def random_batch(state: TrainState, seed: int = 0) -> Batch:
    """Four random images for the present stage of a state."""
    stage = state.config.schedule.at(state.images_seen)
    rng = torch.Generator().manual_seed(seed + state.images_seen)
    images = torch.rand(4, 3, stage.resolution, stage.resolution, generator=rng) * 2 - 1
    return Batch(images.contiguous(memory_format=torch.channels_last))


def take_steps(state: TrainState, objective: Any, count: int) -> dict[str, torch.Tensor]:
    """`count` iterations on random images, as the loop takes them; -> the last scalars."""
    scalars = {}
    for _ in range(count):
        stage = state.config.schedule.at(state.images_seen)
        state.enter(stage)
        scalars = train_step(state, objective, stage, random_batch(state), "fp32")
    return scalars


def state_after(images: int, objective: str = "pioneer", **changes: Any) -> TrainState:
    """A tiny state that has seen `images` random images (a multiple of 4)."""
    config = tiny_config(NO_STORE, objective, **changes)
    state = TrainState.create(config, CPU, 4)
    take_steps(state, OBJECTIVES[objective](), images // 4)
    return state


def run_quietly(config: RunConfig, data: Path, run_dir: Path, total_kimg: float) -> None:
    """`run_to` for a process of its own, which says nothing and saves after every step."""
    engine.CHECKPOINT_SECONDS = 0.0
    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        run_to(config, Store(data), run_dir, total_kimg)
