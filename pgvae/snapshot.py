"""Snapshots: all that inference needs, in one safetensors file with JSON in its metadata.

Tensors are named "encoder/...", "generator/...", "ema/...", "ema_encoder/..." (the averages) and
"mean_image" (the mean training image, a baseline for reconstructions); where a prior was fitted,
"prior/...". A file is checked against the networks and the prior that its own header declares
*before* any tensor is read, and nothing in it is ever executed.
"""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pgvae.checks import require
from pgvae.config import ModelConfig, from_dict
from pgvae.errors import CorruptFileError, InputError, PgvaeError
from pgvae.files import require_utf8
from pgvae.nn import build_nets
from pgvae.prior import MOST_COMPONENTS, FittedPrior
from pgvae.seal import require_sealed, save_sealed
from pgvae.sizes import check_resolution, size_at
from pgvae.types import AVERAGES, Nets

T = TypeVar("T")

FORMAT = 1
PRETRAINED = "model.safetensors"  # of a folder that was made to be given away
_MAX_HEADER = 16 << 20
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}  # the second for batch norm's count
_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# What taking apart JSON that is not as it should be may raise; too deep nesting is a RuntimeError.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
_PRIOR = ("weights", "means", "factors")  # its tensors
_FIELDS = {
    "resolution": int,
    "images_seen": int,
    "objective": dict,
    "attributes": list,
    "dataset": str,
}


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
    mean_image:  [C, R, R] in [-1, 1]; zeros where it is not known.
    prior:       fitted to latents of training images; None where there is none.
    """

    nets: Nets
    config: ModelConfig
    alpha: float
    images_seen: int
    objective: dict[str, Any]
    attributes: tuple[str, ...]
    dataset: str
    mean_image: Tensor
    prior: FittedPrior | None = None


class _Entry(NamedTuple):
    """A tensor in the header of a file; size in bytes."""

    shape: tuple[int, ...]
    dtype: str
    size: int


def save_snapshot(path: Path, snapshot: Snapshot, *, averages_only: bool = False) -> None:
    """Write atomically; ResourceError when the disk is full.

    averages_only: half of the file, all that inference needs.

    >>> save_snapshot(folder / "snapshot-60.safetensors", snapshot)
    >>> load_snapshot(folder / "snapshot-60.safetensors").attributes
    ('glasses', 'hat')
    """
    tensors = {"mean_image": snapshot.mean_image.contiguous().cpu()}
    for part, net in snapshot.nets.parts().items():
        if averages_only and part not in AVERAGES:
            continue
        state = net.state_dict()
        tensors.update({f"{part}/{k}": v.contiguous().cpu() for k, v in state.items()})
    about = {
        "format": FORMAT,
        "model": snapshot.config.to_dict(),
        "resolution": snapshot.nets.generator.resolution,
        "alpha": snapshot.alpha,
        "images_seen": snapshot.images_seen,
        "objective": snapshot.objective,
        "attributes": list(snapshot.attributes),
        "dataset": snapshot.dataset,
    }
    if snapshot.prior:
        own = asdict(snapshot.prior)
        tensors.update({f"prior/{name}": own.pop(name).contiguous() for name in _PRIOR})
        about["prior"] = {**own, "components": snapshot.prior.components}
    save_sealed(path, tensors, about)


def newest_snapshot(path: Path) -> Path:
    """The snapshot itself, the newest one of a run directory, or a folder's `PRETRAINED`.

    InputError without any.

    >>> for name in ("snapshot-60.safetensors", "snapshot-200.safetensors"):
    ...     (folder / name).touch()
    >>> newest_snapshot(folder).name
    'snapshot-200.safetensors'
    """
    if not (_written(path) and path.is_dir()):
        return path
    found = snapshots_in(path)
    if not found and (path / PRETRAINED).is_file():
        return path / PRETRAINED
    require(
        bool(found),
        f"no snapshot-*.safetensors in {path}: a run writes its first one early, and one when it "
        "is stopped; give another run directory or a file",
    )
    return found[-1]


def load_newest(path: Path) -> tuple[Path, Snapshot]:
    """What `newest_snapshot` finds, and what `load_snapshot` reads of it; raises as they do.

    Where a run that trains deletes it meanwhile, the newer one.
    """
    before = path
    while True:
        file = newest_snapshot(path)
        try:
            return file, load_snapshot(file)
        except (PgvaeError, OSError):
            if file == before or _written(file):  # a link that leads nowhere is found again
                raise
            before = file


def snapshots_in(run_dir: Path) -> list[Path]:
    """The snapshots of a run directory, oldest first by images seen, not by clock."""
    found = [p for p in run_dir.glob("snapshot-*.safetensors") if p.stem[9:].isdigit()]
    return sorted(found, key=lambda p: int(p.stem[9:]))


@torch.inference_mode(False)  # or a caller in it would get weights for it alone
def load_snapshot(path: str | Path) -> Snapshot:
    """Read and check a snapshot, on the CPU.

    Raises InputError where there is no such file or it is not a snapshot of this version, and
    CorruptFileError where it is truncated, or its tensors are not those it declares or was
    written with.

    >>> load_snapshot("runs/none.safetensors")
    Traceback (most recent call last):
    pgvae.errors.InputError: no such snapshot: runs/none.safetensors
    """
    path = Path(path)
    require_utf8(path)
    before = _written(path)
    try:
        return _read(path)
    except PgvaeError:
        if _written(path) == before:
            raise
        return load_snapshot(path)  # it was replaced meanwhile, so half of each was read


def _written(path: Path) -> tuple[int, int] | None:
    """Which file is there, and when it was written."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # also of a name that no drive takes
        return None
    return found.st_ino, found.st_mtime_ns


def _read(path: Path) -> Snapshot:
    about, found = _read_header(path)
    config, nets = _declared_networks(path, about)
    expected = {
        f"{part}/{name}": _entry(tensor.shape, _DTYPES[tensor.dtype])
        for part, net in nets.parts().items()
        for name, tensor in net.state_dict().items()
    }
    size = size_at(config.base, about["resolution"])
    expected["mean_image"] = _entry((config.channels, *size))
    expected.update(_declared_prior(path, about, config.latent_dim))
    _compare(path, expected, with_averages(found))
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} cannot be read: {error}") from error
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise CorruptFileError(f"{path} holds numbers that are not finite: {_some(broken)}")
    require_sealed(path, tensors, about)
    tensors = with_averages(tensors)
    mean_image = tensors.pop("mean_image")
    for part, net in nets.parts().items():
        prefix = f"{part}/"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if part in AVERAGES:  # of older files: the encoder's own tensors
            state = {name: tensor.clone() for name, tensor in state.items()}
        net.load_state_dict(state, assign=True)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs
    fields = ("alpha", "images_seen", "objective", "dataset")
    return Snapshot(
        nets=nets,
        config=config,
        attributes=tuple(about["attributes"]),
        mean_image=mean_image,
        prior=_prior(path, about, tensors) if "prior" in about else None,
        **{name: about[name] for name in fields},
    )


def with_averages(entries: dict[str, T]) -> dict[str, T]:
    """What a file says of its tensors, by name, with those of the networks that it lacks.

    In older files the average of the encoder is the encoder itself; where a file has averages
    alone, they are the networks.

    >>> sorted(with_averages({"encoder/rgb": 1, "ema/rgb": 2}))
    ['ema/rgb', 'ema_encoder/rgb', 'encoder/rgb']
    >>> sorted(with_averages({"ema/rgb": 1, "ema_encoder/rgb": 2}))
    ['ema/rgb', 'ema_encoder/rgb', 'encoder/rgb', 'generator/rgb']
    """
    if not any(name.startswith((*AVERAGES.values(),)) for name in entries):
        for average, network in AVERAGES.items():
            own = {k: v for k, v in entries.items() if k.startswith(f"{average}/")}
            entries = {**entries, **{k.replace(average, network, 1): v for k, v in own.items()}}
        return entries
    of_networks = {f"ema_{k}": v for k, v in entries.items() if k.startswith("encoder/")}
    has = any(name.startswith("ema_encoder/") for name in entries)
    return entries if has else {**entries, **of_networks}


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, _Entry]]:
    """Our JSON, and safetensors' table of tensors, after checking the length of the file."""
    if not (_written(path) and path.is_file()):
        raise InputError(f"no such snapshot: {path}")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        raw = file.read(length) if 2 <= length <= min(_MAX_HEADER, size - 8) else b""
    if not raw.startswith(b"{"):
        if start.startswith(_PICKLES):
            raise InputError(
                f"{path} is a pickle, which could run code when opened: "
                "give a .safetensors snapshot"
            )
        raise CorruptFileError(f"{path} is truncated or not a snapshot ({size:,} bytes)")
    try:
        header = json.loads(raw)
        about = json.loads(header.pop("__metadata__")["pgvae"])
        found_format = about.get("format")
    except MALFORMED as error:
        raise CorruptFileError(f"{path} is not a pgvae snapshot: its header is wrong") from error
    if found_format != FORMAT:
        raise InputError(
            f"{path} has snapshot format {_short(found_format)}, this version reads {FORMAT}: "
            "upgrade pgvae"
        )
    try:
        declared = 8 + length + max(entry["data_offsets"][1] for entry in header.values())
        table = {name: _read_entry(entry) for name, entry in header.items()}
    except MALFORMED as error:
        raise CorruptFileError(f"{path} is damaged: its table of tensors is wrong") from error
    if size != declared:
        raise CorruptFileError(
            f"{path} is truncated: {size:,} bytes of {declared:,}; use another snapshot"
        )
    return about, table


def _read_entry(entry: dict[str, Any]) -> _Entry:
    begin, end = entry["data_offsets"]
    return _Entry(tuple(entry["shape"]), entry["dtype"], end - begin)


def _entry(shape: Sequence[int], dtype: str = "F32") -> _Entry:
    """The entry of a tensor, by default of float32."""
    return _Entry(tuple(shape), dtype, (8 if dtype == "I64" else 4) * math.prod(shape))


def _declared_networks(path: Path, about: dict[str, Any]) -> tuple[ModelConfig, Nets]:
    """The networks that the header speaks of, without memory for their weights."""
    try:
        for name, kind in _FIELDS.items():
            if not isinstance(about[name], kind):
                raise TypeError(f"{name} is {_short(about[name])}")
        if not all(isinstance(name, str) for name in about["attributes"]):
            raise TypeError("attributes are not names")
        config = from_dict(ModelConfig, about["model"], "model")
        resolution, alpha = check_resolution(about["resolution"]), about["alpha"]
        if not (resolution <= config.resolution and 0 <= alpha <= 1 and about["images_seen"] >= 0):
            raise ValueError("resolution, alpha or images_seen out of range")
        with torch.device("meta"):
            return config, build_nets(config, resolution, fading=alpha < 1)
    except (*MALFORMED, InputError) as error:
        raise CorruptFileError(f"{path} declares an impossible model: {_short(error)}") from error


def _declared_prior(path: Path, about: dict[str, Any], d: int) -> dict[str, _Entry]:
    """The tensors of the prior that the header speaks of; none where there is no prior."""
    if "prior" not in about:
        return {}
    said = about["prior"]
    try:
        k = said["components"]
        sound = type(k) is int and 1 <= k <= MOST_COMPONENTS and type(said["is_default"]) is bool
        if not (sound and isinstance(said["about"], dict) and isinstance(said["kind"], str)):
            raise ValueError(said)
    except MALFORMED as error:
        raise CorruptFileError(f"{path} declares an impossible prior: {_short(error)}") from error
    shapes = ((k,), (k, d), (k, d, d))
    return {f"prior/{n}": _entry(shape) for n, shape in zip(_PRIOR, shapes, strict=True)}


def _prior(path: Path, about: dict[str, Any], tensors: dict[str, Tensor]) -> FittedPrior:
    """The prior of a file that was compared with what it declares."""
    said: dict[str, Any] = {n: about["prior"][n] for n in ("kind", "is_default", "about")}
    said |= {name: tensors[f"prior/{name}"] for name in _PRIOR}
    try:
        return FittedPrior(**said)
    except InputError as error:
        raise CorruptFileError(f"{path} holds an impossible prior: {error}") from error


def _compare(path: Path, expected: dict[str, _Entry], found: dict[str, _Entry]) -> None:
    """Raise CorruptFileError unless names, shapes, types and sizes are those expected."""
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    wrong = sorted(k for k in expected.keys() & found.keys() if expected[k] != found[k])
    for what, names in (("lacks", missing), ("has unknown", extra), ("has misshapen", wrong)):
        if names:
            raise CorruptFileError(f"{path} {what} tensors: {_some(names)}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(_short(name) for name in names[:5]) + more
