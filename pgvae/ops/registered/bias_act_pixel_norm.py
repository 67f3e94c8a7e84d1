"""bias_act_pixel_norm with its gradient: only y and r = 1 / sqrt(mean_C(a^2) + eps) are kept.

With n the normalised value before or after LeakyReLU, q its slope (1 or `slope`), and <., .> the
mean over channels:
    norm_act:  y = q n,  gu = r (g q - n <g q, n>)
    act_norm:  y = n,    gu = r (g - n <g, n>) q
"""

from typing import Any

from torch import Tensor

from pgvae.config import Order
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


def _backward(
    g: Tensor, y: Tensor, rstd: Tensor, norm_first: bool, slope: float
) -> tuple[Tensor, Tensor]:
    g_wide, n = g.to(wide(y)), y.to(wide(y))
    if norm_first:
        g_wide, n = sloped(g_wide, y, slope), sloped(n, y, 1 / slope)
    gu = rstd * (g_wide - n * (g_wide * n).mean(dim=1, keepdim=True))
    gu = gu if norm_first else sloped(gu, y, slope)
    return finish(gu, y), gu.sum(dim=(0, 2, 3))


def _through_rstd(
    g_rstd: Tensor, y: Tensor, rstd: Tensor, norm_first: bool, slope: float
) -> tuple[Tensor, Tensor]:
    """What the gradient of r adds, which is there in second derivatives: dr/da = -r^2 n / C."""
    n = sloped(y.to(wide(y)), y, 1 / slope if norm_first else slope)
    gu = -(rstd.square()) * g_rstd / y.shape[1] * n
    return finish(gu, y), gu.sum(dim=(0, 2, 3))


def _fake(
    x: Tensor, bias: Tensor, norm_first: bool, slope: float, eps: float
) -> tuple[Tensor, Tensor]:
    n, _, h, w = x.shape
    return empty_as(x, *x.shape), x.new_empty((n, 1, h, w), dtype=wide(x))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.settings = inputs[2:4]
    ctx.save_for_backward(*output)
    ctx.set_materialize_grads(False)  # r is used by nobody but second derivatives


def _gradients(ctx: Any, g: Tensor | None, g_rstd: Tensor | None) -> tuple[Tensor | None, ...]:
    y, rstd = ctx.saved_tensors
    gx = gb = None
    if g is not None:
        gx, gb = _backward_op(g, y, rstd, *ctx.settings)
    if g_rstd is not None:
        more_x, more_b = _through_rstd(g_rstd, y, rstd, *ctx.settings)
        gx, gb = (more_x, more_b) if gx is None else (gx + more_x, gb + more_b)
    return gx, gb, None, None, None


_backward_op = register(
    "bias_act_pixel_norm_backward(Tensor g, Tensor y, Tensor rstd, bool norm_first, float slope)"
    " -> (Tensor, Tensor)",
    fake_gradients,
    _backward,
)
_op = register(
    "bias_act_pixel_norm(Tensor x, Tensor bias, bool norm_first, float slope, float eps)"
    " -> (Tensor, Tensor)",
    _fake,
    save=_save,
    backward=_gradients,
)


def bias_act_pixel_norm(
    x: Tensor, bias: Tensor, order: Order = "norm_act", slope: float = 0.2, eps: float = 1e-8
) -> Tensor:
    """As `pgvae.ops.reference.bias_act_pixel_norm`."""
    reference.check_pixel_norm(order, slope)
    return _op(x, bias_like(bias, x), order == "norm_act", slope, eps)[0]
