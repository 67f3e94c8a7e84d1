"""bias_act_avg_pool2 with its gradient: of x only the signs are kept, four bits for an output."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.ops import reference
from pgvae.ops.registered.registry import (
    bias_like,
    empty_as,
    memory_format,
    register,
    wide,
)

_BITS = (1, 2, 4, 8)  # of pixels (0, 0), (0, 1), (1, 0), (1, 1)


def _backward(
    g: Tensor, signs: Tensor, height: int, width: int, slope: float
) -> tuple[Tensor, Tensor]:
    n, c, h, w = signs.shape
    bits = torch.tensor(_BITS, dtype=torch.uint8, device=g.device).view(2, 1, 2)
    positive = (signs.view(n, c, h, 1, w, 1) & bits) != 0  # [N, C, h, 2, w, 2]
    quarter = 0.25 * g.to(wide(g)).view(n, c, h, 1, w, 1)
    gx = torch.where(positive, quarter, slope * quarter).reshape(n, c, 2 * h, 2 * w)
    gx = F.pad(gx, (0, width - 2 * w, 0, height - 2 * h))
    gb = gx.sum(dim=(0, 2, 3))
    return gx.to(g.dtype).contiguous(memory_format=memory_format(signs)), gb


def _fake(x: Tensor, bias: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    half = (n, c, h // 2, w // 2)
    return empty_as(x, *half), empty_as(x, *half, dtype=torch.uint8)


def _fake_backward(
    g: Tensor, signs: Tensor, height: int, width: int, slope: float
) -> tuple[Tensor, Tensor]:
    n, c = signs.shape[:2]
    return empty_as(signs, n, c, height, width, dtype=g.dtype), g.new_empty(c, dtype=wide(g))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, slope = inputs
    ctx.settings = (*x.shape[2:], slope)
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


_backward_op = register(
    "bias_act_avg_pool2_backward(Tensor g, Tensor signs, SymInt height, SymInt width, float slope)"
    " -> (Tensor, Tensor)",
    _fake_backward,
    _backward,
)
_op = register(
    "bias_act_avg_pool2(Tensor x, Tensor bias, float slope) -> (Tensor, Tensor)",
    _fake,
    save=_save,
    backward=lambda ctx, g, _: (*_backward_op(g, *ctx.saved_tensors, *ctx.settings), None),
)


def bias_act_avg_pool2(x: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """As `pgvae.ops.reference.bias_act_avg_pool2`."""
    reference.check_slope(slope)
    reference.check_poolable(x)
    return _op(x, bias_like(bias, x), slope)[0]
