"""pgvae: generative autoencoders that grow from 4x4 to 1024x1024.

import pgvae
model = pgvae.load("runs/00000-faces-pioneer-64px/snapshot-000600000.safetensors")
images = model.sample(16, seed=0)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgvae import data, metrics, objectives, ops, schedule
    from pgvae.inference import Model, load
    from pgvae.request import Request
    from pgvae.training.start import train

__version__ = "0.1.0"

_MODULES = ("data", "metrics", "objectives", "ops", "schedule")
_FROM = {
    "Model": "pgvae.inference",
    "Request": "pgvae.request",
    "load": "pgvae.inference",
    "train": "pgvae.training.start",
}

__all__ = [
    "Model",
    "Request",
    "__version__",
    "data",
    "load",
    "metrics",
    "objectives",
    "ops",
    "schedule",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import on first use: the commands must set up a process before PyTorch is in it."""
    if name in _MODULES:
        return importlib.import_module(f"pgvae.{name}")
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    raise AttributeError(f"module 'pgvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
