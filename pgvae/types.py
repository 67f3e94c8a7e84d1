"""The values that travel between the rooms of the house."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """One batch of real images.

    images: [N, C, R, R] in [-1, 1], float32, channels_last, already faded for the stage.
    labels: [N, K] float32, one column an attribute: 1 yes, 0 no, NaN unknown; None without labels.
    """

    images: Tensor
    labels: Tensor | None = None


class Posterior(NamedTuple):
    """What an encoder says about a batch of images.

    mean: [N, d] float32: the point on the unit sphere, or the mean of a diagonal Gaussian.
    logvar: [N, d] float32: log variances of that Gaussian; None for a point.
    """

    mean: Tensor
    logvar: Tensor | None = None


@dataclass
class Nets:
    """The networks of a run. `ema` is the running average of `generator`'s weights."""

    encoder: nn.Module
    generator: nn.Module
    ema: nn.Module
