"""Image sets: sources, preparation, the store, the loader."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgvae.data.datasets import load_images, open_dataset, prepared_in, prepared_set
    from pgvae.data.loader import Loader, fade_images, read_batches, read_images
    from pgvae.data.store import Store

_HOMES = {
    "datasets": ("load_images", "open_dataset", "prepared_in", "prepared_set"),
    "loader": ("Loader", "fade_images", "read_batches", "read_images"),
    "store": ("Store",),
}
__all__ = [
    "Loader",
    "Store",
    "fade_images",
    "load_images",
    "open_dataset",
    "prepared_in",
    "prepared_set",
    "read_batches",
    "read_images",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: the loader alone needs PyTorch, and a worker little."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pgvae.data.{home}"), name)
    raise AttributeError(f"module 'pgvae.data' has no attribute {name!r}")
