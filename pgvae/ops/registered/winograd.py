"""The transforms of Winograd's convolutions, each with its transpose as gradient.

Images [N, C, H, W] in float32 go to coefficients [K, tiles, C] and products of coefficients come
back as images. `up2` is for upsampling followed by the convolution: four phases of 2x2 taps,
F(4x4, 2x2), with 25 coefficients each; else one phase of 3x3 taps, F(4x4, 3x3), with 36.
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


def _fake_image(given: Tensor, n: int, h: int, w: int, up2: bool) -> Tensor:
    shape = (n, given.shape[2], h, w)
    return torch.empty(
        shape, dtype=given.dtype, device=given.device, memory_format=torch.channels_last
    )


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
