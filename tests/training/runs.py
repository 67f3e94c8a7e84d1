"""What the tests of training share: a tiny config, and the bytes of a state."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pgvae.config import ModelConfig, RunConfig
from pgvae.data import Store
from pgvae.objectives import OBJECTIVES, settings_of
from pgvae.schedule import Schedule
from pgvae.training.engine import train
from pgvae.training.rundir import RunDirectory

CPU = torch.device("cpu")


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
