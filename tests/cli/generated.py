"""What the tests of `pgvae generate` share: some of its options, and its pictures as numbers."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

GLASSES = ("--attribute", "glasses")
BOTH = (*GLASSES, "--attribute", "hat")
# The classifier is hardly trained, and sure of nothing that it sees: let it be.
RIGHT = ("conditional", "--with", "glasses=1,hat=0", "--method", "rejection", "--sure", "0.1")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def as_pixels(images: torch.Tensor) -> np.ndarray:
    """[N, C, R, R] in [-1, 1] -> levels [N, R, R, C]."""
    return ((images.permute(0, 2, 3, 1).double().numpy() + 1) * 127.5).round().astype(int)


def as_images(levels: np.ndarray) -> torch.Tensor:
    """Levels [N, R, R, C] -> [N, C, R, R] in [-1, 1]."""
    return torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 127.5 - 1


def cells(grid: np.ndarray) -> np.ndarray:
    """A grid of images at 8 px: [rows, columns, 8, 8, C]."""
    rows, columns = (side // 64 for side in grid.shape[:2])
    small = grid.reshape(rows, 8, 8, columns, 8, 8, -1)
    assert (small == small[:, :, :1, :, :, :1]).all()  # enlarged pixel by pixel
    return small[:, :, 0, :, :, 0].transpose(0, 2, 1, 3, 4)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for the rounding of a level."""
    return a.shape == b.shape and abs(a - b).max() <= 1


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
