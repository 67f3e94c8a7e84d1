"""Snapshots: all that inference needs, in one safetensors file with JSON in its metadata.

Tensors are named "encoder/...", "generator/...", "ema/..." and "mean_image" (the mean training
image, a baseline for reconstructions). A file is checked against the networks that its own
config declares *before* any tensor is read, and nothing in it is ever executed.
"""

import json
import math
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pgvae.config import ModelConfig, from_dict
from pgvae.errors import CorruptFileError, InputError
from pgvae.files import atomic_path
from pgvae.nn import build_nets
from pgvae.types import Nets

FORMAT = 1
_MAX_HEADER = 16 << 20
_PARTS = ("encoder", "generator", "ema")


@dataclass(frozen=True)
class Snapshot:
    """The networks at one moment.

    nets:        at the snapshot's resolution, in mid-fade when alpha < 1.
    config:      shape of the networks when fully grown.
    alpha:       fade of the newest stage.
    images_seen: how far the training was.
    objective:   {"name": ..., its weights}.
    attributes:  names of the labels in the training data.
    dataset:     name of the training data.
    mean_image:  [C, R, R] in [-1, 1].
    """

    nets: Nets
    config: ModelConfig
    alpha: float
    images_seen: int
    objective: dict[str, Any]
    attributes: tuple[str, ...]
    dataset: str
    mean_image: Tensor


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write atomically; ResourceError when the disk is full."""
    tensors = {"mean_image": snapshot.mean_image.contiguous().cpu()}
    for part in _PARTS:
        state = getattr(snapshot.nets, part).state_dict()
        tensors.update({f"{part}/{k}": v.contiguous().cpu() for k, v in state.items()})
    about = {
        "format": FORMAT,
        "model": asdict(snapshot.config),
        "resolution": snapshot.nets.generator.resolution,
        "alpha": snapshot.alpha,
        "images_seen": snapshot.images_seen,
        "objective": snapshot.objective,
        "attributes": list(snapshot.attributes),
        "dataset": snapshot.dataset,
    }
    with atomic_path(path) as aside:
        save_file(tensors, aside, metadata={"pgvae": json.dumps(about)})


def load_snapshot(path: str | Path) -> Snapshot:
    """Read and check a snapshot, on the CPU.

    Raises InputError where there is no such file or it is not a snapshot of this version, and
    CorruptFileError where it is truncated, or its tensors are not those it declares.
    """
    path = Path(path)
    about, header = _read_header(path)
    config, nets = _declared_networks(path, about)
    expected = {
        f"{part}/{name}": (tuple(tensor.shape), "F32")
        for part in _PARTS
        for name, tensor in getattr(nets, part).state_dict().items()
    }
    side = about["resolution"]
    expected["mean_image"] = ((config.channels, side, side), "F32")
    _compare(path, expected, header)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise CorruptFileError(f"{path} holds numbers that are not finite: {_some(broken)}")
    mean_image = tensors.pop("mean_image")
    for part in _PARTS:
        prefix = f"{part}/"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        net = getattr(nets, part)
        net.load_state_dict(state, assign=True)
        net.to(memory_format=torch.channels_last)
    fields = ("alpha", "images_seen", "objective", "dataset")
    return Snapshot(
        nets=nets,
        config=config,
        attributes=tuple(about["attributes"]),
        mean_image=mean_image,
        **{name: about[name] for name in fields},
    )


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our JSON, and safetensors' table of tensors, after checking the length of the file."""
    if not path.is_file():
        raise InputError(f"no such snapshot: {path}")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise InputError(
                f"{path} is a pickle, which could run code when opened: "
                "give a .safetensors snapshot"
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise CorruptFileError(f"{path} is truncated or not a snapshot ({size:,} bytes)")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        about = json.loads(header.pop("__metadata__")["pgvae"])
        end = max(entry["data_offsets"][1] for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path} is not a pgvae snapshot: its header is wrong") from error
    if about.get("format") != FORMAT:
        raise InputError(
            f"{path} has snapshot format {about.get('format')}, this version reads {FORMAT}: "
            "upgrade pgvae"
        )
    if size != 8 + length + end:
        raise CorruptFileError(
            f"{path} is truncated: {size:,} bytes of {8 + length + end:,}; use another snapshot"
        )
    return about, header


def _declared_networks(path: Path, about: dict[str, Any]) -> tuple[ModelConfig, Nets]:
    """The networks that the header speaks of, without memory for their weights."""
    try:
        config = from_dict(ModelConfig, about["model"], "model")
        fading = about["alpha"] < 1
        if not (4 <= about["resolution"] <= config.resolution and 0 <= about["alpha"] <= 1):
            raise ValueError("resolution or alpha out of range")
        with torch.device("meta"):
            return config, build_nets(config, about["resolution"], fading=fading)
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise CorruptFileError(f"{path} declares an impossible model: {error}") from error


def _compare(path: Path, expected: dict[str, Any], header: dict[str, Any]) -> None:
    """Raise CorruptFileError unless names, shapes, types and sizes are those expected."""
    found = {k: (tuple(v["shape"]), v["dtype"]) for k, v in header.items()}
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    wrong = sorted(k for k in expected.keys() & found.keys() if expected[k] != found[k])
    for what, names in (("lacks", missing), ("has unknown", extra), ("has misshapen", wrong)):
        if names:
            raise CorruptFileError(f"{path} {what} tensors: {_some(names)}")
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if end - begin != 4 * math.prod(entry["shape"]):
            raise CorruptFileError(f"{path} has a wrong size for tensor {name}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
