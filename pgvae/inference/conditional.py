"""Latents given attributes: samples of p(z | y), proportional to p(y | z) p(z)."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.checks import require, require_choice, whole
from pgvae.choices import LANGEVIN_STEP_SIZE, LANGEVIN_STEPS, Prior, Sampling
from pgvae.config import Head
from pgvae.inference.directions import Directions
from pgvae.prior import FittedPrior

if TYPE_CHECKING:
    from pgvae.inference.model import Model

Check = Callable[[Tensor], Tensor]  # latents [n, d] -> bool [n], which to keep
_CANDIDATES = 8192  # in a round, at most


class _Trial(NamedTuple):
    """How long to look for candidates that are kept.

    planned_rate: least share that a round's size counts on. fair, least_rate: give up where after
    so many candidates a smaller share is kept.
    """

    planned_rate: float
    fair: int
    least_rate: float


_CHAINS = _Trial(planned_rate=0.1, fair=256, least_rate=1e-2)
_DRAWS = _Trial(planned_rate=1e-4, fair=2**17, least_rate=1e-4)


class Conditional(NamedTuple):
    """Samples, and the share of the candidates that they are.

    latents: [N, d]. accepted: the kept share of Langevin's ends, or of draws from the prior.
    """

    latents: Tensor
    accepted: float


def draw(
    model: "Model",
    count: int,
    attributes: Mapping[str, int],
    steps: int,
    method: Sampling,
    step_size: float,
    sure: float | None,
    seed: int,
    prior: Prior | None,
) -> Conditional:
    """What `Model.conditional_latents` says."""
    count, steps, seed = whole("count", count), whole("steps", steps), whole("seed", seed)
    require(count >= 1 and steps >= 1, f"count is {count}, steps {steps}: use 1 or more")
    require(0 < step_size <= 0.1, f"step_size is {step_size}: use a number up to 0.1")
    require_choice("method", method, get_args(Sampling))
    for name, value in attributes.items():
        require(value in (0, 1), f"attribute {name} is {value}: use 1 (there) or 0 (not there)")
    chosen = model.directions.of([*attributes])
    yes = torch.tensor([bool(value) for value in attributes.values()])
    if sure is not None:
        require(0 < sure < 1, f"sure is {sure}: use a probability between 0 and 1")
    check = None if sure is None else partial(_looks_right, model, chosen, yes, sure)
    rng = torch.Generator().manual_seed(seed)
    given = (model.config.head, chosen.to(torch.device("cpu")), yes, count, rng)
    if method == "rejection":
        return reject(*given, check=check, prior=model.prior_for(prior))
    require(
        prior in (None, "training"),
        "langevin walks from the training prior: take the method rejection for the fitted one",
    )
    return langevin(*given, steps, step_size, check=check)


def _looks_right(
    model: "Model", chosen: Directions, yes: Tensor, sure: float, latents: Tensor
) -> Tensor:
    """Whether the images of latents are classified as asked: [N, d] -> bool [N], on the CPU."""
    logits = chosen.logits(model.encode(model.decode(latents))).cpu()
    return (logits * (yes.float() * 2 - 1) > math.log(sure / (1 - sure))).all(dim=1)


def langevin(
    head: Head,
    directions: Directions,
    yes: Tensor,
    count: int,
    rng: torch.Generator,
    steps: int = LANGEVIN_STEPS,
    step_size: float = LANGEVIN_STEP_SIZE,
    check: Check | None = None,
) -> Conditional:
    """Langevin Monte Carlo from the prior (IntroVAC, eq. 8), misclassified ends rejected.

    z <- z + a grad log(p(y | z) p(z)) + sqrt(2 a) noise, each sample with its own energy. `yes`:
    [K] bool, whether each attribute is to be there. With a = 2e-4 and 5,000 steps the time is 1, in
    which it does not quite forget its start. On the sphere the walk is that of a Gaussian vector
    whose direction is the latent. check: what else to reject. InputError where hardly an end stays.

    >>> rng = torch.Generator().manual_seed(0)
    >>> hat = model.directions.of(["hat"])
    >>> found = langevin("gaussian", hat, torch.tensor([True]), 5, rng, steps=20, step_size=0.05)
    >>> bool((hat.logits(found.latents) > 0).all())
    True
    """
    signs = yes.float() * 2 - 1  # [K]

    def walk(n: int) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, directions.weight.shape[1], generator=rng, dtype=torch.float32)
        for _ in range(steps):
            noise = torch.randn(z.shape, generator=rng, dtype=z.dtype)
            z = z + step_size * (_pull(head, directions, signs, z) - z)
            z = z + math.sqrt(2 * step_size) * noise
        z = _latent(head, z)
        return z, (directions.logits(z) * signs > 0).all(dim=1)

    return _collect(walk, count, check, _CHAINS)


def reject(
    head: Head,
    directions: Directions,
    yes: Tensor,
    count: int,
    rng: torch.Generator,
    only_right: bool = True,
    check: Check | None = None,
    prior: FittedPrior | None = None,
) -> Conditional:
    """Draws from the training prior, or a fitted one, each kept with probability p(y | z).

    That is exact, and cheap.

    only_right: leave out those that the classifier gets wrong, as `langevin` does. check: what else
    to reject. InputError where hardly a draw is kept.

    >>> rng = torch.Generator().manual_seed(0)
    >>> hat = model.directions.of(["hat"])
    >>> found = reject("gaussian", hat, torch.tensor([False]), 5, rng)
    >>> found.latents.shape, bool((hat.logits(found.latents) < 0).all())
    (torch.Size([5, 4]), True)
    """
    signs, dim = yes.float() * 2 - 1, directions.weight.shape[1]

    def draw(n: int) -> tuple[Tensor, Tensor]:
        if prior:
            z = prior.sample(n, rng)
        else:
            z = torch.randn(n, dim, generator=rng, dtype=torch.float32)
        z = _latent(head, z)
        margins = directions.logits(z) * signs  # [n, K]
        kept = torch.rand(n, generator=rng, dtype=torch.float32) < torch.sigmoid(margins).prod(
            dim=1
        )
        return z, kept & (margins > 0).all(dim=1) if only_right else kept

    return _collect(draw, count, check, _DRAWS)


def _latent(head: Head, z: Tensor) -> Tensor:
    return F.normalize(z, dim=1) if head == "sphere" else z


def _pull(head: Head, directions: Directions, signs: Tensor, z: Tensor) -> Tensor:
    """Gradient of log p(y | z) with respect to z: [N, d]."""
    point = _latent(head, z)
    pull = (torch.sigmoid(-signs * directions.logits(point)) * signs) @ directions.weight
    if head == "gaussian":
        return pull
    along = (pull * point).sum(dim=1, keepdim=True)
    return (pull - along * point) / z.norm(dim=1, keepdim=True)


def _collect(
    make: Callable[[int], tuple[Tensor, Tensor]], count: int, check: Check | None, trial: _Trial
) -> Conditional:
    """Call make(n) -> latents, kept until `count` of them are kept and pass the check."""
    parts, found, tried = [], 0, 0
    while found < count:
        rate = max(found / tried, trial.planned_rate) if tried else 1.0
        latents, kept = make(min(math.ceil((count - found) / rate), _CANDIDATES))
        tried += len(latents)
        latents = latents[kept]
        if check is not None and len(latents):
            latents = latents[check(latents)]
        parts.append(latents)
        found += len(latents)
        require(
            tried < trial.fair or found >= trial.least_rate * tried,
            f"only {found} of {tried:,} candidates have what is asked for: ask for less",
        )
    return Conditional(torch.cat(parts)[:count], found / tried)
