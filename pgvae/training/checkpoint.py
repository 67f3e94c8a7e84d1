"""Checkpoints: directories that hold all of a run's state, whole or not there at all.

`checkpoint-<images>/` has `state.safetensors` (weights, averages, spectral-norm vectors, Adam's
moments, image pool), `state.json` (counters and config) and `SHA256SUMS` over both. There are no
random states to keep: every random number is drawn from (seed, what, images seen).
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pgvae.config import RunConfig
from pgvae.errors import CorruptFileError
from pgvae.files import atomic_path, remove, sha256_of
from pgvae.training.state import TRAINED, TrainState

_STATE, _ABOUT, _SUMS = "state.safetensors", "state.json", "SHA256SUMS"
_FORMAT = 1
_KEEP = 2
_NETS = ("encoder", "generator", "ema")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def checkpoints_in(run_dir: Path) -> list[Path]:
    """Checkpoint directories of a run, newest first by images seen, not by clock."""
    found = [p for p in run_dir.glob("checkpoint-*") if p.name.split("-")[1].isdigit()]
    return sorted(found, key=lambda p: int(p.name.split("-")[1]), reverse=True)


def save_checkpoint(run_dir: Path, state: TrainState) -> Path:
    """Write atomically and drop all but the newest two; ResourceError when the disk is full."""
    path = run_dir / f"checkpoint-{state.images_seen:09d}"
    if path.exists():  # the same images of the same run: the same bytes, unless it was damaged
        remove(path)
    about = {
        "format": _FORMAT,
        "config": state.config.to_dict(),
        "resolution": state.resolution,
        "fading": state.nets.generator.fading,
        "images_seen": state.images_seen,
        "skipped_steps": state.skipped_steps,
        "skips_in_a_row": state.skips_in_a_row,
        "pool_count": state.pool.count,
    }
    with atomic_path(path) as aside:
        aside.mkdir()
        save_file(_tensors_of(state), aside / _STATE)
        (aside / _ABOUT).write_text(json.dumps(about, indent=1))
        (aside / _SUMS).write_bytes(_sums_of(aside))
    for old in checkpoints_in(run_dir)[_KEEP:]:
        remove(old)
    return path


def load_checkpoint(path: Path, config: RunConfig, device: torch.device) -> TrainState:
    """The state saved at `path`; CorruptFileError unless every byte is as it was written."""
    try:
        if (path / _SUMS).read_bytes() != _sums_of(path):
            raise CorruptFileError(f"{path} is damaged: its SHA-256 sums do not match")
        about = json.loads((path / _ABOUT).read_text())
        tensors = load_file(path / _STATE)
    except OSError as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    if about["format"] != _FORMAT:
        raise CorruptFileError(
            f"{path} has checkpoint format {about['format']}, this version reads {_FORMAT}"
        )
    state = TrainState.create(config, device, about["resolution"], fading=about["fading"])
    for name in ("images_seen", "skipped_steps", "skips_in_a_row"):
        setattr(state, name, about[name])
    for part in _NETS:
        getattr(state.nets, part).load_state_dict(_part(tensors, part))
    for name in TRAINED:
        _load_moments(state, name, _part(tensors, f"adam/{name}"))
    state.pool.count = about["pool_count"]
    if "pool" in tensors:
        pool = tensors["pool"].to(device)
        state.pool.images = pool.contiguous(memory_format=torch.channels_last)
    return state


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


def _sums_of(path: Path) -> bytes:
    """What `SHA256SUMS` of a checkpoint says, as `sha256sum` writes it."""
    return "".join(f"{sha256_of(path / name)}  {name}\n" for name in (_STATE, _ABOUT)).encode()


def _tensors_of(state: TrainState) -> dict[str, Tensor]:
    tensors = {
        f"{part}/{name}": tensor
        for part in _NETS
        for name, tensor in getattr(state.nets, part).state_dict().items()
    }
    for part in TRAINED:
        adam = state.optimizers[part].state
        for name, parameter in getattr(state.nets, part).named_parameters():
            for moment in _MOMENTS if parameter in adam else ():
                tensors[f"adam/{part}/{moment}/{name}"] = adam[parameter][moment]
    if state.pool.images is not None:
        tensors["pool"] = state.pool.images
    return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_moments(state: TrainState, part: str, saved: dict[str, Tensor]) -> None:
    """Give each parameter its own moments back, by name, in the parameter's memory format."""
    net: nn.Module = getattr(state.nets, part)
    for name, parameter in net.named_parameters():
        if f"step/{name}" in saved:
            moments = {
                moment: torch.empty_like(parameter).copy_(saved[f"{moment}/{name}"])
                for moment in _MOMENTS[1:]
            }
            step = saved[f"step/{name}"].to(parameter.device)
            state.optimizers[part].state[parameter] = {"step": step, **moments}
