"""Using a trained model: encode, decode, edit, sample by attribute, walk between images."""

from pgvae.inference.directions import Directions, directions_path, estimate, save_directions
from pgvae.inference.model import Model, load, pick_device

__all__ = [
    "Directions",
    "Model",
    "directions_path",
    "estimate",
    "load",
    "pick_device",
    "save_directions",
]
