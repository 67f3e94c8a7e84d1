"""All that a run is made of at one moment, and how it moves from stage to stage."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import nn

from pgvae.config import RunConfig
from pgvae.nn import build_nets
from pgvae.schedule import Stage
from pgvae.training.ema import copy_new_layers
from pgvae.training.pool import ImagePool
from pgvae.types import Nets

TRAINED = ("encoder", "generator")


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts: all randomness of a run comes from (seed, what, when)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass
class TrainState:
    """Networks, optimisers, image pool and counters of a run.

    images_seen:   real images so far: the time of the run.
    skipped_steps: optimiser steps left out so far because a number was not finite.
    skips_in_a_row: iterations in a row, up to now, that left one out.
    """

    config: RunConfig
    nets: Nets
    optimizers: dict[str, torch.optim.Adam]
    pool: ImagePool = field(default_factory=ImagePool)
    images_seen: int = 0
    skipped_steps: int = 0
    skips_in_a_row: int = 0

    @classmethod
    def create(
        cls, config: RunConfig, device: torch.device, resolution: int, *, fading: bool = False
    ) -> "TrainState":
        """A state with fresh weights at `resolution`, drawn from the run's seed."""
        seed = derive_seed(config.seed, "networks")
        nets = build_nets(config.model, resolution, fading=fading, seed=seed)
        for net in (nets.encoder, nets.generator, nets.ema):
            net.to(device)
        lr = config.schedule.at(0).lr
        optimizers = {n: _adam(getattr(nets, n), lr, config.betas) for n in TRAINED}
        return cls(config, nets, optimizers)

    @property
    def resolution(self) -> int:
        """Pixels per side of the current stage."""
        return self.nets.generator.resolution

    def enter(self, stage: Stage) -> None:
        """Bring networks, optimisers and pool to `stage`: grow, drop faded layers, set rates."""
        changed = False
        while self.resolution < stage.resolution:
            self._grow()
            changed = True
        if stage.alpha == 1 and self.nets.generator.fading:
            for net in (self.nets.encoder, self.nets.generator, self.nets.ema):
                net.finish_fade()
            changed = True
        for name, optimizer in self.optimizers.items():
            if changed:
                optimizer = _rebuild(optimizer, getattr(self.nets, name), self.config.betas)
                self.optimizers[name] = optimizer
            optimizer.param_groups[0]["lr"] = stage.lr

    def _grow(self) -> None:
        old_names = {name for name, _ in self.nets.ema.named_parameters()}
        for net, name in ((self.nets.encoder, "encoder"), (self.nets.generator, "generator")):
            net.grow(derive_seed(self.config.seed, "grow", name, 2 * self.resolution))
        self.nets.ema.grow(0)
        copy_new_layers(self.nets.ema, self.nets.generator, old_names)
        self.pool.clear()


def _adam(net: nn.Module, lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=lr, betas=betas, eps=1e-8, fused=True)


def _rebuild(old: torch.optim.Adam, net: nn.Module, betas: tuple[float, float]) -> torch.optim.Adam:
    """Adam over the network's present layers; those that stayed keep their moments."""
    new = _adam(net, old.param_groups[0]["lr"], betas)
    for parameter in net.parameters():
        if parameter in old.state:
            new.state[parameter] = old.state[parameter]
    return new
