"""Images that a browser sent, as networks take them: in memory alone, the oldest forgotten."""

import hashlib
from collections import OrderedDict
from threading import Lock

import numpy as np

from pgvae.data.images import RejectError, as_pixels
from pgvae.errors import InputError
from pgvae.sizes import SQUARE, Base

MOST_BYTES = 32 << 20  # of a file
MOST_KEPT = 64


class Forgotten(InputError):  # noqa: N818 - not a fault, but a state of the server
    """An image that was sent is no longer here: whoever has it can send it again."""


class Uploads:
    """Images by id: the start of the SHA-256 of their pixels, so that the same have the same.

    resolution, channels, base: of the model that takes them.

    >>> from PIL import Image
    >>> Image.new("RGB", (10, 8), "red").save(folder / "red.png")
    >>> uploads = Uploads(resolution=8, channels=3)
    >>> key = uploads.add((folder / "red.png").read_bytes())
    >>> uploads.pixels(key).shape
    (3, 8, 8)
    """

    def __init__(self, resolution: int, channels: int, base: Base = SQUARE) -> None:
        self._shape, self._base = (resolution, channels), base
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def add(self, data: bytes) -> str:
        """Decode a file by the rules of training data; InputError where it cannot be."""
        try:
            pixels = np.ascontiguousarray(as_pixels(data, *self._shape, base=self._base))
        except RejectError as error:
            raise InputError(f"this image cannot be used: {error}") from error
        key = hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
        with self._lock:
            self._kept[key] = pixels
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return key

    def pixels(self, key: str) -> np.ndarray:
        """uint8 [C, R, R] of an image; Forgotten where it is no longer here."""
        with self._lock:
            if key not in self._kept:
                raise Forgotten("that image is no longer here: choose its file again")
            self._kept.move_to_end(key)
            return self._kept[key]
