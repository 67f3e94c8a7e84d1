"""Images of a set as a model takes them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pgvae.checks import require
from pgvae.data import Store, fade_images, read_batches
from pgvae.inference.model import Model
from pgvae.sizes import size_named


def require_fitting(store: Store, model: Model) -> None:
    """Raise InputError unless a set has images of the model's size and channels."""
    require(
        model.resolution in store.resolutions
        and (store.base, store.channels) == (model.config.base, model.config.channels),
        f"{store.name} has no {model.config.channels}-channel images at {model.size} px: "
        f"it has {', '.join(size_named(store.base, r) for r in store.resolutions)} px, "
        f"{store.channels} channels",
    )


def batches_for(model: Model, store: Store, indices: np.ndarray) -> Iterator[Tensor]:
    """Images of a set as a model was trained on them, faded where it is in mid-fade, in batches."""
    for images in read_batches(store, indices, model.resolution, model.device, model.batch_size):
        yield fade_images(images, model.alpha)


def encode(model: Model, store: Store, indices: np.ndarray) -> Tensor:
    """Latents of images of a set: [N, d], on the CPU."""
    return torch.cat([model.encode(part).cpu() for part in batches_for(model, store, indices)])
