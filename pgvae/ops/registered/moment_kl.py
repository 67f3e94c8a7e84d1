"""moment_kl with its gradient, and the moments it is made of.

mean = sum_n z / N,  m2 = sum_n (z - mean)^2,  v = m2 / N,
kl = 1/2 sum_d (v + mean^2 - 1 - log v),
gz = (gkl mean + gmean) / N + (z - mean) (gkl (1 - 1/v) / N + 2 gm2).
"""

from typing import Any

import torch
from torch import Tensor

from pgvae.ops.registered.registry import in_wide, register


def _backward(
    gkl: Tensor | None,
    gmean: Tensor | None,
    gm2: Tensor | None,
    z: Tensor,
    mean: Tensor,
    m2: Tensor,
) -> Tensor:
    count = len(z)
    gz = torch.zeros_like(z)
    if gkl is not None:
        gz = gz + gkl * (mean + (z - mean) * (1 - count / m2)) / count
    if gmean is not None:
        gz = gz + gmean / count
    if gm2 is not None:
        gz = gz + (z - mean) * 2 * gm2
    return gz


def _fake(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return z.new_empty(()), z.new_empty(z.shape[1]), z.new_empty(z.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output[1:])
    ctx.set_materialize_grads(False)


_backward_op = register(
    "moment_kl_backward(Tensor? gkl, Tensor? gmean, Tensor? gm2, Tensor z, Tensor mean, Tensor m2)"
    " -> Tensor",
    lambda gkl, gmean, gm2, z, mean, m2: z.new_empty(z.shape),
    _backward,
)
_op = register(
    "moment_kl(Tensor z) -> (Tensor, Tensor, Tensor)",
    _fake,
    save=_save,
    backward=lambda ctx, *gradients: _backward_op(*gradients, *ctx.saved_tensors),
)


def moment_kl(z: Tensor) -> Tensor:
    """As `pgvae.ops.reference.moment_kl`."""
    if len(z) < 2:
        raise ValueError(f"moment_kl needs at least 2 samples: got {len(z)}")
    return _op(*in_wide(z))[0]


def mean_and_m2(z: Tensor) -> tuple[Tensor, Tensor]:
    """As `pgvae.ops.reference.mean_and_m2`."""
    return _op(*in_wide(z))[1:]
