"""bias_act with its gradient, which reads the sign of the output: x is not kept."""

from typing import Any

from torch import Tensor

from pgvae.ops import reference
from pgvae.ops.registered.registry import (
    bias_like,
    empty_as,
    fake_gradients,
    finish,
    register,
    sloped,
    wide,
)


def _backward(g: Tensor, y: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    gx = sloped(g.to(wide(g)), y, slope)
    return finish(gx, y), gx.sum(dim=(0, 2, 3))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.slope = inputs[2]
    ctx.save_for_backward(output)


_backward_op = register(
    "bias_act_backward(Tensor g, Tensor y, float slope) -> (Tensor, Tensor)",
    fake_gradients,
    _backward,
)
_op = register(
    "bias_act(Tensor x, Tensor bias, float slope) -> Tensor",
    lambda x, bias, slope: empty_as(x, *x.shape),
    save=_save,
    backward=lambda ctx, g: (*_backward_op(g, *ctx.saved_tensors, ctx.slope), None),
)


def bias_act(x: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """As `pgvae.ops.reference.bias_act`."""
    reference.check_slope(slope)
    return _op(x, bias_like(bias, x), slope)
