"""moment_kl with its gradient, and the moments it is made of.

mean = sum_n z / N,  m2 = sum_n (z - mean)^2,  v = m2 / N,
kl = 1/2 sum_d (v + mean^2 - 1 - log v),
gz = (gkl mean + gmean) / N + (z - mean) (gkl (1 - 1/v) / N + 2 gm2).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.ops.registered.registry import in_wide, register


def _forward(z: Tensor, project: bool) -> tuple[Tensor, Tensor, Tensor]:
    z = F.normalize(z, dim=1) if project else z
    mean = z.mean(dim=0)
    m2 = (z - mean).square().sum(dim=0)
    variance = m2 / len(z)
    return 0.5 * (variance + mean.square() - 1 - variance.log()).sum(), mean, m2


def _backward(
    gkl: Tensor | None,
    gmean: Tensor | None,
    gm2: Tensor | None,
    z: Tensor,
    mean: Tensor,
    m2: Tensor,
    project: bool,
) -> Tensor:
    count = len(z)
    unit = F.normalize(z, dim=1) if project else z
    gz = torch.zeros_like(z)
    if gkl is not None:
        gz = gz + gkl * (mean + (unit - mean) * (1 - count / m2)) / count
    if gmean is not None:
        gz = gz + gmean / count
    if gm2 is not None:
        gz = gz + (unit - mean) * 2 * gm2
    if not project:
        return gz
    norm = z.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (gz - unit * (gz * unit).sum(dim=1, keepdim=True)) / norm


def _fake(z: Tensor, project: bool) -> tuple[Tensor, Tensor, Tensor]:
    return z.new_empty(()), z.new_empty(z.shape[1]), z.new_empty(z.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    z, ctx.project = inputs
    ctx.save_for_backward(z, *output[1:])
    ctx.set_materialize_grads(False)


_backward_op = register(
    "moment_kl_backward(Tensor? gkl, Tensor? gmean, Tensor? gm2, Tensor z, Tensor mean, Tensor m2,"
    " bool project) -> Tensor",
    _backward,
    lambda gkl, gmean, gm2, z, mean, m2, project: z.new_empty(z.shape),
)
_op = register(
    "moment_kl(Tensor z, bool project) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
    _save,
    lambda ctx, *gradients: (_backward_op(*gradients, *ctx.saved_tensors, ctx.project), None),
)


def moment_kl(z: Tensor, project: bool = False) -> Tensor:
    """As `pgvae.ops.reference.moment_kl`."""
    if len(z) < 2:
        raise ValueError(f"moment_kl needs at least 2 samples: got {len(z)}")
    return _op(*in_wide(z), project)[0]


def mean_and_m2(z: Tensor, project: bool = False) -> tuple[Tensor, Tensor]:
    """As `pgvae.ops.reference.mean_and_m2`."""
    return _op(*in_wide(z), project)[1:]
