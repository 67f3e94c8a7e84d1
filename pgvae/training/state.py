"""All that a run is made of at one moment, and how it moves from stage to stage."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pgvae.config import RunConfig
from pgvae.errors import NotFiniteError
from pgvae.nn import build_nets
from pgvae.nn.growing import RECOMPUTED
from pgvae.schedule import Moment
from pgvae.training.ema import copy_new_layers
from pgvae.training.optimizers import optimizer_of
from pgvae.training.pool import ImagePool
from pgvae.training.ranks import ALONE, Ranks
from pgvae.types import Nets, finest

MAX_SKIPS = 3
_CURE = (
    "go on with --resume and a lower --lr or a larger --batch, or start a new run with --init-from "
    "and a snapshot"
)


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts: all randomness of a run comes from (seed, what, when)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Dials:
    """What changes from iteration to iteration, as scalars on the device, filled once in each.

    alpha, progress: of the stage and of the run, `finest`. lr: of the optimisers.
    ema_share: what the average takes of the newest weights. augment: `TrainState.augment`.
    """

    def __init__(self, device: torch.device) -> None:
        on_cpu = device.type == "cpu"  # fused Adam reads a rate as float64 there, else as float32
        self.lr = torch.zeros((), device=device, dtype=torch.float64 if on_cpu else torch.float32)
        self.alpha = torch.ones((), device=device, dtype=finest(device))
        self.progress = torch.zeros((), device=device, dtype=finest(device))
        self.ema_share = torch.zeros((), device=device)
        self.augment = torch.zeros((), device=device)

    def set(self, moment: Moment, ema_share: float, augment: float = 0.0) -> None:
        """Turn all of them to a moment of the run."""
        self.lr.fill_(moment.lr)
        self.alpha.fill_(moment.alpha)
        self.progress.fill_(moment.progress)
        self.ema_share.fill_(ema_share)
        self.augment.fill_(augment)


class Skips:
    """Updates left out because a number was not finite, counted on the device.

    total:    updates so far. in_a_row: iterations in a row, up to now, with one.
    longest:  the longest such row.
    """

    def __init__(self, device: torch.device, total: int = 0, in_a_row: int = 0) -> None:
        counts = torch.tensor([total, in_a_row, in_a_row], device=device)
        self.total, self.in_a_row, self.longest = counts.unbind()
        self._any = torch.zeros((), device=device, dtype=torch.bool)
        self._terms: dict[str, Tensor] = {}

    def note(self, bad: Tensor, terms: dict[str, Tensor]) -> None:
        """An update with these named scalars was left out, if `bad` ([] bool)."""
        self.total += bad
        self._any |= bad
        for name, value in terms.items():
            kept = self._terms.setdefault(name, value.clone())
            torch.where(bad, value, kept, out=kept)

    def end_iteration(self) -> None:
        """Count the iteration that all of its updates were noted of."""
        self.in_a_row.add_(1).mul_(self._any)
        torch.maximum(self.longest, self.in_a_row, out=self.longest)
        self._any.zero_()

    def read(self) -> tuple[int, int]:
        """(total, in a row), waiting for the device.

        Raises NotFiniteError where `MAX_SKIPS` iterations in a row had an update left out.
        """
        total, in_a_row, longest = torch.stack([self.total, self.in_a_row, self.longest]).tolist()
        if longest >= MAX_SKIPS:
            found = {name: value.item() for name, value in self._terms.items()}
            wrong = [f"{n} {v:.4g}" for n, v in found.items() if not abs(v) < float("inf")]
            raise NotFiniteError(
                f"updates of {MAX_SKIPS} iterations in a row were not finite "
                f"({', '.join(wrong) or 'their gradients'})",
                _CURE,
            )
        return total, in_a_row


@dataclass
class TrainState:
    """Networks, optimisers, image pool and counters of a run.

    images_seen: real images so far: the time of the run.
    ranks:       the processes that share the run.
    batch_gpu:   images that a process works through at a time; None: its part of the batch.
    augment:     probability with which what a critic is shown is augmented.
    rollbacks:   how often it went back to a checkpoint, each time with another order of images.
    """

    config: RunConfig
    nets: Nets
    optimizers: dict[str, torch.optim.Adam]
    dials: Dials
    rng: torch.Generator
    skips: Skips
    pool: ImagePool = field(default_factory=ImagePool)
    images_seen: int = 0
    ranks: Ranks = ALONE
    batch_gpu: int | None = None
    augment: float = 0.0
    rollbacks: int = 0

    @classmethod
    def create(
        cls, config: RunConfig, device: torch.device, resolution: int, *, fading: bool = False
    ) -> "TrainState":
        """A state with fresh weights at `resolution`, drawn from the run's seed."""
        seed = derive_seed(config.seed, "networks")
        nets = build_nets(config.model, resolution, fading=fading, seed=seed)
        for net in nets.parts().values():
            net.to(device)
        return cls.around(config, nets, device)

    @classmethod
    def around(cls, config: RunConfig, nets: Nets, device: torch.device) -> "TrainState":
        """A state of networks that are on a device, which nothing has trained yet."""
        dials = Dials(device)
        optimizers = {n: _optimizer(config, net, dials) for n, net in nets.trained().items()}
        return cls(config, nets, optimizers, dials, torch.Generator(device), Skips(device))

    @property
    def resolution(self) -> int:
        """Pixels per side of the current stage."""
        return self.nets.generator.resolution

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self.dials.lr.device

    def require_finite(self) -> None:
        """Raise NotFiniteError unless all weights, averages and moments are finite."""
        held = {
            f"{part}/{name}": tensor
            for part, net in self.nets.parts().items()
            for name, tensor in net.state_dict().items()
        }
        for part, optimizer in self.optimizers.items():
            for name, parameter in self.nets.trained()[part].named_parameters():
                moments = optimizer.state.get(parameter, {})
                held |= {f"the optimiser's {key} of {part}/{name}": v for key, v in moments.items()}
        held = {name: tensor for name, tensor in held.items() if tensor.is_floating_point()}
        finite = torch.stack(torch._foreach_norm([*held.values()], float("inf"))).isfinite()
        if not finite.all():
            wrong = [name for name, good in zip(held, finite.tolist(), strict=True) if not good]
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise NotFiniteError(f"{wrong[0]}{more} became not finite", _CURE)

    def enter(self, moment: Moment) -> None:
        """Bring networks, optimisers and pool to the stage of `moment`: grow, drop faded layers."""
        changed = False
        while self.resolution < moment.resolution:
            self._grow()
            changed = True
        if moment.alpha == 1 and self.nets.generator.fading:
            for net in self.nets.parts().values():
                net.finish_fade()
            changed = True
        for name, optimizer in self.optimizers.items() if changed else ():
            net = self.nets.trained()[name]
            self.optimizers[name] = _optimizer(self.config, net, self.dials, optimizer)

    def recompute(self) -> None:
        """From here on keep no activations of the largest blocks: work them out once more."""
        for net in self.nets.trained().values():
            net.recompute_from = RECOMPUTED

    def seed_of(self, what: str) -> int:
        """The seed of what is drawn for the iteration at hand, by every process alike."""
        return derive_seed(self.config.seed, what, self.images_seen)

    def _grow(self) -> None:
        parts = self.nets.parts()
        averages = self.nets.averages()
        old_names = {name: set(parts[name].state_dict()) for name in averages}
        for name, net in self.nets.trained().items():
            net.grow(derive_seed(self.config.seed, "grow", name, 2 * self.resolution))
        for name, followed in averages.items():
            parts[name].grow(0)
            copy_new_layers(parts[name], parts[followed], old_names[name])
        self.pool.clear()


def _optimizer(
    config: RunConfig, net: nn.Module, dials: Dials, old: torch.optim.Adam | None = None
) -> torch.optim.Adam:
    """That of the network's present layers; those that were in the `old` one keep their moments."""
    new = optimizer_of(config.optimizer, net, dials.lr, config.betas)
    for parameter in net.parameters():
        if old is not None and parameter in old.state:
            new.state[parameter] = old.state[parameter]
    return new
