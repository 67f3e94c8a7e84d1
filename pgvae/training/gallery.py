"""What a run shows of itself: sample grids, reconstructions of unseen images, their PSNR."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pgvae.config import LabelConfig
from pgvae.data import Store, fade_images, read_images
from pgvae.inference import Model
from pgvae.metrics import psnr, rmse
from pgvae.objectives.terms import known_accuracy
from pgvae.pictures import grid_of, interleave, save_grid, save_picture, to_picture
from pgvae.snapshot import Snapshot
from pgvae.training.log import RunLog

_MEAN_PIXELS = 2**24  # pixels that the mean training image is taken over, at most
_UNSEEN_PIXELS = 2**20


@dataclass(frozen=True)
class _View:
    """Images of one resolution, kept for as long as the stage lasts."""

    unseen: Tensor  # [N, C, R, R] in [-1, 1]
    labels: Tensor  # [N, K], 1 yes, 0 no, NaN unknown
    mean: Tensor  # [C, R, R] in [-1, 1], of training images


class Gallery:
    """Fixed unseen images and fixed latents, looked at again at every snapshot.

    Unseen images are of the validation split; where a set has none, training images serve and
    `split` says so. PSNR is compared with that of the mean training image, the best constant.
    """

    def __init__(self, store: Store, labels: LabelConfig, device: torch.device, seed: int) -> None:
        self._store, self._device, self._seed = store, device, seed
        self._labels, self._attributes = store.said(labels), labels.attributes
        self.split = "val" if len(store.split("val")) else "train"
        self._views: dict[int, _View] = {}

    def mean_image(self, resolution: int) -> Tensor:
        """Mean of (up to 2^24 pixels of) the training images: [C, R, R] in [-1, 1]."""
        return self._view(resolution).mean

    def save_reals(self, path: Path, resolution: int) -> None:
        """A grid of training images, as they are in the store."""
        indices = self._store.split("train")[: _grid_size(resolution)]
        save_grid(path, self._images(indices, resolution))

    def look(self, snapshot: Snapshot, run_dir: Path, log: RunLog) -> dict[str, float]:
        """Write both grids; -> psnr, psnr_gain (dB), rmse (8 bits), accuracy on unseen images.

        Accuracy is the classifier's, of each attribute, where there is one. Without an encoder
        there are samples alone, and no figures.
        """
        model = Model(snapshot, self._device)
        count = _grid_size(model.resolution)
        fakes = grid_of(model.sample(count, seed=self._seed))
        _show("fakes", fakes, snapshot, run_dir, log)
        if not model.encodes:
            return {}
        view = self._view(model.resolution)
        unseen = fade_images(view.unseen, snapshot.alpha)
        again = model.reconstruct(unseen)
        columns = max(2, int(count**0.5))
        shown = min(len(unseen), columns * max(1, columns // 2))
        pairs = interleave(unseen[:shown], again[:shown], columns=columns)
        _show("reconstructions", grid_of(pairs, columns), snapshot, run_dir, log)
        figure = psnr(unseen, again).mean()
        mean = fade_images(view.mean[None], snapshot.alpha)
        baseline = psnr(unseen, mean.expand_as(unseen)).mean()
        return {
            f"{self.split}/psnr": figure.item(),
            f"{self.split}/psnr_gain": (figure - baseline).item(),
            f"{self.split}/rmse": rmse(unseen, again).mean().item(),
            **self._accuracy(model, unseen, view.labels),
        }

    def _accuracy(self, model: Model, unseen: Tensor, labels: Tensor) -> dict[str, float]:
        if not model.classifies:
            return {}
        logits = model.classify(unseen)
        return {
            f"{self.split}/accuracy {name}": known_accuracy(logits[:, k], labels[:, k]).item()
            for k, name in enumerate(self._attributes)
            if labels[:, k].isfinite().any()
        }

    def _view(self, resolution: int) -> _View:
        if resolution not in self._views:
            unseen = self._store.split(self.split)[: max(4, _UNSEEN_PIXELS // resolution**2)][:256]
            self._views = {
                resolution: _View(
                    unseen=self._images(unseen, resolution),
                    labels=torch.from_numpy(self._labels[unseen]).to(self._device),
                    mean=self._mean(resolution).to(self._device),
                )
            }
        return self._views[resolution]

    def _mean(self, resolution: int) -> Tensor:
        indices = self._store.split("train")[: max(16, _MEAN_PIXELS // resolution**2)][:4096]
        parts = np.array_split(indices, max(1, len(indices) // 64))
        sums = [self._store.get_many(p, resolution).sum(axis=0, dtype=np.int64) for p in parts]
        return torch.from_numpy(np.sum(sums, axis=0) / len(indices) / 127.5 - 1).float()

    def _images(self, indices: np.ndarray, resolution: int) -> Tensor:
        return read_images(self._store, indices, resolution, self._device)


def grid_path(name: str, run_dir: Path, images_seen: int) -> Path:
    """Where a grid of a run is kept: "fakes" or "reconstructions"."""
    return run_dir / f"{name}-{images_seen:09d}.png"


def _show(name: str, grid: Tensor, snapshot: Snapshot, run_dir: Path, log: RunLog) -> None:
    """Keep a grid as a file of the run, and in its log."""
    save_picture(grid_path(name, run_dir, snapshot.images_seen), to_picture(grid))
    log.picture(name, grid, snapshot.images_seen)


def _grid_size(resolution: int) -> int:
    """Images in a grid: 64 up to 64 px, fewer above, 4 at 1024 px."""
    return min(64, max(4, (4096 // resolution) // 4 * 4))
