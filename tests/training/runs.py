"""What the tests of training share: a tiny config of any objective, and the bytes of a state."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pgvae.config import Arch, LabelConfig, ModelConfig, RunConfig, usual_settings
from pgvae.data import Store
from pgvae.data.balance import decide
from pgvae.errors import Preempted
from pgvae.objectives import OBJECTIVES, Objective, settings_of
from pgvae.schedule import Schedule, Stage
from pgvae.sizes import SQUARE, size_at
from pgvae.training import engine
from pgvae.training.engine import train
from pgvae.training.rundir import RunDirectory
from pgvae.training.state import TrainState
from pgvae.training.step import train_step
from pgvae.types import Batch

CPU = torch.device("cpu")
NO_STORE = SimpleNamespace(name="tiny", digest="0" * 64)  # where no image is read
ATTRIBUTES = ("glasses", "hat")
UPDATED = ("encoder", "generator")  # the networks that have an optimiser, for most
PRETRAINED = [name for name, kind in OBJECTIVES.items() if kind.pretraining]
LABELLED = [name for name, kind in OBJECTIVES.items() if kind.needs_labels]
_VALUES = np.array([[0, 0.1, 1], [1, 0.4, 1], [0, 0.6, 1], [1, 0.9, 1]], np.float32)


class FakeStore(SimpleNamespace):
    """A set of four images up to `resolution`, three for training, with three labels or none."""

    def __init__(self, resolution: int = 16, labelled: bool = True, channels: int = 3) -> None:
        super().__init__(
            name="faces",
            digest="0" * 64,
            channels=channels,
            base=SQUARE,
            size=str(resolution),
            resolutions=tuple(2**k for k in range(2, resolution.bit_length())),
            attributes=("glasses", "hat", "always") if labelled else (),
        )

    def said(self, labels: LabelConfig) -> np.ndarray:
        columns = [self.attributes.index(name) for name in labels.attributes]
        return decide(_VALUES[:, columns], labels.no_below, labels.yes_above)

    def split(self, name: str) -> np.ndarray:
        return np.arange(3) if name == "train" else np.array([3])


def tiny_config(
    store: Store | SimpleNamespace,
    objective: str = "pioneer",
    *,
    arch: Arch | None = None,
    pretrain_kimg: float = 0.0,
    **changes: Any,
) -> RunConfig:
    """4 -> 16 px in 40 steps of 4 images: 48 + 56 (32 fading) + 56 images.

    With the networks of the objective's paper (or `arch`), but few feature maps.
    """
    chosen = OBJECTIVES[objective]()
    labels = LabelConfig(ATTRIBUTES if chosen.needs_labels else ())
    arch = arch or chosen.preset(16).arch
    own = chosen.model_settings(len(labels.attributes))
    model = {"arch": arch, **usual_settings(arch, 16), **own}
    stages = tuple(_stage(chosen, resolution) for resolution in (4, 8, 16))
    config = RunConfig(
        dataset=store.name,
        dataset_digest=store.digest,
        model=ModelConfig(resolution=16, latent_dim=8, fmap_max=8, **model),
        schedule=Schedule(stages=stages, total_kimg=0.160, pretrain_kimg=pretrain_kimg),
        objective=settings_of(chosen),
        labels=labels,
        optimizer=chosen.optimizer,
        betas=chosen.betas,
        mirror=True,
        snapshot_kimg=10.0,
    )
    return dataclasses.replace(config, **changes)


def _stage(objective: Objective, resolution: int) -> Stage:
    """48 images at 4 px; above, 32 in its fade and 24 after; with the objective's settings."""
    first, own = resolution == 4, objective.stage_settings
    return Stage(
        resolution=resolution,
        batch_size=4,
        lr=1e-3,
        fade_kimg=0.0 if first else 0.032,
        stable_kimg=0.048 if first else 0.024,
        fading={} if first else dict(own(resolution, faded=False, grown=False)),
        settings=dict(own(resolution, faded=True, grown=resolution == 16)),
    )


def with_stages(config: RunConfig, **changes: Any) -> RunConfig:
    """The config with the same changes in every stage of its schedule."""
    stages = tuple(dataclasses.replace(stage, **changes) for stage in config.schedule.stages)
    return dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, stages=stages))


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


def weights_of(state: TrainState) -> dict[str, dict[str, bytes]]:
    """The bytes of the parameters of each network."""
    return {
        part: bytes_of(dict(net.named_parameters())) for part, net in state.nets.parts().items()
    }


def all_bytes(state: TrainState) -> dict[str, bytes]:
    """Every tensor of a state: weights, averages, vectors, moments, pool."""
    found = {}
    for part, net in state.nets.parts().items():
        found |= {f"{part}/{name}": value for name, value in net.state_dict().items()}
        adam = state.optimizers[part].state if part in state.optimizers else {}
        for name, parameter in net.named_parameters() if adam else ():
            found |= {f"adam/{part}/{name}/{key}": v for key, v in adam[parameter].items()}
    if state.pool.images is not None:
        found["pool"] = state.pool.images
    return bytes_of({name: tensor.contiguous() for name, tensor in found.items()})


def random_batch(state: TrainState, count: int = 4) -> Batch:
    """Random images for the present stage of a state, with labels yes, no or unknown."""
    resolution = state.config.schedule.at(state.images_seen).resolution
    rng = torch.Generator().manual_seed(state.images_seen)
    model = state.config.model
    shape = (count, model.channels, *size_at(model.base, resolution))
    images = torch.rand(shape, generator=rng) * 2 - 1
    columns = len(state.config.labels.attributes)
    said = torch.tensor([0.0, 1.0, torch.nan])[torch.randint(3, (count, columns), generator=rng)]
    images = images.contiguous(memory_format=torch.channels_last)
    return Batch(images, said if columns else None)


def altered(inner: Objective, change: Callable) -> Objective:
    """`inner`, whose losses pass through `change(call, phase, nets, losses, context)`.

    call: the number of calls before, to it and to all that `dataclasses.replace` made of it.
    """
    calls = itertools.count()

    class Altered(type(inner)):
        def losses(self, phase, nets, batch, context):
            losses = super().losses(phase, nets, batch, context)
            return change(next(calls), phase, nets, losses, context)

    return Altered(**dataclasses.asdict(inner))


def stop_after(
    steps: int, config: RunConfig, store: Store, run_dir: Path, number: int = signal.SIGTERM
) -> Preempted:
    """`run_to` the end, with a signal to this process after some steps."""
    step, calls = engine.train_step, itertools.count(1)

    def stopping(*arguments):
        scalars = step(*arguments)
        if next(calls) == steps:
            os.kill(os.getpid(), number)
        return scalars

    with mock.patch.object(engine, "train_step", stopping), pytest.raises(Preempted) as caught:
        run_to(config, store, run_dir, config.schedule.total_kimg)
    return caught.value


def take_steps(state: TrainState, objective: Any, count: int) -> dict[str, torch.Tensor]:
    """`count` iterations on random images, as the loop takes them; -> the last scalars.

    Raises ResourceError where the loop would stop for numbers that are not finite.
    """
    scalars = {}
    for _ in range(count):
        stage = state.config.schedule.at(state.images_seen)
        state.enter(stage)
        scalars = train_step(state, objective, stage, random_batch(state), "fp32")
        state.skips.read()
    return scalars


def state_after(images: int, objective: str = "pioneer", **changes: Any) -> TrainState:
    """A tiny state that has seen `images` random images (a multiple of 4)."""
    config = tiny_config(NO_STORE, objective, **changes)
    state = TrainState.create(config, CPU, 4)
    take_steps(state, OBJECTIVES[objective](), images // 4)
    return state


def run_quietly(config: RunConfig, data: Path, run_dir: Path) -> None:
    """`run_to` its end in a process of its own, which says nothing and saves after every step."""
    engine.CHECKPOINT_SECONDS = 0.0
    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        run_to(config, Store(data), run_dir, 0.160)
