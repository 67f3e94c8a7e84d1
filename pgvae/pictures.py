"""Tensors of images to PNG files, grids and animations. ResourceError where the disk is full."""

import importlib.util
import itertools
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pgvae.choices import Animation
from pgvae.errors import InputError
from pgvae.files import atomic_path

ANIMATIONS: tuple[str, ...] = get_args(Animation)
_MIN_CELL = 64


def to_bytes(images: Tensor) -> np.ndarray:
    """[N, C, H, W] in [-1, 1] (clamped) -> uint8 [N, H, W, C].

    >>> to_bytes(torch.tensor([-1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 2, 2)).flatten().tolist()
    [0, 128, 255, 255]
    """
    levels = (images.detach().float().clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def to_picture(image: np.ndarray) -> Image.Image:
    """uint8 [H, W, C] with 1 or 3 channels to a Pillow image.

    >>> [to_picture(np.zeros((2, 3, channels), np.uint8)).mode for channels in (1, 3)]
    ['L', 'RGB']
    """
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def grid_of(images: Tensor, columns: int | None = None) -> np.ndarray:
    """[N, C, R, R] in [-1, 1] -> one picture, uint8 [H, W, C], row by row on white.

    Images under 64 px (of the longer side) are enlarged by whole factors, pixel by pixel, so that
    they can be seen.

    >>> grid_of(torch.zeros(5, 3, 8, 8)).shape  # two rows of three
    (128, 192, 3)
    """
    cells = to_bytes(images)
    count, *sides = cells.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    blank = np.full((rows * columns - count, *cells.shape[1:]), 255, np.uint8)
    factor = max(1, _MIN_CELL // max(sides))
    cells = np.concatenate([cells, blank]).repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = (side * factor for side in sides)
    cells = cells.reshape(rows, columns, height, width, -1)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, -1)


def save_grid(path: Path, images: Tensor, columns: int | None = None) -> None:
    """Write `grid_of(images, columns)` as a PNG.

    >>> save_grid(folder / "samples.png", model.sample(4))
    >>> (folder / "samples.png").read_bytes()[1:4]
    b'PNG'
    """
    save_picture(path, to_picture(grid_of(images, columns)))


def save_images(paths: list[Path], images: Tensor) -> None:
    """Write each of [N, C, R, R] in [-1, 1] as a PNG of its own.

    >>> save_images([folder / "a.png", folder / "b.png"], model.sample(2))
    >>> sorted(file.name for file in folder.iterdir())
    ['a.png', 'b.png']
    """
    for path, image in zip(paths, to_bytes(images), strict=True):
        save_picture(path, to_picture(image))


def save_picture(path: Path, picture: Image.Image, **how: Any) -> None:
    """Write a Pillow image whole or not at all, in the format of its ending, .png or .gif."""
    with atomic_path(path, flushed=False) as aside:
        picture.save(aside, path.suffix.removeprefix("."), **how)


def interleave(*sets: Tensor, columns: int) -> Tensor:
    """Rows of the first set, below each the matching rows of the others, filled up with white.

    K times [N, C, R, R] in [-1, 1] -> [K M, C, R, R], M the next multiple of `columns`.

    >>> images = torch.tensor([-1.0, -0.5, 0.25]).reshape(3, 1, 1, 1)
    >>> interleave(images, -images, columns=2).flatten().tolist()
    [-1.0, -0.5, 1.0, 0.5, 0.25, 1.0, -0.25, 1.0]
    """
    white = sets[0].new_ones(-len(sets[0]) % columns, *sets[0].shape[1:])
    rows = zip(*(torch.cat([images, white]).split(columns) for images in sets), strict=True)
    return torch.cat([row for group in rows for row in group])


def check_animation(ending: str) -> None:
    """Raise InputError unless animations of this ending, one of `ANIMATIONS`, can be written.

    >>> check_animation("avi")
    Traceback (most recent call last):
    pgvae.errors.InputError: animations are gif, png, mp4: got 'avi'
    """
    if ending not in ANIMATIONS:
        raise InputError(f"animations are {', '.join(ANIMATIONS)}: got {ending!r}")
    if ending == "mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise InputError(
            "mp4 needs the package imageio-ffmpeg: pip install 'pgvae[video]', or take gif or png"
        )


def save_animation(path: Path, images: Tensor, fps: int) -> None:
    """Write frames [N, C, R, R] in [-1, 1] as a GIF, an animated PNG or an MP4, by the ending.

    fps: 1 to 100. GIF and PNG repeat for ever. GIF has 256 colours a frame and counts in hundredths
    of a second, so some of its frames stay for one more than others; MP4 is lossy. Small images are
    enlarged as in `grid_of`. InputError as `check_animation`.

    >>> save_animation(folder / "walk.gif", model.walk(model.sample_latents(2), steps=3), fps=10)
    >>> (folder / "walk.gif").read_bytes()[:3]
    b'GIF'
    """
    check_animation(path.suffix.removeprefix("."))
    frames = [grid_of(image[None]) for image in images]
    if path.suffix == ".mp4":
        _save_mp4(path, frames, fps)
        return
    first, *rest = map(to_picture, frames)
    durations = [1000 / fps] * len(frames)
    if path.suffix == ".gif":
        ends = [round(100 * index / fps) for index in range(len(frames) + 1)]
        durations = [10.0 * (end - start) for start, end in itertools.pairwise(ends)]
    save_picture(path, first, save_all=True, append_images=rest, duration=durations, loop=0)


def _save_mp4(path: Path, frames: list[np.ndarray], fps: int) -> None:
    import imageio_ffmpeg

    height, width, channels = frames[0].shape
    with tempfile.TemporaryDirectory() as place:  # ffmpeg does not tell that a disk is full
        film = Path(place, path.name)
        writer = imageio_ffmpeg.write_frames(
            str(film), (width, height), fps=fps, macro_block_size=2, quality=8
        )
        writer.send(None)  # starts it
        for frame in frames:
            writer.send(np.ascontiguousarray(frame.repeat(3 // channels, axis=2)))
        writer.close()
        with atomic_path(path) as aside:
            shutil.copyfile(film, aside)
