"""gaussian_kl_reparam with its gradient.

gmu = gz + gkl mu, glogvar = gz noise e^(logvar/2) / 2 + gkl (e^logvar - 1) / 2,
gnoise = gz e^(logvar/2).
"""

from typing import Any

import torch
from torch import Tensor

from pgvae.ops.registered.registry import in_wide, register


def _backward(
    gz: Tensor, gkl: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    gkl = gkl.unsqueeze(1)
    std = torch.exp(0.5 * logvar)
    return gz + gkl * mu, 0.5 * (gz * noise * std + gkl * (logvar.exp() - 1))


def _fake(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape[0])


def _fake_backward(
    gz: Tensor, gkl: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, gz: Tensor, gkl: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    mu, logvar, noise = ctx.saved_tensors
    gmu, glogvar = _backward_op(gz, gkl, mu, logvar, noise)
    gnoise = gz * torch.exp(0.5 * logvar) if ctx.needs_input_grad[2] else None
    return gmu, glogvar, gnoise


_backward_op = register(
    "gaussian_kl_reparam_backward(Tensor gz, Tensor gkl, Tensor mu, Tensor logvar, Tensor noise)"
    " -> (Tensor, Tensor)",
    _fake_backward,
    _backward,
)
_op = register(
    "gaussian_kl_reparam(Tensor mu, Tensor logvar, Tensor noise) -> (Tensor, Tensor)",
    _fake,
    save=_save,
    backward=_gradients,
)


def gaussian_kl_reparam(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """As `pgvae.ops.reference.gaussian_kl_reparam`."""
    return _op(*in_wide(mu, logvar, noise))
