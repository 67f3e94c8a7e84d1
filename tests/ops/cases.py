"""What the tests of the registered ops share: their equations in float64, inputs and devices.

The equations are written from docs/native-ops.md and the papers, with plain torch on float64;
nothing here calls `pgvae.ops.reference`. Gradients of the truth are autograd's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pgvae.ops import native, phases, registered

SLOPE = 0.2
DTYPES = [torch.float32, torch.bfloat16, torch.float64]
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 6e-3, torch.float64: 1e-12}
LATENT_OPS = ("moment_kl", "moment_kl_projected", "mean_and_m2", "mean_and_m2_projected")


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


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same numbers for every dtype and device, but for rounding."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


# --- the equations


def leaky(u: Tensor) -> Tensor:
    return torch.where(u > 0, u, SLOPE * u)


def biased(x: Tensor, bias: Tensor) -> Tensor:
    return x + bias[:, None, None]


def eps_of(x: Tensor) -> float:
    """1e-8, but 16 for one channel, whose gradient is eps / (a^2 + eps) of what is cancelled."""
    return 16.0 if x.shape[1] == 1 else 1e-8


def pixel_norm(a: Tensor, eps: float) -> Tensor:
    """PGGAN, section 4.2: a / sqrt(1/C sum_C a^2 + eps)."""
    return a / (a.pow(2).sum(1, keepdim=True) / a.shape[1] + eps).sqrt()


def norm_act(x: Tensor, bias: Tensor) -> Tensor:
    return leaky(pixel_norm(biased(x, bias), eps_of(x)))


def act_norm(x: Tensor, bias: Tensor) -> Tensor:
    return pixel_norm(leaky(biased(x, bias)), eps_of(x))


def avg_pool2(x: Tensor, bias: Tensor) -> Tensor:
    """Means over 2x2 pixels, without an odd last row or column."""
    a = leaky(biased(x, bias))[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    return sum(a[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def up2(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def up2_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """The sum over nine taps of the upsampled, shifted and zero-padded input."""
    h, w = 2 * x.shape[2], 2 * x.shape[3]
    padded = F.pad(up2(x), (1, 1, 1, 1))
    windows = torch.stack([padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)])
    return torch.einsum("ock,knchw->nohw", weight.flatten(2), windows)


def up2_blend(old: Tensor, new: Tensor, alpha: Tensor) -> Tensor:
    return (1 - alpha) * up2(old) + alpha * new


def on_sphere(z: Tensor) -> Tensor:
    """Rows divided by their norm, or by 1e-12 where that is larger."""
    return z / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(1e-12)


def mean_and_m2(z: Tensor) -> tuple[Tensor, Tensor]:
    mean = z.sum(0) / len(z)
    return mean, (z - mean).pow(2).sum(0)


def moment_kl(z: Tensor) -> Tensor:
    """AGE, eq. 10 and PIONEER, eq. 1: -d/2 + sum_d [(s^2 + m^2) / 2 - log s]."""
    mean, m2 = mean_and_m2(z)
    variance = m2 / len(z)
    return -z.shape[1] / 2 + ((variance + mean.pow(2)) / 2 - variance.sqrt().log()).sum()


def gaussian_kl_reparam(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """VAE, appendix B: kl = -1/2 sum_d (1 + log s^2 - m^2 - s^2), z = m + s noise."""
    variance = logvar.exp()
    kl = -(1 + logvar - mu.pow(2) - variance).sum(1) / 2
    return mu + variance.sqrt() * noise, kl


# --- inputs


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same numbers in another layout; what lies between them is NaN."""
    if layout == "contiguous":
        return x.contiguous()
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced":
        big = x.new_full([size + 2 for size in x.shape], float("nan"))
        inside = big[(slice(1, -1),) * x.dim()]
    else:
        assert layout == "channels of channels_last"
        n, c, h, w = x.shape
        inside = x.new_full((n, h, w, c + 3), float("nan"))[..., 1:-2].permute(0, 3, 1, 2)
    return inside.copy_(x)


LAYOUTS = ["contiguous", "channels_last", "sliced", "transposed", "channels of channels_last"]
INCOMING = ["like the output", "a scalar expanded", "the other format", "transposed", "sliced"]


def incoming(out: Tensor, kind: str, seed: int) -> Tensor:
    """A gradient for `out` in dtype and shape, but in a layout of its own.

    Its mean is not 0, so that sums of it do not cancel and relative errors mean something.
    """
    values = (randn(*out.shape, seed=seed) + 0.5).to(out)
    if kind == "a scalar expanded":
        return torch.tensor(0.75).to(out).expand(out.shape)
    if kind == "like the output" or out.dim() < 2:
        return values.as_strided(out.shape, out.stride()).copy_(values.clone())
    if kind == "the other format" and out.dim() == 4:
        was_contiguous = out.is_contiguous()
        return laid_out(values, "channels_last" if was_contiguous else "contiguous")
    return laid_out(values, "sliced" if kind == "sliced" else "transposed")


def images(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: str, kind: str
) -> list[Tensor]:
    """Inputs of an op on activations: x and what goes with it (a bias, weights, another image)."""
    n, c, h, w = shape
    x = laid_out(randn(*shape, seed=1).to(device, dtype), layout)
    if kind.startswith("bias"):
        of_bias = (
            torch.bfloat16 if kind == "bias in bf16" else torch.promote_types(dtype, torch.float32)
        )
        return [x, randn(c, seed=2).to(device, of_bias)]
    if kind == "weight":
        weight = randn(5, c, 3, 3, seed=2).to(device, dtype)
        return [x, laid_out(weight, layout if layout == "channels_last" else "contiguous")]
    new = laid_out((randn(n, c, 2 * h, 2 * w, seed=2) + 1).to(device, dtype), layout)
    return [
        x,
        new,
        torch.tensor(0.3, dtype=torch.promote_types(dtype, torch.float32), device=device),
    ]


def latents(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: str, kind: str
) -> list[Tensor]:
    """z, spread evenly in every dimension, so that no variance vanishes; or mu, logvar, noise."""
    n, d = shape
    if kind == "three":
        mu, logvar, noise = (randn(n, d, seed=s) for s in (1, 2, 3))
        if layout == "halves":
            pair = torch.cat([mu, logvar], dim=1).to(device, dtype)
            return [*pair.chunk(2, dim=1), noise.to(device, dtype)]
        return [laid_out(t.to(device, dtype), layout) for t in (mu, logvar, noise)]
    places = randn(n, d, seed=1).argsort(0).double() / max(n - 1, 1) * 2 - 1
    z = 0.7 + 0.5 * randn(d, seed=2) + (0.5 + randn(d, seed=3).abs()) * places
    return [laid_out(z.to(device, dtype), "sliced" if layout == "halves" else layout)]


IMAGE_SHAPES = [
    (0, 3, 3, 5),
    (3, 1, 3, 5),
    (1, 1, 2, 2),
    (3, 7, 3, 2),
    (1, 3, 7, 4),
    (3, 7, 8, 8),
    (1, 16, 3, 5),
    (3, 48, 7, 4),
    (1, 130, 3, 5),
    (3, 130, 8, 8),
    (1, 512, 7, 4),
    (1, 7, 65, 3),  # more pixels than a tile of the contiguous kernels
    (3, 48, 20, 20),  # enough for sums of several parts
]
ONE_PIXEL = [(3, 512, 1, 1), (1, 3, 1, 1), (2, 1, 1, 1)]
LATENT_SHAPES = [(2, 3), (3, 7), (7, 16), (7, 48), (64, 130), (3, 512), (65, 512), (300, 600)]


@dataclass(frozen=True)
class Op:
    """An op, its equation, and its inputs: make(shape, dtype, layout, device) -> tensors."""

    run: Callable[..., Tensor | tuple[Tensor, ...]]
    truth: Callable[..., Tensor | tuple[Tensor, ...]]
    make: Callable[..., list[Tensor]]
    shapes: list[tuple[int, ...]]
    widens: bool = False  # outputs are float32 at least

    def layouts(self) -> list[str]:
        two = ["contiguous", "sliced", "transposed", "halves"]
        return two if self.make.func is latents else LAYOUTS


def _pixel_norm(order: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, b: registered.bias_act_pixel_norm(x, b, order, SLOPE, eps_of(x))


_any_size = [*IMAGE_SHAPES, *ONE_PIXEL]
_with_bias = partial(images, kind="bias")
_z = partial(latents, kind="z")
OPS = {
    "bias_act": Op(registered.bias_act, lambda x, b: leaky(biased(x, b)), _with_bias, _any_size),
    "norm_act": Op(_pixel_norm("norm_act"), norm_act, _with_bias, _any_size),
    "act_norm": Op(_pixel_norm("act_norm"), act_norm, _with_bias, _any_size),
    "bias_act_avg_pool2": Op(registered.bias_act_avg_pool2, avg_pool2, _with_bias, IMAGE_SHAPES),
    "up2_conv3x3": Op(phases.by_phases, up2_conv3x3, partial(images, kind="weight"), _any_size),
    "up2_blend": Op(registered.up2_blend, up2_blend, partial(images, kind="pair"), _any_size),
    "moment_kl": Op(registered.moment_kl, moment_kl, _z, [*LATENT_SHAPES, (7, 1)], True),
    "moment_kl_projected": Op(
        lambda z: registered.moment_kl(z, True),
        lambda z: moment_kl(on_sphere(z)),
        _z,
        LATENT_SHAPES,
        True,
    ),
    "mean_and_m2": Op(
        registered.mean_and_m2, mean_and_m2, _z, [*LATENT_SHAPES, (7, 1), (1, 16)], True
    ),
    "mean_and_m2_projected": Op(
        lambda z: registered.mean_and_m2(z, True),
        lambda z: mean_and_m2(on_sphere(z)),
        _z,
        LATENT_SHAPES,
        True,
    ),
    "gaussian_kl_reparam": Op(
        registered.gaussian_kl_reparam,
        gaussian_kl_reparam,
        partial(latents, kind="three"),
        [*LATENT_SHAPES, (0, 3), (1, 1), (7, 1), (1, 512)],
        True,
    ),
}


# --- comparison


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_exact(actual: Tensor, expected: Tensor, case: object, tolerance: float = 0.0) -> None:
    """||actual - expected|| <= tolerance ||expected||; by default that of the dtype."""
    assert actual.shape == expected.shape, case
    error = (actual.detach().cpu().double() - expected.detach()).norm()
    allowed = (tolerance or TOLERANCE[actual.dtype]) * expected.detach().norm()
    assert error <= allowed, f"{case}: {error} > {allowed}"


def outputs_and_gradients(
    op: Op, inputs: list[Tensor], kind: str
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], list[Tensor]]:
    """Outputs, gradients of the inputs, and the gradients that came in."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    outputs = as_tuple(op.run(*inputs))
    came_in = [incoming(out.detach(), kind, seed=10 + i) for i, out in enumerate(outputs)]
    return outputs, torch.autograd.grad(outputs, inputs, came_in), came_in


def check(name: str, inputs: list[Tensor], kind: str, case: object = None) -> None:
    """Outputs and gradients of an op are those of its equation, in the right dtypes."""
    op = OPS[name]
    outputs, gradients, came_in = outputs_and_gradients(op, inputs, kind)
    exact = [t.detach().cpu().double().clone().requires_grad_() for t in inputs]
    expected = as_tuple(op.truth(*exact))
    of_x = inputs[0].dtype
    dtype = torch.promote_types(of_x, torch.float32) if op.widens else of_x
    for i, (a, e) in enumerate(zip(outputs, expected, strict=True)):
        assert a.dtype == dtype, case
        assert_exact(a, e, f"output {i}, {case}")
    expected = torch.autograd.grad(expected, exact, [g.cpu().double() for g in came_in])
    for i, (a, e) in enumerate(zip(gradients, expected, strict=True)):
        assert a.dtype == inputs[i].dtype, case
        # A gradient computed from bf16 tensors that were saved is as exact as those.
        tolerance = max(TOLERANCE[a.dtype], TOLERANCE[dtype])
        assert_exact(a, e, f"gradient {i}, {case}", tolerance)


def check_all_shapes(name: str, dtype: torch.dtype, layout: str, device: str) -> int:
    """`check` for all shapes of an op, with incoming gradients in turn; -> how many."""
    op = OPS[name]
    turn = op.layouts().index(layout)
    for i, shape in enumerate(op.shapes):
        kind = INCOMING[(i + turn) % len(INCOMING)]
        inputs = op.make(shape, dtype, layout, device)
        check(name, inputs, kind, (name, shape, dtype, layout, kind, device))
    return len(op.shapes)
