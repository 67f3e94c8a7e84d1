"""What moves the weights: Adam, or Muon for the convolutions and Adam for all else."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pgvae.config import OptimizerKind
from pgvae.nn.layers import matrix_of

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: fast near 0, singular values to 0.7 .. 1.2
_STEPS = 5
_COLOURS = 3  # layers from and to so few features are images', and left to Adam
_NEXT_TO_NOTHING = 1e-20


def optimizer_of(
    kind: OptimizerKind, net: nn.Module, lr: Tensor, betas: tuple[float, float]
) -> torch.optim.Adam:
    """That of a network's present layers. lr: a scalar on the device, read at each step."""
    capturable = lr.device.type == "cuda"  # in a graph: `pgvae.training.graphs`
    make = Muon if kind == "muon" else torch.optim.Adam
    return make(net.parameters(), lr=lr, betas=betas, eps=1e-8, fused=True, capturable=capturable)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly the orthogonal factor U V' of each matrix U S V': [..., M, N] -> [..., M, N].

    Five steps of the Newton-Schulz iteration x <- a x + b (x x') x + c (x x')^2 x of Jordan (2024),
    from x / |x|: singular values come to 0.7 to 1.2, those under a thousandth of |x| to less. All
    steps are polynomials of the Gram matrix of the shorter side, which alone is iterated. Zeros
    stay zeros.

    >>> orthogonal(torch.diag(torch.tensor([3.0, 4.0]))).diagonal()
    tensor([0.7229, 1.1192])
    """
    return all_orthogonal([matrices.reshape(-1, *matrices.shape[-2:])])[0].reshape(matrices.shape)


def all_orthogonal(stacks: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of stacks [n, M, N] of several shapes; those of one shorter side together."""
    wide = [stack if stack.shape[1] <= stack.shape[2] else stack.mT for stack in stacks]
    wide = [x / x.norm(dim=(1, 2), keepdim=True).clamp_min(_NEXT_TO_NOTHING) for x in wide]
    sides = [x.shape[1] for x in wide]
    turns: dict[int, Tensor] = {}
    for side in {*sides}:
        turns[side] = _turns(torch.cat([x @ x.mT for x in wide if x.shape[1] == side]))
    found = []
    for stack, x, side in zip(stacks, wide, sides, strict=True):
        turn, turns[side] = turns[side].tensor_split([len(x)])
        found.append(turn @ x if stack.shape == x.shape else (turn @ x).mT)
    return found


def _turns(gram: Tensor) -> Tensor:
    """What the iteration multiplies matrices by whose Gram matrices these are: [n, M, M]."""
    turn = factor = _factor(gram)
    for _ in range(_STEPS - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        turn = factor @ turn
    return turn


def _factor(gram: Tensor) -> Tensor:
    """What a step of the iteration multiplies by: a + b gram + c gram^2."""
    a, b, c = _COEFFICIENTS
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


class Muon(torch.optim.Adam):
    """Momentum, orthogonalised, for convolutions (Jordan, 2024); Adam for all else.

    For a weight [O, I, K, K] as the matrix W [O, K K I] with gradient g, beta the first of Adam's:

        m <- beta m + (1 - beta) g
        W <- W - lr sqrt(max(O, K K I)) orthogonal(beta m + (1 - beta) g)

    so that an update's root mean square is about lr, as that of Adam's first one is. Layers from
    and to images, biases and linear layers are Adam's. The state of a weight is `exp_avg`, its m.
    With `found_inf` 1 nothing moves, as in fused Adam. torch.optim.Muon takes matrices alone, works
    in bfloat16, and knows neither `found_inf` nor graphs.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move all weights that have a gradient; those of the convolutions are taken away."""
        (group,) = self.param_groups
        bad = getattr(self, "found_inf", None)
        bad = torch.zeros((), device=group["lr"].device) if bad is None else bad
        groups = _alike(p for p in group["params"] if p.grad is not None and _is_muons(p))
        share = 1 - group["betas"][0]
        moves = all_orthogonal([self._ahead(weights, share, bad) for weights in groups])
        for weights, stack in zip(groups, moves, strict=True):
            rate = group["lr"] * math.sqrt(max(stack.shape[1:])) * (1 - bad)
            stack = stack * rate.to(stack.dtype)
            for weight, move in zip(weights, stack, strict=True):
                weight.sub_(_as_weight(move, weight))
                weight.grad = None
        super().step(closure)

    def _ahead(self, weights: list[Tensor], share: float, bad: Tensor) -> Tensor:
        """Follow the gradients of weights of one shape, and what to orthogonalise: [n, M, N].

        share: 1 - beta.
        """
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["exp_avg"] = torch.zeros_like(weight)
        kept = [self.state[weight]["exp_avg"] for weight in weights]
        gradients = torch.stack([matrix_of(weight.grad) for weight in weights])
        gradients.masked_fill_(bad.bool(), 0)
        momenta = torch.stack([matrix_of(momentum) for momentum in kept])
        momenta.lerp_(gradients, share * (1 - bad))
        for weight, momentum, new in zip(weights, kept, momenta, strict=True):
            momentum.copy_(_as_weight(new, weight))
        return momenta.lerp_(gradients, share)


def _is_muons(parameter: Tensor) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) > _COLOURS


def _alike(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Those of one shape together."""
    groups: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.shape, []).append(parameter)
    return [*groups.values()]


def _as_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """The inverse of `matrix_of`, for a weight's shape."""
    outputs, inputs, *kernel = weight.shape
    return matrix.reshape(outputs, *kernel, inputs).permute(0, 3, 1, 2)
