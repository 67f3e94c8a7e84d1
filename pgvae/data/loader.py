"""Batches of training images, as a pure function of how many images were seen before."""

import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.checks import require
from pgvae.config import LabelConfig
from pgvae.data.balance import balanced_weights
from pgvae.data.store import Store
from pgvae.errors import CorruptFileError
from pgvae.types import Batch


def fade_images(images: Tensor, alpha: float) -> Tensor:
    """lerp(up2(down2(x)), x, alpha): [N, C, R, R] -> the same (PGGAN, section 2).

    At alpha 0 the images show what the stage before could; at alpha 1 they are themselves.

    >>> images = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, 3, 4, 4)
    >>> fade_images(images, 0.5)[0, 0, 0]
    tensor([0.2500, 0.7500, 0.2500, 0.7500])
    """
    if alpha >= 1:
        return images
    coarse = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2)
    return torch.lerp(coarse, images, alpha)


def read_images(
    store: Store, indices: np.ndarray, resolution: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Images of a set as networks take them: [N, C, R, R] float32 in [-1, 1], channels_last."""
    pixels = torch.from_numpy(store.get_many(indices, resolution)).to(device)
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def read_batches(
    store: Store,
    indices: np.ndarray,
    resolution: int,
    device: torch.device | str = "cpu",
    size: int = 256,
) -> Iterator[Tensor]:
    """`read_images`, `size` at a time; InputError for fewer than one."""
    require(size >= 1, f"size is {size}: give 1 or more images at a time")
    for start in range(0, len(indices), size):
        yield read_images(store, indices[start : start + size], resolution, device)


class Loader:
    """Draws batches from one split of a store.

    Image i of a batch is number p = images_seen + i of the run: of epoch p // n, at place p % n
    of a permutation drawn from (seed, epoch), flipped or not by a bit from (seed, epoch) too. So
    a resumed run sees the same next images. The next batch is read in the background.
    A damaged image is replaced by the next one of the split, with a warning; more than one in a
    thousand of them raise CorruptFileError.

    mirror:  whether to flip images left to right with probability 1/2.
    labels:  which labels batches carry; all by default. With `balance`, an epoch is drawn with
             replacement, so that yes and no of those attributes are equally often seen.
    workers: threads that decode (only resolutions that are not stored raw).
    part:    (index, count): only that one of so many equal parts of every batch.

    >>> import tempfile
    >>> from PIL import Image
    >>> from pgvae.data import open_dataset
    >>> with tempfile.TemporaryDirectory() as photos, tempfile.TemporaryDirectory() as root:
    ...     for shade in ("black", "grey", "white"):
    ...         Image.new("RGB", (8, 8), shade).save(f"{photos}/{shade}.png")
    ...     loader = Loader(open_dataset(photos, root, say=lambda _: None), mirror=True)
    ...     loader.batch(images_seen=0, batch_size=16, resolution=4).images.shape
    torch.Size([16, 3, 4, 4])
    """

    def __init__(
        self,
        store: Store,
        *,
        split: str = "train",
        seed: int = 0,
        mirror: bool = False,
        labels: LabelConfig | None = None,
        workers: int = 0,
        device: torch.device | str = "cpu",
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._store = store
        self._indices = store.split(split)
        require(
            len(self._indices) > 0,
            f"{store.name} has no images in its split {split!r}: prepare it with another split",
        )
        labels = LabelConfig(store.attributes) if labels is None else labels
        self._labels = store.said(labels)
        self._weights = None
        if labels.balance:
            columns = [labels.attributes.index(name) for name in labels.balance]
            self._weights = balanced_weights(self._labels[self._indices][:, columns])
        self._damaged: set[int] = set()
        self._seed, self._mirror, self._workers = seed, mirror, workers
        self._device, self._part = torch.device(device), part
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[tuple[int, int, int], Future] | None = None

    def batch(
        self, images_seen: int, batch_size: int, resolution: int, alpha: float = 1.0
    ) -> Batch:
        """Images images_seen .. images_seen + batch_size - 1 of the run, faded by `alpha`.

        -> [N, C, R, R] float32 in [-1, 1], channels_last, on the device; labels [N, K] (1 yes,
        0 no, NaN unknown) or None; of the own `part` of them.
        """
        wanted = (images_seen, batch_size, resolution)
        if self._next is not None and self._next[0] == wanted:
            pending, self._next = self._next[1], None
            pixels, labels = pending.result()
        else:
            self._drop_next()
            pixels, labels = self._read(*wanted)
        following = (images_seen + batch_size, batch_size, resolution)
        self._next = (following, self._thread.submit(self._read, *following))
        images = pixels.to(self._device, non_blocking=True)
        images = images.to(torch.float32, memory_format=torch.channels_last)
        known = labels.to(self._device, non_blocking=True) if labels.shape[1] else None
        return Batch(fade_images(images.div_(127.5).sub_(1), alpha), known)

    def close(self) -> None:
        """Stop the background thread."""
        self._drop_next()
        self._thread.shutdown()

    def _drop_next(self) -> None:
        if self._next is not None:
            self._next[1].cancel() or self._next[1].exception()
            self._next = None

    def _read(self, images_seen: int, count: int, resolution: int) -> tuple[Tensor, Tensor]:
        """Pixels uint8 [N, C, R, R] and labels float32 [N, K], on the CPU (pinned for a GPU)."""
        n = len(self._indices)
        index, parts = self._part
        places = images_seen + np.arange(count * index // parts, count * (index + 1) // parts)
        chosen, flips = [], []
        for epoch in np.unique(places // n):
            order, flipped = self._epoch(int(epoch))
            here = places[places // n == epoch] % n
            chosen.append(order[here])
            flips.append(flipped[here])
        indices, flip = np.concatenate(chosen), np.concatenate(flips)
        try:
            pixels = self._store.get_many(indices, resolution, self._workers)
        except CorruptFileError:
            indices = np.array([self._sound(int(index), resolution) for index in indices])
            pixels = self._store.get_many(indices, resolution, self._workers)
        if self._mirror:
            pixels[flip] = pixels[flip][..., ::-1]
        tensors = torch.from_numpy(pixels), torch.from_numpy(self._labels[indices])
        if self._device.type == "cuda":
            return tensors[0].pin_memory(), tensors[1].pin_memory()
        return tensors

    def _sound(self, index: int, resolution: int) -> int:
        """`index`, or the next of the split whose image is whole at this resolution."""
        while True:
            try:
                self._store.get(index, resolution)
                return index
            except CorruptFileError as error:
                if index not in self._damaged:
                    self._damaged.add(index)
                    if len(self._damaged) > len(self._indices) // 1000:
                        raise
                    warnings.warn(f"{error}; its neighbour is used", RuntimeWarning, stacklevel=2)
                place = int(np.searchsorted(self._indices, index)) + 1
                index = int(self._indices[place % len(self._indices)])

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Order of the images in an epoch, and which of its places are flipped."""
        if epoch not in self._epochs:
            rng = np.random.default_rng([self._seed, epoch])
            if self._weights is None:
                order = rng.permutation(self._indices)
            else:
                order = rng.choice(self._indices, len(self._indices), p=self._weights)
            flips = rng.random(len(order)) < 0.5
            kept = {e: v for e, v in self._epochs.items() if e >= epoch - 1}
            self._epochs = {**kept, epoch: (order, flips)}
        return self._epochs[epoch]
