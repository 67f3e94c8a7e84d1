"""Image files for the tests of the data room, made as the formats' writers make them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pgvae.data import Store
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder


def noise(side: int = 16, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 [side, side, channels], or [side, side] for one channel."""
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(side: int = 16, seed: int = 0) -> bytes:
    """A PNG file of random pixels."""
    return encoded(Image.fromarray(noise(side, seed)))


def write_noise(root: Path, count: int, side: int = 16) -> Path:
    """A folder of `count` PNG files of random pixels: 000.png, 001.png, ..."""
    root.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (root / f"{index:03d}.png").write_bytes(png(side, index))
    return root


def prepared(source: Path, data_root: Path, name: str = "set", **options: object) -> Store:
    """Prepare a folder or zip quietly, in this process unless `workers` says otherwise."""
    chosen = Options(**{"workers": 0, **options})
    return prepare(folder(name, source, Split()), chosen, data_root, say=lambda _: None)
