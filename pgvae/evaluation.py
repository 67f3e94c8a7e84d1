"""How good a model is: each measure beside what real images alone would get, the floor."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pgvae.checks import require, require_choice
from pgvae.choices import Prior
from pgvae.data import Store, fade_images, read_images
from pgvae.data.store import SPLITS
from pgvae.inference import Model
from pgvae.metrics.features import extractor
from pgvae.metrics.measures import Views
from pgvae.metrics.sets import full_precision
from pgvae.metrics.table import (
    DEFAULT_COUNT,
    DEFAULT_METRICS,
    METRICS,
    Figure,
    Setting,
    check_names,
    require_encoder,
)


@dataclass(frozen=True)
class Evaluation:
    """Figures of each metric, and what they were computed from: n images of a split, and a seed.

    by_metric: the metrics in the order asked for, each with its figures by name, the main one
               first: FID's are named after its features.
    prior:     that the samples are from.

    >>> found = Evaluation({"psnr": {"psnr": Figure("PSNR, dB", 21.5)}}, 100, "val", seed=0)
    >>> found.figures["psnr"].value
    21.5
    """

    by_metric: Mapping[str, Mapping[str, Figure]]
    count: int
    split: str
    seed: int
    prior: Prior = "training"

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures by name."""
        return {name: f for found in self.by_metric.values() for name, f in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: split, count, seed, prior, and the figures as "metrics"."""
        figures = {name: asdict(figure) for name, figure in self.figures.items()}
        names = ("split", "count", "seed", "prior")
        return _plain({**{name: getattr(self, name) for name in names}, "metrics": figures})


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN: null in their place, however deep.

    >>> _plain({"a": {"b": float("nan"), "c": 1.5}})
    {'a': {'b': None, 'c': 1.5}}
    """
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate(
    model: Model,
    store: Store,
    names: Sequence[str] = DEFAULT_METRICS,
    *,
    split: str = "val",
    count: int = DEFAULT_COUNT,
    seed: int = 0,
    prior: Prior | None = None,
    inception_weights: Path | None = None,
    watch: Callable[[Iterator[int], int], Iterator[int]] = lambda starts, total: starts,
) -> Evaluation:
    """Measure a model against n images of a split and as many samples.

    n is `count`, or what there is. For the floor, n other real images stand in the place of the
    samples and of the reconstructions: of the training split, or, where the split is that itself,
    the rest of it. A reconstruction should be far better than its floor; a sample cannot be
    much better. The images and samples are drawn from `seed`, and no figure depends on how they are
    cut into batches. Images are faded for a model in mid-fade, as in training.

    prior: that samples are drawn from, as of `Model.sample`.
    watch: called with the starts of the batches and n, for a progress bar.
    InputError for an unknown metric, for one that needs an encoder where the model has none, or
    where there are too few images.
    """
    require_choice("split", split, SPLITS)
    require(count >= 2, f"count is {count}: use 2 or more")
    check_names(names, model.resolution)
    if not model.encodes:
        require_encoder(names, model.objective["name"])
    extract = None
    if any(METRICS[name].features for name in names):
        extract = extractor(inception_weights, model.device)
    setting = Setting(seed, model.config.head, extract)
    measures = {name: METRICS[name].start(setting) for name in dict.fromkeys(names)}
    mine, others = _draw(store, split, count, seed)
    latents = model.sample_latents(len(mine), seed, prior)
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
            posterior = model.posterior(real) if model.encodes else None
            again = model.drawn(posterior.mean) if posterior else None
            views = Views(real, posterior, again, other, model.decode(latents[part]))
            for measure in measures.values():
                measure.add(views)
    found = {name: measure.figures(name, METRICS[name]) for name, measure in measures.items()}
    return Evaluation(found, len(mine), split, seed, prior or model.default_prior)


def images_for(store: Store, split: str) -> int:
    """The n that a split can be measured with: 2 at least are needed, and as many others."""
    training = len(store.split("train"))
    return training // 2 if split == "train" else min(len(store.split(split)), training)


def _draw(store: Store, split: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n indices of the split and n other ones, of the training split, in random order."""
    n = min(count, images_for(store, split))
    require(
        n >= 2,
        f"{store.name} has {len(store.split(split))} images in its split {split!r}: too few to "
        "measure with; take another --split or prepare more",
    )
    rng = np.random.default_rng(seed)
    mine = rng.permutation(store.split(split))
    if split == "train":
        mine, others = np.array_split(mine, 2)
    else:
        others = rng.permutation(store.split("train"))
    return mine[:n], others[:n]
