"""How good a model is: each measure beside what real images alone would get, the floor."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pgvae import metrics
from pgvae.config import nearest, require, require_choice
from pgvae.data import Store, fade_images, read_images
from pgvae.data.store import SPLITS
from pgvae.inference import Model
from pgvae.metrics.features import Extractor, extractor
from pgvae.metrics.frechet import frechet_distance, kernel_distance
from pgvae.metrics.latents import latent_statistics
from pgvae.metrics.msssim import PairSimilarity
from pgvae.metrics.sets import full_precision, optional
from pgvae.metrics.swd import LOWEST, Patches, patch_distance
from pgvae.types import Posterior


@dataclass(frozen=True)
class Figure:
    """One measure of a model.

    label:   what it is called, with the features or the unit.
    value:   of the model. floor: of real images at the same n (see `evaluate`); None where there
             is none.
    better:  "lower" or "higher"; "" where neither is: MS-SSIM should be near its floor.
    details: what it is made of, such as the levels of SWD.
    """

    label: str
    value: float
    floor: float | None = None
    better: str = ""
    details: Mapping[str, float] = field(default_factory=dict)

    def beats(self, value: float) -> bool:
        """Whether it is better than another value of the same measure."""
        return self.value > value if self.better == "higher" else self.value < value


@dataclass(frozen=True)
class Evaluation:
    """Figures by name, and what they were computed from: n images of a split, and a seed."""

    figures: Mapping[str, Figure]
    count: int
    split: str
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: split, count, seed, and the figures as "metrics"."""
        figures = {name: _plain(asdict(figure)) for name, figure in self.figures.items()}
        return {"split": self.split, "count": self.count, "seed": self.seed, "metrics": figures}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity and no NaN: null in their place."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


class _Views(NamedTuple):
    """One batch: real images, their posterior and reconstruction, other real ones, samples."""

    real: Tensor
    posterior: Posterior
    again: Tensor
    other: Tensor
    fake: Tensor


class _Measure(Protocol):
    """What sees every batch, and then says its figures by name."""

    def add(self, views: _Views) -> None: ...

    def figures(self) -> dict[str, Figure]: ...


class _Swd:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._real, self._other, self._fake = (Patches(seed + i) for i in range(3))

    def add(self, views: _Views) -> None:
        for patches, images in (
            (self._real, views.real),
            (self._other, views.other),
            (self._fake, views.fake),
        ):
            patches.add(images)

    def figures(self) -> dict[str, Figure]:
        levels = patch_distance(self._real, self._fake, self._seed)
        floor = patch_distance(self._real, self._other, self._seed)
        details = {f"{side} px": value for side, value in levels.items()}
        details |= {f"{side} px floor": value for side, value in floor.items()}
        means = (float(np.mean([*found.values()])) for found in (levels, floor))
        return {"swd": Figure("SWD x 1000", *means, "lower", details)}


class _MsSsim:
    def __init__(self) -> None:
        self._fake, self._other = PairSimilarity(), PairSimilarity()

    def add(self, views: _Views) -> None:
        self._fake.add(views.fake)
        self._other.add(views.other)

    def figures(self) -> dict[str, Figure]:
        details = {"pairs": self._fake.pairs, "scales": self._fake.scales}
        means = self._fake.mean(), self._other.mean()
        return {"msssim": Figure("MS-SSIM of pairs of samples", *means, "", details)}


class _Pairwise:
    """A measure of reconstructions; its floor is that of other real images."""

    def __init__(self, name: str) -> None:
        self._name, self._function = name, getattr(metrics, name)
        self._values: list[Tensor] = []
        self._floors: list[Tensor] = []

    def add(self, views: _Views) -> None:
        self._values.append(self._function(views.real, views.again))
        self._floors.append(self._function(views.real, views.other))

    def figures(self) -> dict[str, Figure]:
        labels = {"psnr": "PSNR, dB", "ssim": "SSIM", "rmse": "RMSE, of 255", "mse": "MSE, of 1"}
        better = "higher" if self._name in ("psnr", "ssim") else "lower"
        means = (torch.cat(values).mean().item() for values in (self._values, self._floors))
        return {self._name: Figure(labels[self._name], *means, better)}


class _Features:
    """FID and KID, of samples and of reconstructions."""

    def __init__(self, names: Sequence[str], extract: Extractor, seed: int) -> None:
        self._names, self._extract, self._seed = names, extract, seed
        self._found: dict[str, list[Tensor]] = {"real": [], "other": [], "fake": [], "again": []}

    def add(self, views: _Views) -> None:
        for name, parts in self._found.items():
            parts.append(self._extract(getattr(views, name)))

    def figures(self) -> dict[str, Figure]:
        sets = {name: torch.cat(parts) for name, parts in self._found.items()}
        result = {}
        for name in self._names:
            plain = self._extract.name == "Inception"
            key = name if plain else f"{name}_{self._extract.name.lower()}"
            label = name.upper() if plain else f"{name.upper()} ({self._extract.name})"
            of = {
                what: self._distance(name, sets["real"], sets[what])
                for what in ("other", "fake", "again")
            }
            result[key] = Figure(label, of["fake"], of["other"], "lower")
            label += " of reconstructions"
            result[f"{key}_reconstructed"] = Figure(label, of["again"], of["other"], "lower")
        return result

    def _distance(self, name: str, real: Tensor, other: Tensor) -> float:
        if name == "fid":
            return frechet_distance(real, other)
        return kernel_distance(real, other, self._seed)[0]


class _Latents:
    def __init__(self, head: str) -> None:
        self._head = head
        self._posteriors: list[Posterior] = []

    def add(self, views: _Views) -> None:
        self._posteriors.append(views.posterior)

    def figures(self) -> dict[str, Figure]:
        mean = torch.cat([p.mean for p in self._posteriors])
        logvar = None
        if self._head == "gaussian":
            logvar = torch.cat([p.logvar for p in self._posteriors])
        found = latent_statistics(mean, logvar, self._head)
        return {f"latent_{k}": Figure(f"latents: {k}", v, None, "") for k, v in found.items()}


UNDECIDED = ("msssim", "latents")  # that have no better and worse
METRICS = ("swd", "msssim", "psnr", "ssim", "rmse", "mse", "latents", "fid", "kid")
DEFAULT_METRICS = ("swd", "msssim", "psnr", "ssim", "rmse", "mse", "latents")
DEFAULT_COUNT = 2000


def check_names(names: Sequence[str], resolution: int) -> None:
    """Raise InputError unless all are metrics, defined at a resolution, their packages there."""
    require(len(names) > 0, f"no metrics are given: choose of {', '.join(METRICS)}")
    for name in names:
        require(name in METRICS, f"unknown metric {name!r}: {nearest(name, [*METRICS])}")
    undefined = set(names) - set(defined_at(names, resolution))
    require(not undefined, f"swd needs {LOWEST} px or more: these images have {resolution}")
    if {"ssim", "msssim"} & set(names):
        optional("pytorch_msssim", "pytorch-msssim", "ssim")
    if "kid" in names:
        optional("torchmetrics.image.kid", "torchmetrics", "kid")


def check_metrics(
    names: Sequence[str], resolution: int, inception_weights: Path | None = None
) -> None:
    """`check_names`, and the network of features: InputError before there is long work."""
    check_names(names, resolution)
    if {"fid", "kid"} & set(names):
        extractor(inception_weights)


def defined_at(names: Sequence[str], resolution: int) -> tuple[str, ...]:
    """Those of some metrics that images of a resolution have: SWD starts at 16 px."""
    return tuple(name for name in names if name != "swd" or resolution >= LOWEST)


def evaluate(
    model: Model,
    store: Store,
    names: Sequence[str] = DEFAULT_METRICS,
    *,
    split: str = "val",
    count: int = DEFAULT_COUNT,
    seed: int = 0,
    inception_weights: Path | None = None,
    watch: Callable[[Iterator[int], int], Iterator[int]] = lambda starts, total: starts,
) -> Evaluation:
    """Measure a model against n images of a split and as many samples.

    n is `count`, or what there is. For the floor, n other real images stand in the place of the
    samples and of the reconstructions: of the training split, or, where the split is that itself,
    the rest of it. A reconstruction should be far better than its floor; a sample cannot be
    much better. The images and samples are drawn from `seed`, and no figure depends on how they are
    cut into batches. Images are faded for a model in mid-fade, as in training.

    watch: called with the starts of the batches and n, for a progress bar.
    InputError for an unknown metric or where there are too few images.
    """
    require_choice("split", split, SPLITS)
    require(count >= 2, f"count is {count}: use 2 or more")
    check_names(names, model.resolution)
    measures = _measures(names, model, seed, inception_weights)
    mine, others = _draw(store, split, count, seed)
    latents = model.sample_latents(len(mine), seed)
    size = model.batch_size
    with full_precision():
        for start in watch(iter(range(0, len(mine), size)), len(mine)):
            part = slice(start, start + size)
            real, other = (
                fade_images(
                    read_images(store, i[part], model.resolution, model.device), model.alpha
                )
                for i in (mine, others)
            )
            posterior = model.posterior(real)
            again, fake = model.decode(posterior.mean), model.decode(latents[part])
            for measure in measures:
                measure.add(_Views(real, posterior, again, other, fake))
    found = [measure.figures() for measure in measures]
    figures = {name: figure for part in found for name, figure in part.items()}
    return Evaluation(figures, len(mine), split, seed)


def _draw(store: Store, split: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n indices of the split and n other ones, of the training split, in random order."""
    rng = np.random.default_rng(seed)
    mine = rng.permutation(store.split(split))
    if split == "train":
        mine, others = np.array_split(mine, 2)
    else:
        others = rng.permutation(store.split("train"))
    n = min(count, len(mine), len(others))
    require(
        n >= 2,
        f"{store.name} has {len(store.split(split))} images in its split {split!r}: too few to "
        "measure with; take another --split or prepare more",
    )
    return mine[:n], others[:n]


def _measures(
    names: Sequence[str], model: Model, seed: int, inception_weights: Path | None
) -> list[_Measure]:
    makers: dict[str, Callable[[], _Measure]] = {
        "swd": lambda: _Swd(seed),
        "msssim": _MsSsim,
        "latents": lambda: _Latents(model.config.head),
    }
    pairwise = ("psnr", "ssim", "rmse", "mse")
    makers |= {name: lambda name=name: _Pairwise(name) for name in pairwise}
    # FID and KID look at the same features, in the place of the first of them.
    featured = [name for name in dict.fromkeys(names) if name in ("fid", "kid")]
    makers |= {
        name: lambda: _Features(featured, extractor(inception_weights, model.device), seed)
        for name in featured[:1]
    }
    return [makers[name]() for name in dict.fromkeys(names) if name in makers]
