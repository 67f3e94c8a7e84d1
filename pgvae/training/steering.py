"""How much a critic's images are augmented: so much that it knows no training image by heart.

The r_v of adaptive discriminator augmentation (Karras et al., 2020, eq. 1) decides it: how far
held-out images lie, in the critic's eyes, from training images towards what is made.
"""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from pgvae.config import RunConfig
from pgvae.data import Store, fade_images, read_images
from pgvae.objectives import Context, Objective, objective_from
from pgvae.schedule import Moment
from pgvae.training.state import TrainState

INTERVAL = 2000  # images between two looks
TARGET, STEP, MOST = 0.5, 0.05, 0.8  # of the gap; of p, in a look; of p
LEAST_UNSEEN = 4  # held-out images without which there is nothing to go by
_PIXELS, _IMAGES = 2**18, 256  # of a side, at most


def gap_of(train: float, unseen: float, made: float) -> float:
    """r_v of what the critic takes three sets for, higher for less real: 0 where it takes unseen
    images for training ones, 1 where it takes them for made ones; within [0, 1].

    0 too where it does not tell made images from training ones; NaN where a value is not finite.

    >>> gap_of(train=1.0, unseen=2.5, made=3.0), gap_of(1.0, 2.0, 0.5)
    (0.75, 0.0)
    """
    if not all(map(math.isfinite, (train, unseen, made))):
        return math.nan
    if made <= train:
        return 0.0
    return min(1.0, max(0.0, (unseen - train) / (made - train)))


def stepped(p: float, gap: float) -> float:
    """p after a look: STEP more where the gap is above TARGET, less where below; 0 to MOST.

    >>> stepped(0.1, gap=0.7), stepped(0.1, 0.3), stepped(0.0, 0.3), stepped(0.1, math.nan)
    (0.15, 0.05, 0.0, 0.1)
    """
    if math.isnan(gap):
        return p
    return round(min(MOST, max(0.0, p + math.copysign(STEP, gap - TARGET))), 6)


class Steering:
    """Looks at fixed training and held-out images, every `INTERVAL` images of a run."""

    def __init__(self, config: RunConfig, store: Store, device: torch.device) -> None:
        self._objective = objective_from(config.objective)
        self._store, self._device = store, device
        rng = np.random.default_rng(config.seed)
        self._order = [rng.permutation(store.split(name)) for name in ("train", "val")]
        self._images: dict[int, list[Tensor]] = {}  # training and held-out, of one resolution

    def look(self, state: TrainState, moment: Moment) -> dict[str, float]:
        """Turn `state.augment`; -> p, the gap, and the critic's values that it is made of.

        Nothing where there is no game at that moment.
        """
        objective = dataclasses.replace(self._objective, **moment.settings)
        if moment.pretraining or not objective.plays_at(moment.resolution):
            return {}
        values = self._values(state, objective, moment)
        gap = gap_of(*values)
        state.augment = state.ranks.told(stepped(state.augment, gap))
        names = (f"critic {side}" for side in ("train", "unseen", "made"))
        named = dict(zip(names, values, strict=True))
        return {"p": state.augment, "gap": gap, **named}

    @torch.no_grad()
    def _values(self, state: TrainState, objective: Objective, moment: Moment) -> list[float]:
        """What the critic takes training, held-out and made images for, all as they are shown."""
        train, unseen = (fade_images(of, moment.alpha) for of in self._sides(moment.resolution))
        rng = torch.Generator(self._device).manual_seed(state.seed_of("steering"))
        context = Context(
            alpha=state.dials.alpha,
            noise=lambda shape: torch.randn(shape, generator=rng, device=self._device),
            progress=state.dials.progress,
            augment=state.dials.augment if state.augment else None,
        )
        nets = state.nets
        for net in nets.trained().values():
            net.eval()  # batch norm's statistics stay those of training
        found = [
            objective.unreal(nets, train, context),
            objective.unreal(nets, unseen, context),
            objective.unreal_made(nets, train, context),
        ]
        for net in nets.trained().values():
            net.train()
        return torch.stack(found).tolist()

    def _sides(self, resolution: int) -> list[Tensor]:
        """As many training as held-out images [N, C, R, R]."""
        if resolution not in self._images:
            most = min(_IMAGES, max(16, _PIXELS // resolution**2), *map(len, self._order))
            self._images = {
                resolution: [
                    read_images(self._store, indices[:most], resolution, self._device)
                    for indices in self._order
                ]
            }
        return self._images[resolution]
