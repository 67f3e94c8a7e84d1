"""Images of both splits that are nearly the same, which makes figures on unseen images too good."""

from collections.abc import Iterator

import numpy as np

from pgvae.data.store import Store

_SIDE = 16  # px at which images are compared; sets that end below have too little to tell
_BITS = 14  # of 240 that may differ
_LEVELS = 8.0  # of 255, root mean square, that pixels may differ
_BLOCK = 1 << 22  # pairs that are compared at a time


def near_duplicates(store: Store, most: int = 1000) -> list[tuple[int, int]]:
    """(index in train, index in val) of images of val that are nearly one of train, at most `most`.

    Two are where the gradients of their brightness at 16 px agree in all but a few signs (dHash, a
    perceptual hash), and their colours there too. [] for a set that has no 16 px.

    Bears another size or compression, and small changes of light; not a mirror or another crop.
    """
    train, val = store.split("train"), store.split("val")
    if _SIDE not in store.resolutions or not len(train) or not len(val):
        return []
    ours, theirs = (_looks_of(store, indices) for indices in (train, val))
    found: dict[int, int] = {}
    for i, k in _alike(hashes_of(ours), hashes_of(theirs)):
        difference = ours[i].astype(np.float32) - theirs[k]
        if k not in found and np.sqrt((difference**2).mean()) <= _LEVELS:
            found[k] = i
        if len(found) == most:
            break
    return [(int(train[i]), int(val[k])) for k, i in sorted(found.items())]


def hashes_of(pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, C, 16, 16] -> uint64 [N, 4]: whether each pixel is darker than the next one.

    Images of fewer rows or columns have fewer numbers.

    >>> ramp = np.tile(np.arange(16, dtype=np.uint8), (1, 3, 16, 1))
    >>> [int(np.bitwise_count(hashes_of(image)).sum()) for image in (ramp, 255 - ramp)]
    [240, 0]
    """
    light = pixels.sum(axis=1, dtype=np.int16)  # at most 765
    darker = np.zeros(light.shape, bool)
    darker[:, :, :-1] = light[:, :, :-1] < light[:, :, 1:]
    return np.packbits(darker.reshape(len(pixels), -1), axis=1).view(np.uint64)


def _looks_of(store: Store, indices: np.ndarray) -> np.ndarray:
    return store.get_many(indices, _SIDE)


def _alike(ours: np.ndarray, theirs: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of hashes that differ in few bits: their first 64, then all."""
    rows = max(1, _BLOCK // len(ours))
    most = _BITS * ours.shape[1] // 4
    for start in range(0, len(theirs), rows):
        block = theirs[start : start + rows]
        differing = np.bitwise_count(block[:, None, 0] ^ ours[None, :, 0])
        found = np.argwhere(differing <= most)
        bits = np.bitwise_count(block[found[:, 0]] ^ ours[found[:, 1]]).sum(axis=1)
        for k, i in found[bits <= most]:
            yield int(i), int(start + k)
