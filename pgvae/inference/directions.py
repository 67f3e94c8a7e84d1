"""Attributes as directions of the latent space: a linear model of each, and moves along it.

VAC and IntroVAC train such a model with their networks; for any other model it is estimated from
labelled images, and kept in a file beside the snapshot.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from pgvae.checks import nearest, require, require_choice
from pgvae.choices import Fit
from pgvae.config import Head
from pgvae.errors import CorruptFileError, InputError, PgvaeError
from pgvae.files import sha256_of
from pgvae.objectives.terms import known_accuracy
from pgvae.seal import require_sealed, save_sealed
from pgvae.snapshot import MALFORMED

_FORMAT = 1
_MOST_DELTA = 1e6  # deviations: beyond, float32 has no images of it
_PASSES = 200  # over the attributes, while each must become sure enough


@dataclass(frozen=True)
class Directions:
    """Attribute k is there with probability sigmoid(weight_k . z + bias_k).

    names:  of the K attributes.
    weight: [K, d] float32. bias: [K] float32.
    about:  how they were found: method, data set, accuracy, for the reader.

    >>> found = Directions(("hat", "glasses"), torch.eye(2), torch.tensor([0.0, -1.0]))
    >>> found.of(["glasses"]).logits(torch.tensor([[5.0, 3.0]])).item()
    2.0
    """

    names: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> "Directions":
        """Those of some attributes, in their order; InputError for one that is not known."""
        for name in names:
            require(name in self.names, f"no attribute {name!r}: {nearest(name, [*self.names])}")
        rows = [self.names.index(name) for name in names]
        return Directions(tuple(names), self.weight[rows], self.bias[rows], self.about)

    def joined(self, other: "Directions") -> "Directions":
        """These, and those of `other` that have other names."""
        more = other.of([name for name in other.names if name not in self.names])
        return Directions(
            self.names + more.names,
            torch.cat([self.weight, more.weight]),
            torch.cat([self.bias, more.bias]),
            other.about,
        )

    def logits(self, latents: Tensor) -> Tensor:
        """[N, d] -> [N, K], yes above 0."""
        return F.linear(latents, self.weight, self.bias)

    def accuracy(self, latents: Tensor, said: Tensor) -> dict[str, float]:
        """Of each attribute that latents [N, d] have known, the share that it is right about.

        said: [N, K], 1 yes, 0 no, NaN unknown.
        """
        logits, known = self.logits(latents), said.isfinite().any(dim=0)
        return {
            name: known_accuracy(logits[:, k], said[:, k]).item()
            for k, name in enumerate(self.names)
            if known[k]
        }

    def to(self, device: torch.device) -> "Directions":
        """The same on a device."""
        return Directions(self.names, self.weight.to(device), self.bias.to(device), self.about)


def move(head: Head, latents: Tensor, directions: Directions, deltas: Sequence[float]) -> Tensor:
    """z + sum_k delta_k w_k / |w_k|: [N, d] -> [N, d] (IntroVAC, section 4.2).

    deltas: one for each attribute, in deviations of the prior: 1 for N(0, I), 1 / sqrt(d) on the
    unit sphere, where the result is taken back to it.

    >>> hat = Directions(("hat",), torch.tensor([[0.0, 5.0]]), torch.zeros(1))
    >>> move("gaussian", torch.zeros(1, 2), hat, [3.0]).tolist()
    [[0.0, 3.0]]
    """
    fits = all(abs(delta) <= _MOST_DELTA for delta in deltas)
    require(fits, f"deltas are {[*deltas]}: use finite numbers, {_MOST_DELTA:g} at most in size")
    unit = F.normalize(directions.weight, dim=1)  # [K, d]
    shift = torch.tensor(deltas, device=latents.device, dtype=latents.dtype) @ unit
    if head == "gaussian":
        return latents + shift
    return F.normalize(latents + shift / math.sqrt(latents.shape[1]), dim=1)


def move_to(head: Head, latents: Tensor, directions: Directions, certainty: float) -> Tensor:
    """Move until every attribute is `certainty` sure: [N, d] -> [N, d]; the least move for one.

    certainty: probability in (0, 1) that the attribute is there; below 1/2 the move takes it away.
    Latents that are as sure already stay. On the sphere a certainty that no point has gives the
    surest point. Several attributes are met in turn, until all hold or, where they all but exclude
    each other, for 200 rounds.

    >>> hat = Directions(("hat",), torch.tensor([[0.0, 5.0]]), torch.zeros(1))
    >>> moved = move_to("gaussian", torch.zeros(1, 2), hat, 0.9)
    >>> round(torch.sigmoid(hat.logits(moved)).item(), 4)
    0.9
    """
    require(0 < certainty < 1, f"certainty is {certainty}: use a probability between 0 and 1")
    sign = 1.0 if certainty >= 0.5 else -1.0
    norms = directions.weight.norm(dim=1)
    require(bool((norms > 0).all()), f"one of {', '.join(directions.names)} has no direction")
    units = sign * directions.weight / norms[:, None]  # [K, d], towards what is asked for
    levels = sign * (math.log(certainty / (1 - certainty)) - directions.bias) / norms
    for _ in range(_PASSES if len(units) > 1 else 1):
        for unit, level in zip(units, levels, strict=True):
            latents = _reach(head, latents, unit, level)
        if (latents @ units.t() >= levels - 1e-5).all():
            break
    return latents


def _reach(head: Head, latents: Tensor, unit: Tensor, level: Tensor) -> Tensor:
    """The nearest points with <z, unit> >= level: [N, d] -> [N, d]."""
    height = latents @ unit  # [N]
    if head == "gaussian":
        return latents + (level - height).clamp(min=0)[:, None] * unit
    level = level.clamp(-1, 1)
    reached = level * unit + (1 - level.square()).sqrt() * _across(latents, unit)
    return torch.where((height < level)[:, None], reached, latents)


def _across(latents: Tensor, unit: Tensor) -> Tensor:
    """Unit vectors at right angles to `unit` towards each latent; at a pole any one: [N, d]."""
    tangents = latents - (latents @ unit)[:, None] * unit
    spare = F.one_hot(unit.abs().argmin(), len(unit)).to(unit.dtype)
    tangents = torch.where(tangents.norm(dim=1, keepdim=True) < 1e-3, spare, tangents)
    # Once more: of a short tangent rounding is a large part.
    return F.normalize(tangents - (tangents @ unit)[:, None] * unit, dim=1)


def estimate(
    latents: Tensor,
    said: Tensor,
    names: Sequence[str],
    method: Fit = "probe",
    ridge: float = 1.0,
) -> Directions:
    """Directions from labelled latents: [N, d], and [N, K] with 1 yes, 0 no, NaN unknown.

    probe:      logistic regression with an L2 penalty of `ridge` / 2 on the weight, for latents
                scaled to a mean square of 1.
    difference: mean latent of yes minus that of no; a logistic regression on the projection
                gives length and bias, so that it has a probability too.

    InputError where a label does not say both yes and no.

    >>> latents = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    >>> found = estimate(latents, torch.tensor([[0.0], [1.0]]), ["hat"])
    >>> (found.logits(latents) > 0).flatten().tolist()
    [False, True]
    """
    require_choice("method", method, get_args(Fit))
    scale = latents.double().square().mean().sqrt().clamp(min=1e-12)
    rows = []
    for name, column in zip(names, said.t(), strict=True):
        known = column.isfinite()
        x, y = latents[known].double() / scale, column[known].double()
        require(
            bool((y == 0).any() and (y == 1).any()),
            f"label {name!r} does not say both yes and no in these images: take another, or more",
        )
        if method == "difference":
            unit = F.normalize(x[y == 1].mean(dim=0) - x[y == 0].mean(dim=0), dim=0)
            slope, bias = _logistic_regression((x @ unit)[:, None], y, ridge)
            weight = slope * unit
        else:
            weight, bias = _logistic_regression(x, y, ridge)
        rows.append((weight / scale, bias))
    weight, bias = (torch.stack(part).float() for part in zip(*rows, strict=True))
    return Directions(tuple(names), weight, bias, {"method": method})


def _logistic_regression(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Minimise sum log-loss + ridge / 2 |w|^2 by Newton's method: x [N, d], y [N] -> w [d], b."""
    x = F.pad(x, (0, 1), value=1.0)
    penalty = torch.full_like(x[0], ridge)
    penalty[-1] = 1e-6  # the bias is as good as free
    w = torch.zeros_like(penalty)

    def loss(w: Tensor) -> Tensor:
        fit = F.binary_cross_entropy_with_logits(x @ w, y, reduction="sum")
        return fit + (penalty * w.square()).sum() / 2

    for _ in range(100):
        p = torch.sigmoid(x @ w)
        gradient = x.t() @ (p - y) + penalty * w
        hessian = (x * (p * (1 - p))[:, None]).t() @ x + penalty.diag()
        step = torch.linalg.solve(hessian, gradient)
        rate = 1.0
        while loss(w - rate * step) > loss(w) and rate > 1e-6:
            rate /= 2
        w = w - rate * step
        if step.abs().max() < 1e-8 * (1 + w.abs().max()):
            break
    return w[:-1], w[-1]


def directions_path(snapshot: Path) -> Path:
    """Where the directions of a snapshot are kept: beside it.

    >>> directions_path(Path("runs/a/snapshot-60.safetensors")).name
    'directions-snapshot-60.safetensors'
    """
    return snapshot.with_name(f"directions-{snapshot.stem}.safetensors")


def save_directions(path: Path, directions: Directions, snapshot: Path) -> None:
    """Write atomically; ResourceError when the disk is full.

    >>> snapshot, path = folder / "a.safetensors", folder / "directions-a.safetensors"
    >>> snapshot.touch()
    >>> save_directions(path, model.directions, snapshot)
    >>> load_directions(path, snapshot, 4).names
    ('glasses', 'hat')
    """
    about = {
        "format": _FORMAT,
        "names": list(directions.names),
        "snapshot": sha256_of(snapshot),
        "about": dict(directions.about),
    }
    parts = {"weight": directions.weight, "bias": directions.bias}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in parts.items()}
    save_sealed(path, tensors, about)


def load_directions(path: Path, snapshot: Path, latent_dim: int) -> Directions:
    """Read directions; InputError where of another snapshot, CorruptFileError where damaged."""
    damaged = f"{path} is damaged or holds no directions: run `pgvae directions` again"
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads(file.metadata()["pgvae"])
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        version = found["format"]
    except (SafetensorError, OSError, *MALFORMED) as error:
        raise CorruptFileError(damaged) from error
    if version != _FORMAT:
        raise InputError(
            f"{path} has format {version!s:.20}, this version reads {_FORMAT}: upgrade pgvae"
        )
    require_sealed(path, {"weight": weight, "bias": bias}, found)
    names, owner, about = (found.get(name) for name in ("names", "snapshot", "about"))
    if owner != sha256_of(snapshot):
        raise InputError(
            f"{path} was made for another snapshot than {snapshot.name}: run `pgvae directions` "
            "again"
        )
    well_named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not (
        well_named
        and len(set(names)) == len(names)
        and isinstance(about, dict)
        and weight.dtype == bias.dtype == torch.float32
        and weight.shape == (len(names), latent_dim)
        and bias.shape == (len(names),)
        and bool(weight.isfinite().all() and bias.isfinite().all())
    ):
        raise CorruptFileError(damaged)
    return Directions(tuple(names), weight, bias, about)


@contextlib.contextmanager
def kept_directions(snapshot: Path, latent_dim: int) -> Iterator[None]:
    """Keep directions that belong to a snapshot with it while it is written anew."""
    path, found = directions_path(snapshot), None
    with contextlib.suppress(PgvaeError):  # damaged, or of another snapshot
        found = load_directions(path, snapshot, latent_dim) if path.is_file() else None
    yield
    if found:
        save_directions(path, found, snapshot)
