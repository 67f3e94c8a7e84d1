"""Image sets: sources, preparation, the store, the loader."""

from typing import TYPE_CHECKING, Any

from pgvae.data.datasets import load_images, open_dataset, prepared_in
from pgvae.data.store import Store

if TYPE_CHECKING:
    from pgvae.data.loader import Loader, fade_images, read_batches, read_images

__all__ = [
    "Loader",
    "Store",
    "fade_images",
    "load_images",
    "open_dataset",
    "prepared_in",
    "read_batches",
    "read_images",
]


def __getattr__(name: str) -> Any:
    """Import the loader on first use: it alone needs PyTorch, and preparing a set does not."""
    if name not in __all__:
        raise AttributeError(f"module 'pgvae.data' has no attribute {name!r}")
    from pgvae.data import loader

    return getattr(loader, name)
