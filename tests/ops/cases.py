"""The table of the ops that all tests go by: what runs, its equation, and what both are given."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pgvae import ops
from pgvae.ops import native, phases, winograd
from tests.ops import equations as eq
from tests.ops.inputs import (
    FOR_CUDA,
    IMAGE_SHAPES,
    INCOMING,
    LATENT_SHAPES,
    LAYOUTS,
    ONE_PIXEL,
    images,
    incoming,
    latents,
)

ROOT = Path(__file__).parents[2]
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float64: 1e-12}


def why_not(device: str) -> str:
    """Why the kernels of a device cannot be tested here; "" where they can."""
    if device == "cuda" and not torch.cuda.is_available():
        return "no CUDA device"
    return native.why_not(torch.empty(0, device=device))


def _device(name: str, *marks: pytest.MarkDecorator) -> object:
    problem = why_not(name)
    skip = pytest.mark.skipif(bool(problem), reason=f"no native kernels on {name}: {problem}")
    return pytest.param(name, marks=[pytest.mark.native, skip, *marks])


on_each_device = pytest.mark.parametrize(
    "device", [_device("cpu"), _device("cuda", pytest.mark.cuda)]
)


@dataclass(frozen=True)
class Op:
    """A line of the table.

    kernel:    the file of csrc/ that it proves; "" where others prove it.
    run:       (*inputs, impl) -> outputs, and `truth` in float64.
    make:      (shape, dtype, layout, device) -> inputs, for each of `shapes`; `small` is one more.
    format_of: the input in whose memory format the first output is.
    widens:    outputs are float32 at least.
    impls:     "plain" where it runs without a library, but has no reference.
    """

    kernel: str
    run: Callable[..., Tensor | tuple[Tensor, ...]]
    truth: Callable[..., Tensor | tuple[Tensor, ...]]
    make: Callable[..., list[Tensor]]
    shapes: list[tuple[int, ...]]
    small: tuple[int, ...] = (2, 3, 3, 5)
    format_of: int | None = None
    widens: bool = False
    impls: tuple[str, ...] = ("native", "reference")
    tolerance: tuple[float, ...] = tuple(TOLERANCE.values())

    @property
    def is_for_cpus(self) -> bool:
        """Whether it is a kernel that CUDA has not."""
        return bool(self.kernel) and not (ROOT / "csrc" / "cuda" / f"{self.kernel}.cu").exists()

    @property
    def dtypes(self) -> list[torch.dtype]:
        return [d for d, least in zip(DTYPES, self.tolerance, strict=True) if least is not None]

    def layouts(self) -> list[str]:
        two = ["contiguous", "sliced", "transposed", "halves"]
        return two if self.make.func is latents else LAYOUTS

    def allowed(self, dtype: torch.dtype, impl: str) -> float:
        # The reference rounds to bf16 after every step.
        wider = 3 if impl != "native" and dtype == torch.bfloat16 else 1
        return wider * self.tolerance[DTYPES.index(dtype)]


def _pixel_norm(x: Tensor, bias: Tensor, impl: str) -> Tensor:
    return ops.bias_act_pixel_norm(x, bias, eps=eq.eps_of(x), impl=impl)


def _act_norm(x: Tensor, bias: Tensor, impl: str) -> Tensor:
    return ops.bias_act_pixel_norm(x, bias, "act_norm", eps=eq.eps_of(x), impl=impl)


def _moments(z: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    found = ops.moments(z, impl=impl)
    return found.mean, found.m2


def _moment_kl_and_moments(z: Tensor, impl: str) -> tuple[Tensor, ...]:
    return torch.ops.pgvae.moment_kl(z.to(torch.promote_types(z.dtype, torch.float32)))


def _native(function: Callable[..., Tensor], **settings: object) -> Callable[..., Tensor]:
    """What has no `impl`."""
    return lambda *inputs, impl: function(*inputs, **settings)


_any_size = [*IMAGE_SHAPES, *ONE_PIXEL]
_biased = partial(
    Op, make=partial(images, kind="bias"), shapes=[*_any_size, *FOR_CUDA], format_of=0
)
_conv = partial(Op, make=partial(images, kind="weight"), shapes=_any_size, small=(1, 2, 2, 3))
_winograd = partial(
    _conv, "winograd", shapes=[(1, 1, 4, 4), (2, 3, 8, 4), (3, 7, 12, 20), (1, 16, 16, 16)],
    small=(1, 2, 4, 4), impls=("native",), tolerance=(1e-5, None, 1e-10),
)  # fmt: skip
_narrow = partial(
    Op, "winograd_conv3x3", make=partial(images, kind="weight to 48"),
    shapes=[(1, 16, 4, 4), (2, 112, 8, 4), (3, 16, 12, 20), (5, 32, 36, 40)], small=(1, 16, 4, 4),
    impls=("native",), tolerance=(1e-5, None, 1e-10),
)  # fmt: skip
_latents = partial(
    Op, make=partial(latents, kind="z"), shapes=LATENT_SHAPES, small=(6, 3), widens=True
)
OPS = {
    "bias_act": _biased("bias_act", ops.bias_act, lambda x, b: eq.leaky(eq.biased(x, b))),
    "norm_act": _biased("bias_act_pixel_norm", _pixel_norm, eq.norm_act),
    "act_norm": _biased("bias_act_pixel_norm", _act_norm, eq.act_norm),
    "bias_act_avg_pool2": _biased(
        "bias_act_avg_pool2", ops.bias_act_avg_pool2, eq.avg_pool2, shapes=IMAGE_SHAPES
    ),
    "conv3x3": _conv("", ops.conv3x3, eq.conv3x3, tolerance=(3e-6, 6e-3, 1e-12)),
    "up2_conv3x3": _conv("", ops.up2_conv3x3, eq.up2_conv3x3, tolerance=(3e-6, 6e-3, 1e-12)),
    "up2_conv3x3 by phases": _conv(
        "", _native(phases.by_phases), eq.up2_conv3x3, impls=("native", "plain")
    ),
    "up2_conv3x3 transposed": _conv(
        "", _native(phases.transposed), eq.up2_conv3x3, impls=("native", "plain")
    ),
    "winograd": _winograd(_native(winograd.tiled, up2=False), eq.conv3x3),
    "winograd after up2": _winograd(_native(winograd.tiled, up2=True), eq.up2_conv3x3),
    "winograd of a narrow layer": _narrow(
        _native(torch.ops.pgvae.winograd_conv3x3, up2=False), eq.conv3x3
    ),
    "winograd of a narrow layer after up2": _narrow(
        _native(torch.ops.pgvae.winograd_conv3x3, up2=True), eq.up2_conv3x3
    ),
    "interleave2": Op(
        "interleave2", _native(torch.ops.pgvae.interleave2), eq.interleave2,
        partial(images, kind="four"), _any_size, (2, 3, 2, 1), 0, impls=("native", "plain"),
        tolerance=(0, 0, 0),
    ),
    "up2_blend": Op(
        "up2_blend", ops.up2_blend, eq.up2_blend, partial(images, kind="pair"), _any_size,
        (2, 3, 2, 3), 1,
    ),
    "moment_kl": _latents("moment_kl", ops.moment_kl, eq.moment_kl),
    "moments": _latents(
        "moment_kl", _moments, eq.mean_and_m2, shapes=[*LATENT_SHAPES, (1, 16)]
    ),
    "moment_kl and moments": _latents(
        "moment_kl", _moment_kl_and_moments, eq.moment_kl_and_moments, impls=("native",)
    ),
    "gaussian_kl_reparam": _latents(
        "gaussian_kl_reparam", ops.gaussian_kl_reparam, eq.gaussian_kl_reparam,
        make=partial(latents, kind="three"), shapes=[*LATENT_SHAPES, (0, 3), (1, 1), (1, 512)],
    ),
}  # fmt: skip
ACTIVATIONS = ["bias_act", "norm_act", "act_norm", "bias_act_avg_pool2"]


# --- comparison


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_exact(
    actual: Tensor, expected: Tensor, case: object, tolerance: float | None = None
) -> None:
    """||actual - expected|| <= tolerance ||expected||; by default that of the dtype."""
    assert actual.shape == expected.shape, case
    error = (actual.detach().cpu().double() - expected.detach()).norm()
    allowed = TOLERANCE[actual.dtype] if tolerance is None else tolerance
    assert error <= allowed * expected.detach().norm(), f"{case}: {error}"


def assert_dense_as(out: Tensor, x: Tensor, case: object) -> None:
    """`out` is channels_last where `x` is dense in that, else contiguous.

    Of a slice of one pixel or one channel the dense copy is both: then `out` may be either.
    """
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    if not channels_last and (x.shape[1] == 1 or x.shape[2:].numel() == 1):
        channels_last = not out.is_contiguous()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    assert out.is_contiguous(memory_format=memory_format), f"strides, {case}"


def outputs_and_gradients(
    op: Op, inputs: list[Tensor], kind: str, impl: str = "native"
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], list[Tensor]]:
    """Outputs, gradients of the inputs, and the gradients that came in."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    outputs = as_tuple(op.run(*inputs, impl=impl))
    came_in = [incoming(out.detach(), kind, seed=10 + i) for i, out in enumerate(outputs)]
    return outputs, torch.autograd.grad(outputs, inputs, came_in), came_in


def check(name: str, inputs: list[Tensor], kind: str, impl: str = "native") -> None:
    """Outputs and gradients of an op are those of its equation, in the right dtypes and format."""
    op, x = OPS[name], inputs[0]
    case = f"{name} {list(x.shape)} {x.stride()} {x.dtype} {x.device}, {impl}, gradient {kind}"
    outputs, gradients, came_in = outputs_and_gradients(op, inputs, kind, impl)
    exact = [t.detach().cpu().double().clone().requires_grad_() for t in inputs]
    expected = as_tuple(op.truth(*exact))
    dtype = torch.promote_types(x.dtype, torch.float32) if op.widens else x.dtype
    for i, (a, e) in enumerate(zip(outputs, expected, strict=True)):
        assert a.dtype == dtype, case
        assert_exact(a, e, f"output {i}, {case}", op.allowed(dtype, impl))
    if dtype == torch.bfloat16 and impl != "native":
        return  # it rounds before LeakyReLU, which hides the signs of small numbers
    expected = torch.autograd.grad(expected, exact, [g.cpu().double() for g in came_in])
    for i, (a, e) in enumerate(zip(gradients, expected, strict=True)):
        assert a.dtype == inputs[i].dtype, case
        # A gradient computed from bf16 tensors that were saved is as exact as those.
        allowed = max(op.allowed(a.dtype, impl), op.allowed(dtype, impl))
        assert_exact(a, e, f"gradient {i}, {case}", allowed)
    if impl == "native" and op.widens:
        assert all(out.is_contiguous() for out in outputs), case
    if impl == "native" and op.format_of is not None:
        assert_dense_as(outputs[0], inputs[op.format_of], case)
        if name in ACTIVATIONS and outputs[0].shape[2:].numel() > 1:
            assert_dense_as(gradients[0], x, case)  # one pooled pixel is dense in both formats


def check_shapes(
    name: str,
    dtype: torch.dtype,
    layout: str,
    device: str = "cpu",
    impl: str = "native",
    wanted: Callable[[tuple[int, ...]], bool] = lambda shape: True,
) -> None:
    """`check` for the shapes of an op, with incoming gradients in turn."""
    op = OPS[name]
    turn = op.layouts().index(layout)
    for i, shape in enumerate(op.shapes):
        if wanted(shape):
            kind = INCOMING[(i + turn) % len(INCOMING)]
            check(name, op.make(shape, dtype, layout, device), kind, impl)


def check_parts(name: str, dtype: torch.dtype, device: str = "cpu") -> None:
    """Of several outputs each alone gets a gradient, and of the inputs one is differentiated."""
    op = OPS[name]
    inputs = op.make(op.small, dtype, "contiguous", device)
    exact = [t.detach().cpu().double() for t in inputs]
    for k in range(len(as_tuple(op.run(*inputs, impl="native")))):
        for i in range(len(inputs)):
            ours, theirs = inputs[i].detach().requires_grad_(), exact[i].detach().requires_grad_()
            out = as_tuple(op.run(*inputs[:i], ours, *inputs[i + 1 :], impl="native"))[k]
            expected = as_tuple(op.truth(*exact[:i], theirs, *exact[i + 1 :]))[k]
            if not expected.requires_grad:  # kl does not depend on the noise
                continue
            g = incoming(out.detach(), "like the output", seed=9)
            (actual,) = torch.autograd.grad(out, ours, g)
            (expected,) = torch.autograd.grad(expected, theirs, g.cpu().double())
            assert_exact(actual, expected, (name, k, i), op.allowed(dtype, "native"))
