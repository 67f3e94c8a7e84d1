"""up2_blend with its gradient. alpha is a tensor, so that one compiled step serves a whole fade."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.ops.registered.registry import empty_as, finish, register, wide


def _backward(g: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    g_wide = g.to(wide(g))
    g_old = (1 - alpha) * 4 * F.avg_pool2d(g_wide, 2)
    return finish(g_old, g), finish(alpha * g_wide, g)


def _fake_backward(g: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = g.shape
    return empty_as(g, n, c, h // 2, w // 2), empty_as(g, n, c, h, w)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    old, new, alpha = inputs
    # The images are kept only for the gradient of alpha, which training never asks for.
    ctx.save_for_backward(alpha, *((old, new) if ctx.needs_input_grad[2] else ()))


def _gradients(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    alpha, *images = ctx.saved_tensors
    g_old, g_new = _backward_op(g, alpha)
    if not images:
        return g_old, g_new, None
    old, new = (image.to(alpha.dtype) for image in images)
    change = new - F.interpolate(old, scale_factor=2)
    return g_old, g_new, (g.to(alpha.dtype) * change).sum().view_as(alpha)


_backward_op = register(
    "up2_blend_backward(Tensor g, Tensor alpha) -> (Tensor, Tensor)", _fake_backward, _backward
)
_op = register(
    "up2_blend(Tensor old, Tensor new, Tensor alpha) -> Tensor",
    lambda old, new, alpha: empty_as(new, *new.shape),
    save=_save,
    backward=_gradients,
)


def up2_blend(old: Tensor, new: Tensor, alpha: float | Tensor) -> Tensor:
    """As `pgvae.ops.reference.up2_blend`."""
    if isinstance(alpha, Tensor):
        alpha = alpha.to(new.device, wide(new))
    else:
        alpha = torch.full((), alpha, dtype=wide(new), device=new.device)
    return _op(old, new, alpha)
