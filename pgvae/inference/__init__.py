"""Using a trained model: encode, decode, edit, sample by attribute, walk between images."""

from pgvae.inference.device import pick_device
from pgvae.inference.directions import Directions, directions_path, estimate, save_directions
from pgvae.inference.model import Model, load

__all__ = [
    "Directions",
    "Model",
    "directions_path",
    "estimate",
    "load",
    "pick_device",
    "save_directions",
]
