"""Image sets: sources, preparation, the store, the loader."""

from pgvae.data.datasets import load_images, open_dataset, prepared_in
from pgvae.data.loader import Loader, fade_images, read_batches, read_images
from pgvae.data.store import Store

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
