"""Using a trained model: encode, decode, edit, sample by attribute, walk between images."""

from pgvae.inference.choice import describe, fit_prior
from pgvae.inference.device import pick_device
from pgvae.inference.directions import Directions, directions_path, estimate, save_directions
from pgvae.inference.fits import fit_gaussian, fit_mixture
from pgvae.inference.model import Model, load
from pgvae.prior import FittedPrior

__all__ = [
    "Directions",
    "FittedPrior",
    "Model",
    "describe",
    "directions_path",
    "estimate",
    "fit_gaussian",
    "fit_mixture",
    "fit_prior",
    "load",
    "pick_device",
    "save_directions",
]
