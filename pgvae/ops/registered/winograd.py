"""The transforms of Winograd's convolutions, each with its transpose as gradient.

Images [N, C, H, W] in float32 go to coefficients [K, tiles, C] and products of coefficients come
back as images. `up2` is for upsampling followed by the convolution: four phases of 2x2 taps,
F(4x4, 2x2), with 25 coefficients each; else one phase of 3x3 taps, F(4x4, 3x3), with 36 (Lavin
and Gray, 2016, section 4; the matrices are Cook and Toom's for the points 0, 1, -1, 2 and
infinity, and -2 for 3x3).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.ops.registered.registry import register

_INPUT = {
    False: [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    True: [
        [2, -1, -2, 1, 0],
        [0, -2, -1, 1, 0],
        [0, 2, -3, 1, 0],
        [0, -1, 0, 1, 0],
        [0, 2, -1, -2, 1],
    ],
}
_OUTPUT = {
    False: [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    True: [[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 0], [0, 1, -1, 8, 1]],
}


def _both_directions(matrix: list[list[int]], like: Tensor) -> Tensor:
    """The matrix for tiles flattened to columns."""
    matrix = torch.tensor(matrix, dtype=like.dtype, device=like.device)
    return torch.kron(matrix, matrix)


def _tiles(image: Tensor, side: int) -> Tensor:
    """Windows of side x side pixels, 4 apart, as columns: [N, C, H, W] -> [side^2, tiles, C]."""
    windows = image.permute(0, 2, 3, 1).unfold(1, side, 4).unfold(2, side, 4)
    return windows.permute(4, 5, 0, 1, 2, 3).flatten(2, 4).flatten(0, 1)


def _input(x: Tensor, up2: bool) -> Tensor:
    h, w = x.shape[2:]
    x = F.pad(x, (1, 1, 1, 1))
    views = [x[:, :, a : a + h + 1, b : b + w + 1] for a in (0, 1) for b in (0, 1)] if up2 else [x]
    matrix = _both_directions(_INPUT[up2], x)
    side = len(_INPUT[up2])
    return torch.cat([torch.tensordot(matrix, _tiles(view, side), 1) for view in views])


def _output_backward(g: Tensor, up2: bool) -> Tensor:
    views = [g[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)] if up2 else [g]
    matrix = _both_directions(_OUTPUT[up2], g).t()
    return torch.cat([torch.tensordot(matrix, _tiles(view, 4), 1) for view in views])


def _transpose(gather: Any, given: Tensor, n: int, h: int, w: int, up2: bool) -> Tensor:
    """What autograd makes of the transpose of `gather`."""
    image = given.new_zeros(n, given.shape[2], h, w).requires_grad_()
    with torch.enable_grad():
        coefficients = gather(image, up2)
    (result,) = torch.autograd.grad(coefficients, image, given)
    return result.clone(memory_format=torch.channels_last)


def _input_backward(g: Tensor, n: int, h: int, w: int, up2: bool) -> Tensor:
    return _transpose(_input, g, n, h, w, up2)


def _output(products: Tensor, n: int, h: int, w: int, up2: bool) -> Tensor:
    return _transpose(_output_backward, products, n, h, w, up2)


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
    _input,
    _save_size,
    lambda ctx, g: (_input_backward_op(g, *ctx.size, ctx.up2), None),
)
_input_backward_op = register(
    f"winograd_input_backward{_SIZED}",
    _fake_image,
    _input_backward,
    _save_up2,
    lambda ctx, h: (winograd_input(h, ctx.up2), None, None, None, None),
)
winograd_output = register(
    f"winograd_output{_SIZED}",
    _fake_image,
    _output,
    _save_up2,
    lambda ctx, g: (_output_backward_op(g, ctx.up2), None, None, None, None),
)
_output_backward_op = register(
    "winograd_output_backward(Tensor g, bool up2) -> Tensor",
    _fake_coefficients(2),
    _output_backward,
    _save_size,
    lambda ctx, h: (winograd_output(h, *ctx.size, ctx.up2), None),
)
