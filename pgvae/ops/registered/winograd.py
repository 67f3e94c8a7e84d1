"""Winograd's convolutions: of narrow layers in one op, of wide ones the transforms.

`winograd_conv3x3` is bilinear: it and its two gradients are the gradients of each other. Of the
transforms, each has its transpose as gradient: images [N, C, H, W] in float32 go to coefficients
[K, tiles, C], weights [O, I, 3, 3] to filters [K, I, O], and products come back as images. `up2` is
for upsampling followed by the convolution: four phases of 2x2 taps, F(4x4, 2x2), with 25
coefficients each; else one phase of 3x3 taps, F(4x4, 3x3), with 36.
"""

from typing import Any

import torch
from torch import Tensor

from pgvae.ops.registered.registry import register


def _fake_coefficients(scale: int) -> Any:
    def fake(image: Tensor, up2: bool) -> Tensor:
        n, c, h, w = image.shape
        side = 4 * scale if up2 else 4
        return image.new_empty(100 if up2 else 36, n * (h // side) * (w // side), c)

    return fake


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _fake_image(given: Tensor, n: int, h: int, w: int, up2: bool) -> Tensor:
    return _empty(given, n, given.shape[2], h, w)


def _save_up2(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.up2 = inputs[-1]


def _save_size(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.up2 = inputs[1]
    n, _, h, w = inputs[0].shape
    ctx.size = (n, h, w)


_SIZED = "(Tensor given, SymInt n, SymInt h, SymInt w, bool up2) -> Tensor"
winograd_input = register(
    "winograd_input(Tensor x, bool up2) -> Tensor",
    _fake_coefficients(1),
    save=_save_size,
    backward=lambda ctx, g: (_input_backward_op(g, *ctx.size, ctx.up2), None),
)
_input_backward_op = register(
    f"winograd_input_backward{_SIZED}",
    _fake_image,
    save=_save_up2,
    backward=lambda ctx, h: (winograd_input(h, ctx.up2), None, None, None, None),
)
winograd_output = register(
    f"winograd_output{_SIZED}",
    _fake_image,
    save=_save_up2,
    backward=lambda ctx, g: (_output_backward_op(g, ctx.up2), None, None, None, None),
)
_output_backward_op = register(
    "winograd_output_backward(Tensor g, bool up2) -> Tensor",
    _fake_coefficients(2),
    save=_save_size,
    backward=lambda ctx, h: (winograd_output(h, *ctx.size, ctx.up2), None),
)
# weight [O, I, 3, 3] -> filters [36 or 100, I, O], which coefficients are multiplied by.
winograd_filters = register(
    "winograd_filters(Tensor weight, bool up2) -> Tensor",
    lambda weight, up2: weight.new_empty(100 if up2 else 36, *weight.shape[1::-1]),
    save=_save_up2,
    backward=lambda ctx, g: (_filters_backward_op(g, ctx.up2), None),
)
_filters_backward_op = register(
    "winograd_filters_backward(Tensor g, bool up2) -> Tensor",
    lambda g, up2: _empty(g, *g.shape[:0:-1], 3, 3),
    save=_save_up2,
    backward=lambda ctx, h: (winograd_filters(h, ctx.up2), None),
)


def _save_both(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.up2 = inputs[2]


def _gradients(ctx: Any, first: Any, second: Any) -> tuple[Tensor | None, Tensor | None, None]:
    """first(b, up2) and second(a, up2) of the saved a and b, where they are wanted."""
    a, b = ctx.saved_tensors
    return (
        first(b, ctx.up2) if ctx.needs_input_grad[0] else None,
        second(a, ctx.up2) if ctx.needs_input_grad[1] else None,
        None,
    )


# x [N, I, H, W], weight [O, I, 3, 3] -> y [N, O, H, W], or twice the size.
winograd_conv3x3 = register(
    "winograd_conv3x3(Tensor x, Tensor weight, bool up2) -> Tensor",
    lambda x, weight, up2: _empty(
        x, x.shape[0], weight.shape[0], *(side * (1 + up2) for side in x.shape[2:])
    ),
    save=_save_both,
    backward=lambda ctx, g: _gradients(
        ctx,
        lambda weight, up2: _conv3x3_input_op(g, weight, up2),
        lambda x, up2: _conv3x3_weight_op(x, g, up2),
    ),
)
# The gradient g of y, weight -> the gradient of x.
_conv3x3_input_op = register(
    "winograd_conv3x3_input(Tensor g, Tensor weight, bool up2) -> Tensor",
    lambda g, weight, up2: _empty(
        g, g.shape[0], weight.shape[1], *(side // (1 + up2) for side in g.shape[2:])
    ),
    save=_save_both,
    backward=lambda ctx, h: _gradients(
        ctx,
        lambda weight, up2: winograd_conv3x3(h, weight, up2),
        lambda g, up2: _conv3x3_weight_op(h, g, up2),
    ),
)
# x, g -> the gradient of the weight.
_conv3x3_weight_op = register(
    "winograd_conv3x3_weight(Tensor x, Tensor g, bool up2) -> Tensor",
    lambda x, g, up2: _empty(x, g.shape[1], x.shape[1], 3, 3),
    save=_save_both,
    backward=lambda ctx, h: _gradients(
        ctx,
        lambda g, up2: _conv3x3_input_op(g, h, up2),
        lambda x, up2: winograd_conv3x3(x, h, up2),
    ),
)
