"""The metrics at work: each sees batches of a model's images beside real ones, then says figures.

In the place of the samples and of the reconstructions the floor has other real images. The
entries of `pgvae.metrics.table` find the functions that they measure with here too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgvae.config import Head
from pgvae.metrics import frechet as frechet
from pgvae.metrics import reconstruction as reconstruction
from pgvae.metrics.features import Extractor
from pgvae.metrics.latents import latent_statistics
from pgvae.metrics.multiscale import PairSimilarity
from pgvae.metrics.sliced import Patches, patch_distance
from pgvae.metrics.table import Figure, Metric
from pgvae.types import Posterior


@dataclass(frozen=True)
class Views:
    """One batch: real images, their posterior and reconstructions, other real ones, samples.

    Images are [n, C, R, R] in [-1, 1]. Without an encoder there is no posterior and nothing again.
    """

    real: Tensor
    posterior: Posterior | None
    again: Tensor | None
    other: Tensor
    fake: Tensor
    _features: dict[str, Tensor] = field(default_factory=dict)

    def features(self, extract: Extractor) -> dict[str, Tensor]:
        """Features [n, D] of the images, by name; extracted once for all measures."""
        if not self._features:
            for name in ("real", "other", "fake", "again"):
                if (images := getattr(self, name)) is not None:
                    self._features[name] = extract(images)
        return self._features


class Pairs:
    """The mean of a function of pairs [n, C, R, R] -> [n] over images and reconstructions.

    >>> pairs = Pairs(lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    >>> real, other = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    >>> pairs.add(Views(real, Posterior(real.flatten(1)), again=real, other=other, fake=other))
    >>> figure = pairs.figures("l1", Metric("L1", "lower", lambda *_: pairs))["l1"]
    >>> figure.value, figure.floor
    (0.0, 1.0)
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function
        self._values: list[Tensor] = []
        self._floors: list[Tensor] = []

    def add(self, views: Views) -> None:
        self._values.append(self._function(views.real, views.again))
        self._floors.append(self._function(views.real, views.other))

    def figures(self, name: str, metric: Metric) -> dict[str, Figure]:
        means = (torch.cat(values).mean().item() for values in (self._values, self._floors))
        return {name: Figure(metric.label, *means, metric.better)}


class Swd:
    """SWD of samples, the mean over its levels."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._real, self._other, self._fake = (Patches(seed + i) for i in range(3))

    def add(self, views: Views) -> None:
        self._real.add(views.real)
        self._other.add(views.other)
        self._fake.add(views.fake)

    def figures(self, name: str, metric: Metric) -> dict[str, Figure]:
        levels = patch_distance(self._real, self._fake, self._seed)
        floor = patch_distance(self._real, self._other, self._seed)
        details = {f"{side} px": value for side, value in levels.items()}
        details |= {f"{side} px floor": value for side, value in floor.items()}
        means = (sum(found.values()) / len(found) for found in (levels, floor))
        return {name: Figure(metric.label, *means, metric.better, details)}


class MsSsim:
    """MS-SSIM of pairs of samples."""

    def __init__(self) -> None:
        self._fake, self._other = PairSimilarity(), PairSimilarity()

    def add(self, views: Views) -> None:
        self._fake.add(views.fake)
        self._other.add(views.other)

    def figures(self, name: str, metric: Metric) -> dict[str, Figure]:
        details = {"pairs": self._fake.pairs, "scales": self._fake.scales}
        means = self._fake.mean(), self._other.mean()
        return {name: Figure(metric.label, *means, metric.better, details)}


class Latents:
    """Statistics of the posteriors of real images, a figure each."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._posteriors: list[Posterior] = []

    def add(self, views: Views) -> None:
        self._posteriors.append(views.posterior)

    def figures(self, name: str, metric: Metric) -> dict[str, Figure]:
        mean = torch.cat([p.mean for p in self._posteriors])
        logvar = None
        if self._head == "gaussian":
            logvar = torch.cat([p.logvar for p in self._posteriors])
        found = latent_statistics(mean, logvar, self._head)
        return {f"latent_{k}": Figure(f"{metric.label}: {k}", v) for k, v in found.items()}


class Distance:
    """A distance of two sets' features [N, D], of samples and of reconstructions.

    Figures are named after the network, unless it is the one of the published ones.
    """

    def __init__(self, extract: Extractor, distance: Callable[[Tensor, Tensor], float]) -> None:
        self._extract, self._distance = extract, distance
        self._found: list[dict[str, Tensor]] = []

    def add(self, views: Views) -> None:
        self._found.append(views.features(self._extract))

    def figures(self, name: str, metric: Metric) -> dict[str, Figure]:
        label = metric.label
        if self._extract.name != "Inception":
            name, label = f"{name}_{self._extract.name.lower()}", f"{label} ({self._extract.name})"
        sets = {of: torch.cat([part[of] for part in self._found]) for of in self._found[0]}
        real = sets.pop("real")
        to = {of: self._distance(real, features) for of, features in sets.items()}
        found = {name: Figure(label, to["fake"], to["other"], metric.better)}
        if "again" in to:
            again = Figure(f"{label} of reconstructions", to["again"], to["other"], metric.better)
            found[f"{name}_reconstructed"] = again
        return found
