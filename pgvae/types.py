"""The values that travel between the rooms of the house."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# Each running average: the network that it follows.
AVERAGES = {"ema": "generator", "ema_encoder": "encoder"}


def finest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has none (Apple's GPUs).

    >>> finest(torch.device("cpu")), finest(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass(frozen=True)
class Batch:
    """One batch of real images.

    images: [N, C, R, R] in [-1, 1], float32, channels_last, already faded for the stage.
    labels: [N, K] float32, one column an attribute: 1 yes, 0 no, NaN unknown; None without labels.
    """

    images: Tensor
    labels: Tensor | None = None

    def rows(self, rows: slice) -> "Batch":
        """Some of them."""
        return Batch(self.images[rows], None if self.labels is None else self.labels[rows])


class Posterior(NamedTuple):
    """What an encoder says about a batch of images.

    mean: [N, d] float32: the point on the unit sphere, or the mean of a diagonal Gaussian.
    logvar: [N, d] float32: log variances of that Gaussian; None for a point.
    """

    mean: Tensor
    logvar: Tensor | None = None


@dataclass
class Nets:
    """The networks of a run. `ema` is the running average of `generator`'s weights,
    `ema_encoder` that of `encoder`'s.

    Where a run has no encoder or no discriminator (see `ModelConfig`), it is None.
    A further network is a field here, and built in `pgvae.nn.build_nets`.
    """

    encoder: Any
    generator: nn.Module
    ema: nn.Module
    ema_encoder: Any
    discriminator: Any = None

    def parts(self) -> dict[str, nn.Module]:
        """Every network that there is by its name, as files name it."""
        found = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: net for name, net in found.items() if net is not None}

    def trained(self) -> dict[str, nn.Module]:
        """Those that an optimiser moves; the others are averages."""
        return {name: net for name, net in self.parts().items() if name not in AVERAGES}

    def averages(self) -> dict[str, str]:
        """Each running average that there is: the network that it follows."""
        there = self.parts()
        return {name: followed for name, followed in AVERAGES.items() if name in there}
