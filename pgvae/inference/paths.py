"""Ways through the latent space: great circles on the sphere, straight lines otherwise."""

import math

import torch
from torch import Tensor

from pgvae.checks import whole
from pgvae.config import Head

_MOST_STEPS = 100_000  # more are a slip


def slerp(a: Tensor, b: Tensor, ratio: Tensor | float) -> Tensor:
    """Spherical interpolation of unit vectors [..., d] along their great circle.

    Falls back on a normalised straight line where the vectors are (nearly) equal or opposite.

    >>> half = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)
    >>> [round(value, 4) for value in half.tolist()]
    [0.7071, 0.7071]
    """
    angle = torch.acos((a * b).sum(dim=-1, keepdim=True).clamp(-1, 1))
    near = torch.sin(angle) < 1e-4
    safe = torch.where(near, torch.full_like(angle, math.pi / 2), angle)
    curved = (torch.sin((1 - ratio) * safe) * a + torch.sin(ratio * safe) * b) / torch.sin(safe)
    straight = torch.nn.functional.normalize(torch.lerp(a, b, ratio), dim=-1)
    return torch.where(near, straight, curved)


def require_way(corners: Tensor, steps: int) -> None:
    """ValueError unless so many images or latents have a way between them."""
    if len(corners) not in (2, 4) or not 2 <= whole("steps", steps) <= _MOST_STEPS:
        raise ValueError(
            f"give 2 or 4 images or latents and 2 or more steps, {_MOST_STEPS} at most: got "
            f"{len(corners)}, {steps}"
        )


def require_polyline(points: Tensor, steps: int) -> None:
    """ValueError unless a walk goes through these points."""
    if len(points) < 2 or not 1 <= whole("steps", steps) <= _MOST_STEPS:
        raise ValueError(
            f"give 2 latents or more and 1 step or more, {_MOST_STEPS} at most: got "
            f"{len(points)}, {steps}"
        )


def line(head: Head, a: Tensor, b: Tensor, steps: int) -> Tensor:
    """`steps` latents from a to b, both included: [..., d] twice -> [steps, ..., d].

    >>> line("gaussian", torch.zeros(1), torch.ones(1), 3).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    mix = slerp if head == "sphere" else torch.lerp
    ratios = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
    return torch.stack([mix(a, b, t) for t in ratios])


def square(head: Head, corners: Tensor, steps: int) -> Tensor:
    """Latents of a grid with the corners [4, d] (row by row): -> [steps, steps, d].

    >>> square("gaussian", torch.tensor([[0.0], [2.0], [4.0], [6.0]]), 3)[..., 0].tolist()
    [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0], [4.0, 5.0, 6.0]]
    """
    top, bottom = (line(head, corners[i], corners[i + 1], steps) for i in (0, 2))
    return line(head, top, bottom, steps)


def polyline(head: Head, points: Tensor, steps: int, closed: bool = False) -> Tensor:
    """A walk through points [N, d]: -> [(N - 1) steps + 1, d], with a point every `steps`.

    closed: on to just before the first point, so that it can be repeated: [N steps, d].

    >>> points = torch.tensor([[0.0], [2.0]])
    >>> polyline("gaussian", points, 2).flatten().tolist()
    [0.0, 1.0, 2.0]
    >>> polyline("gaussian", points, 2, closed=True).flatten().tolist()
    [0.0, 1.0, 2.0, 1.0]
    """
    ends = points.roll(-1, dims=0) if closed else points[1:]
    legs = [line(head, a, b, steps + 1)[:-1] for a, b in zip(points, ends, strict=False)]
    return torch.cat(legs if closed else [*legs, points[-1:]])
