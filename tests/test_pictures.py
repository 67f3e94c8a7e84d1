"""Tensors to pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from pgvae.pictures import grid_of, interleave, save_grid, save_images, to_bytes, to_picture


def flat(*values: float, channels: int = 3, side: int = 64) -> torch.Tensor:
    """Images of one value each."""
    column = torch.tensor(values).view(-1, 1, 1, 1)
    return column.expand(len(values), channels, side, side)


def test_the_range_is_stretched_to_bytes_and_clamped():
    raw = to_bytes(flat(-1.0, 1.0, 0.0, -7.0, 7.0))
    assert raw.dtype == np.uint8
    assert raw.shape == (5, 64, 64, 3)
    assert [int(image[0, 0, 0]) for image in raw] == [0, 255, 128, 0, 255]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_byte_comes_back_from_its_own_value(dtype):
    levels = torch.arange(256, dtype=dtype) / 127.5 - 1
    assert to_bytes(levels.view(256, 1, 1, 1)).ravel().tolist() == list(range(256))


def test_one_channel_is_a_grey_picture_and_three_are_colour():
    assert to_picture(np.zeros((4, 4, 1), np.uint8)).mode == "L"
    assert to_picture(np.zeros((4, 4, 3), np.uint8)).mode == "RGB"


def test_a_grid_goes_row_by_row_and_its_empty_cells_are_white():
    grid = grid_of(flat(-1.0, -0.5, 0.0, 0.5, 0.0), columns=3)
    assert grid.shape == (2 * 64, 3 * 64, 3)
    cells = [[int(grid[y, x, 0]) for x in (10, 74, 138)] for y in (10, 74)]
    assert cells == [[0, 64, 128], [191, 128, 255]]


def test_a_grid_without_columns_is_about_square():
    assert grid_of(flat(*[0.0] * 16)).shape[:2] == (256, 256)
    assert grid_of(flat(*[0.0] * 5)).shape[:2] == (128, 192)
    assert grid_of(flat(0.0)).shape[:2] == (64, 64)


def test_small_images_are_enlarged_pixel_by_pixel():
    images = torch.linspace(-1, 1, 3 * 16).view(1, 3, 4, 4)
    grid = grid_of(images)
    assert grid.shape == (64, 64, 3)
    assert np.array_equal(grid[::16, ::16], to_bytes(images)[0])
    assert np.array_equal(grid[15::16, 15::16], to_bytes(images)[0])


def test_large_images_keep_their_size():
    assert grid_of(flat(0.0, 0.0, side=128), columns=2).shape == (128, 256, 3)


def test_rows_of_the_first_stand_above_those_of_the_second():
    first, second = flat(*range(5), side=1), flat(*range(10, 15), side=1)
    order = interleave(first, second, columns=2)[:, 0, 0, 0].int().tolist()
    assert order == [0, 1, 10, 11, 2, 3, 12, 13, 4, 1, 14, 1]  # white is 1


def test_pictures_on_disk_hold_the_same_bytes(tmp_path):
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    save_images(paths, images)
    save_grid(tmp_path / "grid.png", images, 3)
    for path, raw in zip(paths, to_bytes(images), strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), raw)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "grid.png")), grid_of(images, 3))


def test_as_many_paths_as_images_are_needed(tmp_path):
    with pytest.raises(ValueError, match="longer"):
        save_images([tmp_path / "a.png"], flat(0.0, 0.0))
