"""Images as a page shows them, and as it saves them: the bytes of files."""

import base64
import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pgvae.errors import InputError
from pgvae.pictures import (
    ANIMATIONS,
    check_animation,
    grid_of,
    save_animation,
    to_bytes,
    to_picture,
)

FULL_ERROR = 64.0  # levels of 255 at which the map of errors is darkest
# From no error to a full one: of one hue, darker and darker, so that it reads in grey too.
_SCALE = ((252, 252, 250), (254, 217, 118), (240, 110, 50), (168, 20, 40), (50, 0, 30))


def reduced(images: Tensor, side: int) -> Tensor:
    """[N, C, R, R] -> the same of at most `side` pixels, by means of boxes.

    >>> import torch
    >>> reduced(torch.zeros(2, 3, 16, 16), 8).shape
    torch.Size([2, 3, 8, 8])
    """
    factor = max(1, max(images.shape[2:]) // side)
    return avg_pool2d(images, factor) if factor > 1 else images


def addresses(images: Tensor) -> list[str]:
    """Each of [N, C, R, R] in [-1, 1] as a data: URI of a PNG."""
    return [_address(to_picture(image)) for image in to_bytes(images)]


def error_map(images: Tensor, others: Tensor) -> np.ndarray:
    """Mean |difference| over channels as colours: [N, C, R, R] twice -> uint8 [N, R, R, 3].

    White where there is none, darkest from 64 of 255 levels on.

    >>> import torch
    >>> error_map(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)).flatten().tolist()
    [252, 252, 250]
    """
    levels = (images.cpu() - others.cpu()).abs().mean(dim=1).mul(127.5 / FULL_ERROR).clamp(max=1)
    stops = np.linspace(0, 1, len(_SCALE))
    bands = [np.interp(levels.numpy(), stops, band) for band in zip(*_SCALE, strict=True)]
    return np.stack(bands, axis=-1).round().astype(np.uint8)


def error_address(image: Tensor, other: Tensor) -> str:
    """The map of errors of a pair [1, C, R, R] as a data: URI."""
    return _address(Image.fromarray(error_map(image, other)[0]))


def png(images: Tensor, columns: int | None = None) -> bytes:
    """One image as it is, several as a grid, as the bytes of a PNG."""
    whole = to_bytes(images)[0] if len(images) == 1 else grid_of(images, columns)
    return _png(to_picture(whole), level=6)


def animation(frames: Tensor, ending: str, fps: int) -> bytes:
    """The bytes of a GIF, an animated PNG or an MP4; InputError as of `save_animation`."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, f"walk.{ending}")
        save_animation(path, frames, fps)
        return path.read_bytes()


def endings() -> list[str]:
    """The kinds of animation that can be written here: MP4 needs a package.

    >>> endings()[:2]
    ['gif', 'png']
    """
    found = []
    for ending in ANIMATIONS:
        with contextlib.suppress(InputError):
            check_animation(ending)
            found.append(ending)
    return found


def archive(latents: Tensor, said: Sequence[str], about: dict[str, object]) -> bytes:
    """The bytes of an .npz: `latents` float32 [N, d], `points` what each is, `model` JSON of it.

    >>> import torch
    >>> file = np.load(io.BytesIO(archive(torch.zeros(1, 4), ["a sample"], {"resolution": 8})))
    >>> file["latents"].shape, file["points"].tolist(), file["model"].item()
    ((1, 4), ['a sample'], '{"resolution": 8}')
    """
    file = io.BytesIO()
    parts = {"points": np.array(said), "model": np.array(json.dumps(about))}
    np.savez(file, latents=latents.float().cpu().numpy(), **parts)
    return file.getvalue()


def _address(picture: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(picture, level=1)).decode()}"


def _png(picture: Image.Image, level: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=level)
    return file.getvalue()
