"""Checkpoints: directories that hold all of a run's state, whole or not there at all.

`checkpoint-<images>/` has `state.safetensors` (weights, averages, spectral-norm vectors, Adam's
moments, image pool), `state.json` (counters and config) and `SHA256SUMS` over both. There are no
random states to keep: every random number is drawn from (seed, what, images seen).
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pgvae.config import ModelConfig, RunConfig, from_dict
from pgvae.errors import CorruptFileError
from pgvae.files import SUMS, atomic_path, content_of, remove, sums_of
from pgvae.nn import build_nets
from pgvae.seal import write_tensors
from pgvae.sizes import size_at
from pgvae.snapshot import Snapshot, with_averages
from pgvae.training.state import Skips, TrainState

STATE, _ABOUT = "state.safetensors", "state.json"
_FORMAT = 1
_KEEP = 2
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def checkpoints_in(run_dir: Path) -> list[Path]:
    """Checkpoint directories of a run, newest first by images seen, not by clock."""
    found = [p for p in run_dir.glob("checkpoint-*") if p.name.split("-")[1].isdigit()]
    return sorted(found, key=lambda p: int(p.name.split("-")[1]), reverse=True)


def save_checkpoint(run_dir: Path, state: TrainState) -> Path:
    """Write atomically and drop all older ones but one; ResourceError when the disk is full."""
    path = run_dir / f"checkpoint-{state.images_seen:09d}"
    if path.exists() or path.is_symlink():  # the same images of the same run: the same bytes,
        remove(path)  # unless it was damaged or is a link
    skipped, in_a_row = state.skips.read()
    about = {
        "format": _FORMAT,
        "config": state.config.to_dict(),
        "resolution": state.resolution,
        "fading": state.nets.generator.fading,
        "images_seen": state.images_seen,
        "skipped_steps": skipped,
        "skips_in_a_row": in_a_row,
        "pool_count": state.pool.count,
        "augment": state.augment,
        "rollbacks": state.rollbacks,
    }
    tensors = _tensors_of(state)
    with atomic_path(path, needs=sum(tensor.nbytes for tensor in tensors.values())) as aside:
        aside.mkdir()
        write_tensors(aside / STATE, tensors)
        (aside / _ABOUT).write_text(json.dumps(about, indent=1))
        (aside / SUMS).write_bytes(sums_of(aside, (STATE, _ABOUT)))
    older = checkpoints_in(run_dir)  # and newer ones, which were damaged and are no reserve
    for old in older[older.index(path) + _KEEP :]:
        with contextlib.suppress(OSError):  # some drives keep what another program reads
            remove(old.rename(old.with_name(f".{old.name}.tmp")))  # nobody sees a half of it
    return path


def is_whole(path: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written."""
    try:
        return content_of(path / SUMS) == sums_of(path, (STATE, _ABOUT))
    except OSError:
        return False


def require_whole(path: Path) -> None:
    """Raise CorruptFileError unless `is_whole`."""
    if not is_whole(path):
        raise CorruptFileError(f"{path} is damaged: its SHA-256 sums do not match")


def load_checkpoint(path: Path, config: RunConfig, device: torch.device) -> TrainState:
    """The state saved at `path`; CorruptFileError unless every byte is as it was written."""
    about, tensors = _read(path)
    state = TrainState.create(config, device, about["resolution"], fading=about["fading"])
    state.images_seen = about["images_seen"]
    state.skips = Skips(device, about["skipped_steps"], about["skips_in_a_row"])
    for part, net in state.nets.parts().items():
        net.load_state_dict(_part(tensors, part))
    for part, optimizer in state.optimizers.items():
        _load_moments(optimizer, state.nets.parts()[part], _part(tensors, f"adam/{part}"))
    state.pool.count = about["pool_count"]
    # A run of before went on without.
    state.rollbacks, state.augment = about.get("rollbacks", 0), about.get("augment", 0.0)
    if "pool" in tensors:
        pool = tensors["pool"].to(device)
        state.pool.images = pool.contiguous(memory_format=torch.channels_last)
    return state


def load_weights(path: Path) -> Snapshot:
    """The networks of a checkpoint, to start another run from; without a mean image.

    Raises CorruptFileError as `load_checkpoint`.
    """
    about, tensors = _read(path)
    config = from_dict(ModelConfig, about["config"]["model"], "model")
    nets = build_nets(config, about["resolution"], fading=about["fading"])
    for part, net in nets.parts().items():
        net.load_state_dict(_part(tensors, part))
    return Snapshot(
        nets=nets,
        config=config,
        alpha=1.0,
        images_seen=about["images_seen"],
        objective=about["config"]["objective"],
        attributes=tuple(about["config"]["labels"]["attributes"]),
        dataset=about["config"]["dataset"],
        mean_image=torch.zeros(config.channels, *size_at(config.base, about["resolution"])),
    )


def load_newest(run_dir: Path, config: RunConfig, device: torch.device, warn) -> TrainState | None:
    """The newest checkpoint that is whole, or None where there is none; tells `warn` of others.

    CorruptFileError where there are checkpoints and all are damaged.
    """
    found = checkpoints_in(run_dir)
    for path in found:
        try:
            return load_checkpoint(path, config, device)
        except CorruptFileError as error:
            warn(f"{error}; trying the one before")
    if found:
        raise CorruptFileError(f"all {len(found)} checkpoints of {run_dir} are damaged")
    return None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What state.json says, and the tensors; CorruptFileError unless the sums are right."""
    require_whole(path)
    try:
        about = json.loads(content_of(path / _ABOUT))
        tensors = load_file(path / STATE)
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    if about["format"] != _FORMAT:
        raise CorruptFileError(
            f"{path} has checkpoint format {about['format']}, this version reads {_FORMAT}"
        )
    return about, with_averages(tensors)


def _tensors_of(state: TrainState) -> dict[str, Tensor]:
    tensors = {
        f"{part}/{name}": tensor
        for part, net in state.nets.parts().items()
        for name, tensor in net.state_dict().items()
    }
    for part, net in state.nets.trained().items():
        adam = state.optimizers[part].state
        for name, parameter in net.named_parameters():
            for moment, value in adam.get(parameter, {}).items():
                tensors[f"adam/{part}/{moment}/{name}"] = value
    if state.pool.images is not None:
        tensors["pool"] = state.pool.images
    return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_moments(optimizer: torch.optim.Adam, net: nn.Module, saved: dict[str, Tensor]) -> None:
    """Give each parameter its own moments back, by name, in the parameter's memory format."""
    for name, parameter in net.named_parameters():
        for moment in _MOMENTS:
            if (value := saved.get(f"{moment}/{name}")) is not None:
                # A moment in the parameter's memory format; the count of steps is a scalar.
                like = parameter if value.ndim else value.to(parameter.device)
                optimizer.state[parameter][moment] = torch.empty_like(like).copy_(value)
