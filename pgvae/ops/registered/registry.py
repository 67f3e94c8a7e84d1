"""How an op is registered with `torch.library`, so that autograd and torch.compile know it.

An op has a schema and a fake kernel that says what shapes and strides come out; its kernels for
CPU and CUDA are in the libraries of csrc/. A kernel in plain PyTorch is there where it is needed:
for the gradient of a gradient, and for the parts of a convolution without a library.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("pgvae", "DEF")  # keeps the registrations alive


def register(
    schema: str,
    fake: Callable[..., Any],
    plain: Callable[..., Any] | None = None,
    save: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Any:
    """Register `pgvae::<schema>` and return it.

    save(ctx, inputs, output) and backward(ctx, *gradients) are those of
    `torch.autograd.Function`. Without them the op is differentiated by way of `plain`:
    that is slower, but serves for the gradient of a gradient.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    if plain is not None:
        _LIBRARY.impl(name, plain, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pgvae::{name}", fake, lib=_LIBRARY)
    op = getattr(torch.ops.pgvae, name).default
    differentiable = _differentiable(op, save or _save_inputs, backward or _backward_through(plain))
    _LIBRARY.impl(name, differentiable, "Autograd")
    return op


def _differentiable(
    op: Any, save: Callable[..., None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """`op` as a node of the graph: what `register_autograd` makes, with a third less overhead."""

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                output = op(*inputs)
            save(ctx, inputs, output)
            return output

    Differentiable.backward = staticmethod(backward)

    def kernel(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and any(
            isinstance(value, Tensor) and value.requires_grad for value in inputs
        ):
            return Differentiable.apply(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*inputs)

    return kernel


def _save_inputs(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    del output
    ctx.is_tensor = [isinstance(value, Tensor) for value in inputs]
    ctx.rest = [None if isinstance(value, Tensor) else value for value in inputs]
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))


def _backward_through(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of an op's inputs, by running `kernel` again under autograd."""

    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        create_graph = torch.is_grad_enabled()
        saved = iter(ctx.saved_tensors)
        inputs = [
            next(saved) if is_tensor else rest
            for is_tensor, rest in zip(ctx.is_tensor, ctx.rest, strict=True)
        ]
        with torch.enable_grad():
            # Views: what one saved tensor owes to another must not be followed here.
            inputs = [t.view_as(t) if isinstance(t, Tensor) else t for t in inputs]
            outputs = kernel(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad) if needed]
        found = torch.autograd.grad(
            [out for out in outputs if out.requires_grad],
            [inputs[i] for i in wanted],
            [g for g, out in zip(gradients, outputs, strict=True) if out.requires_grad],
            create_graph=create_graph,
            allow_unused=True,
        )
        result: list[Tensor | None] = [None] * len(inputs)
        for i, gradient in zip(wanted, found, strict=True):
            result[i] = gradient
        return tuple(result)

    return backward


def wide(x: Tensor) -> torch.dtype:
    """What sums and biases are kept in: float64 where `x` is, else float32."""
    return torch.promote_types(x.dtype, torch.float32)


def in_wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All in the wide type of the first."""
    dtype = wide(tensors[0])
    return tuple(t if t.dtype == dtype else t.to(dtype) for t in tensors)


def bias_like(bias: Tensor, x: Tensor) -> Tensor:
    """The bias as the kernels take it: dense, in the wide type of `x`."""
    return bias.to(wide(x)).contiguous()


def sloped(values: Tensor, y: Tensor, slope: float) -> Tensor:
    """`values`, times the slope where LeakyReLU's output `y` is not positive."""
    return torch.where(y > 0, values, slope * values)


def memory_format(x: Tensor) -> torch.memory_format:
    """The format of the kernels' outputs: channels_last where `x`, or its dense copy, is."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    dense = x.contiguous()
    is_both = dense.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_both and not x.is_contiguous() else torch.contiguous_format


def finish(values: Tensor, like: Tensor) -> Tensor:
    """A plain kernel's result in the dtype and format that `like` prescribes."""
    return values.to(like.dtype).contiguous(memory_format=memory_format(like))


def fake_gradients(g: Tensor, y: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
    """Of an activation and its bias, as `y` is laid out: for fake kernels."""
    return empty_as(y, *y.shape), y.new_empty(y.shape[1], dtype=wide(y))


def empty_as(x: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """A new activation [N, C, H, W] in the format of `x`, for fake kernels."""
    dtype = dtype or x.dtype
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=memory_format(x))
