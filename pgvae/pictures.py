"""Tensors of images to PNG files and grids."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_MIN_CELL = 64


def to_bytes(images: Tensor) -> np.ndarray:
    """[N, C, H, W] in [-1, 1] (clamped) -> uint8 [N, H, W, C]."""
    levels = (images.detach().float().clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def to_picture(image: np.ndarray) -> Image.Image:
    """uint8 [H, W, C] with 1 or 3 channels to a Pillow image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def grid_of(images: Tensor, columns: int | None = None) -> np.ndarray:
    """[N, C, R, R] in [-1, 1] -> one picture, uint8 [H, W, C], row by row on white.

    Images under 64 px are enlarged by whole factors, pixel by pixel, so that they can be seen.
    """
    cells = to_bytes(images)
    count, side = cells.shape[0], cells.shape[1]
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    blank = np.full((rows * columns - count, *cells.shape[1:]), 255, np.uint8)
    factor = max(1, _MIN_CELL // side)
    cells = np.concatenate([cells, blank]).repeat(factor, axis=1).repeat(factor, axis=2)
    cell = side * factor
    cells = cells.reshape(rows, columns, cell, cell, -1)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * cell, columns * cell, -1)


def save_grid(path: Path, images: Tensor, columns: int | None = None) -> None:
    """Write `grid_of(images, columns)` as a PNG."""
    to_picture(grid_of(images, columns)).save(path)


def save_images(paths: list[Path], images: Tensor) -> None:
    """Write each of [N, C, R, R] in [-1, 1] as a PNG of its own."""
    for path, image in zip(paths, to_bytes(images), strict=True):
        to_picture(image).save(path)


def interleave(first: Tensor, second: Tensor, columns: int) -> Tensor:
    """Rows of `first` above the matching rows of `second`, the last ones filled up with white.

    [N, C, R, R] in [-1, 1] twice -> [2 M, C, R, R], M the next multiple of `columns`.
    """
    white = first.new_ones(-len(first) % columns, *first.shape[1:])
    first, second = torch.cat([first, white]), torch.cat([second, white])
    rows = zip(first.split(columns), second.split(columns), strict=True)
    return torch.cat([row for pair in rows for row in pair])
