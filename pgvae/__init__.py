"""pgvae: generative autoencoders that grow from 4x4 to 1024x1024.

import pgvae
model = pgvae.load("runs/00000-faces-pioneer-64px/snapshot-000600000.safetensors")
images = model.sample(16, seed=0)
"""

from pgvae import data, metrics, objectives, ops, schedule
from pgvae.inference import Model, load

__version__ = "0.1.0"

__all__ = [
    "Model",
    "__version__",
    "data",
    "load",
    "metrics",
    "objectives",
    "ops",
    "schedule",
]
