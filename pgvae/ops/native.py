"""Finds and loads the compiled kernels of csrc/, and says what there is and why."""

import json
from pathlib import Path

import torch

from pgvae.ops import registered  # noqa: F401  the libraries implement what it registers

FOLDER = Path(__file__).parent / "lib"
_LEAST_TORCH = (2, 10)  # whose stable ABI the libraries use
_DTYPES = {
    "cpu": (torch.float32, torch.bfloat16, torch.float64),
    "cuda": (torch.float32, torch.bfloat16),
}


def _load(device: str) -> str:
    """Load the library for a device; -> "" or why that cannot be."""
    path = FOLDER / f"libpgvae_{device}.so"
    if not path.exists():
        return _why_absent(device)
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _LEAST_TORCH:
        return f"torch {torch.__version__} is older than 2.10"
    if device == "cuda" and torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} does not load: {error}"
    return ""


def _why_absent(device: str) -> str:
    """What the build noted down when it left a library out."""
    try:
        notes = json.loads((FOLDER / "build.json").read_text(encoding="utf-8"))
        return str(notes[device])
    except (OSError, ValueError, KeyError):
        return "not built: run `pip install -e .` with a C++ compiler installed"


_PROBLEMS = {device: _load(device) for device in _DTYPES}


def is_loaded(x: torch.Tensor) -> bool:
    """Whether the library for the device of `x` is there, whatever the dtype.

    >>> is_loaded(torch.empty(0, device="meta"))
    False
    """
    return not _PROBLEMS.get(x.device.type, "absent")


def why_not(x: torch.Tensor) -> str:
    """Why there is no native kernel for tensors like `x`; "" where there is.

    >>> why_not(torch.empty(0, device="meta"))
    'no kernels for meta'
    """
    device = x.device.type
    if device not in _DTYPES:
        return f"no kernels for {device}"
    if _PROBLEMS[device]:
        return _PROBLEMS[device]
    return "" if x.dtype in _DTYPES[device] else f"no {device} kernel for {x.dtype}"


def on(device: torch.device) -> str:
    """What runs on a device: "native ops", or "reference ops (why)".

    >>> on(torch.device("meta"))
    'reference ops (no kernels for meta)'
    """
    problem = _PROBLEMS.get(device.type, f"no kernels for {device.type}")
    return f"reference ops ({problem})" if problem else "native ops"


def summary(*devices: str) -> str:
    """A phrase for some devices, or all: "native on CPU; not on CUDA (nvcc not found)".

    >>> "on CPU" in summary("cpu"), "CUDA" in summary("cpu")
    (True, False)
    """
    parts = [
        f"not on {device.upper()} ({problem})" if problem else f"native on {device.upper()}"
        for device, problem in _PROBLEMS.items()
        if device in (devices or _PROBLEMS)
    ]
    return "; ".join(parts)
