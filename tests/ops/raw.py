"""Errors of raw kernels, called as torch.ops does, against the reference in float64.

`errors_of(ops, ...)` takes a namespace with the schemas of `torch.ops.pgvae`, so that it judges the
CPU kernels, the emulated CUDA kernels and broken copies of both.

    python -m tests.ops.raw cpu|emulated LIBRARY

prints the worst error of each op of a library as JSON.
"""

import json
import sys
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

import pgvae  # noqa: F401  registers the ops
from pgvae.ops import reference

CL, NCHW = torch.channels_last, torch.contiguous_format
# Wide: sums over a few pixels cancel. What is right is shown to 1e-6 by test_registered_parity.py.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
SLOPE = 0.2


class Case(NamedTuple):
    """One activation: its shape, dtype and memory format."""

    n: int
    channels: int
    h: int
    w: int
    dtype: torch.dtype
    layout: torch.memory_format

    def __str__(self) -> str:
        layout = "channels_last" if self.layout is CL else "contiguous"
        return f"{self.n}x{self.channels}x{self.h}x{self.w}-{str(self.dtype)[6:]}-{layout}"

    def draw(self, n: int, c: int, h: int, w: int) -> Tensor:
        """A random activation in this case's dtype and format."""
        return torch.randn(n, c, h, w).to(self.dtype).contiguous(memory_format=self.layout)


def emulated_ops(library: str) -> Any:
    """The namespace of a library that csrc/build.py calls "emulated"."""
    schemas = torch.library.Library("pgvae_emulated", "DEF")
    for name in dir(torch.ops.pgvae):
        if not name.startswith("_") and hasattr(getattr(torch.ops.pgvae, name), "default"):
            schema = str(getattr(torch.ops.pgvae, name).default._schema)
            schemas.define(schema.removeprefix("pgvae::"))
    _KEPT.append(schemas)
    torch.ops.load_library(library)
    return torch.ops.pgvae_emulated


_KEPT: list[torch.library.Library] = []  # a library forgets its schemas when it is collected


def expected(function: Callable[..., Any], inputs: list[Tensor], gradients: list[Tensor]) -> Any:
    """Outputs of `function` and gradients of `inputs`, in float64."""
    leaves = [x.double().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = torch.autograd.grad(outputs, leaves, [g.double() for g in gradients])
    return [o.detach() for o in outputs], list(grads)


def worst(found: list[Tensor], truth: list[Tensor]) -> float:
    """The largest ||found - truth|| / ||truth||; infinite for a NaN or another shape."""
    errors = [0.0]
    for a, b in zip(found, truth, strict=True):
        if a.shape != b.shape or not a.isfinite().all():
            return float("inf")
        if b.numel():
            errors.append(float((a.double() - b).norm() / b.norm().clamp_min(1e-6)))
    return max(errors)


def bias_act(ops: Any, case: Case) -> float:
    n, c, h, w = case[:4]
    x, bias, g = case.draw(n, c, h, w), torch.randn(c), case.draw(n, c, h, w)
    y = ops.bias_act(x, bias, SLOPE)
    found = [y, *ops.bias_act_backward(g, y, SLOPE)]
    out, grads = expected(lambda x, b: reference.bias_act(x, b, SLOPE), [x, bias], [g])
    return worst(found, [*out, *grads])


def bias_act_pixel_norm(ops: Any, case: Case) -> float:
    n, c, h, w = case[:4]
    errors = []
    for order in ("norm_act", "act_norm"):
        x, bias, g = case.draw(n, c, h, w), torch.randn(c), case.draw(n, c, h, w)
        eps = 0.5 if c < 4 else 1e-8  # with one channel nothing but eps is left of a gradient
        first = order == "norm_act"
        y, rstd = ops.bias_act_pixel_norm(x, bias, first, SLOPE, eps)
        found = [y, *ops.bias_act_pixel_norm_backward(g, y, rstd, first, SLOPE)]

        def truth(x: Tensor, b: Tensor, order: Any = order, eps: float = eps) -> Tensor:
            return reference.bias_act_pixel_norm(x, b, order, SLOPE, eps)

        out, grads = expected(truth, [x, bias], [g])
        errors.append(worst(found, [*out, *grads]))
    return max(errors)


def bias_act_avg_pool2(ops: Any, case: Case) -> float:
    n, c, h, w = case[:4]
    if h < 2 or w < 2:
        return 0.0  # the reference refuses what has no output
    x, bias, g = case.draw(n, c, h, w), torch.randn(c), case.draw(n, c, h // 2, w // 2)
    y, signs = ops.bias_act_avg_pool2(x, bias, SLOPE)
    found = [y, *ops.bias_act_avg_pool2_backward(g, signs, h, w, SLOPE)]
    out, grads = expected(lambda x, b: reference.bias_act_avg_pool2(x, b, SLOPE), [x, bias], [g])
    return worst(found, [*out, *grads])


def interleave2(ops: Any, case: Case) -> float:
    n, c, h, w = case[:4]
    phases = [case.draw(n, c, h, w) for _ in range(4)]
    whole = ops.interleave2(*phases)
    truth = torch.zeros(n, c, 2 * h, 2 * w, dtype=torch.float64)
    for k, phase in enumerate(phases):
        truth[:, :, k // 2 :: 2, k % 2 :: 2] = phase
    exact = worst([whole, *ops.deinterleave2(whole)], [truth, *(p.double() for p in phases)])
    return float("inf") if exact else 0.0


def up2_blend(ops: Any, case: Case) -> float:
    n, c, h, w = case[:4]
    old, new, alpha = case.draw(n, c, h, w), case.draw(n, c, 2 * h, 2 * w), torch.tensor(0.3)
    g = case.draw(n, c, 2 * h, 2 * w)
    found = [ops.up2_blend(old, new, alpha), *ops.up2_blend_backward(g, alpha)]
    out, grads = expected(
        lambda old, new: reference.up2_blend(old, new, alpha.double()), [old, new], [g]
    )
    return worst(found, [*out, *grads])


def moment_kl(ops: Any, count: int, d: int) -> float:
    errors = []
    for project in (False, True):
        z = torch.randn(count, d)
        kl, mean, m2 = ops.moment_kl(z, project)
        given = [torch.randn(()), torch.randn(d), torch.randn(d)]

        def truth(z: Tensor, project: bool = project) -> tuple[Tensor, ...]:
            moments = reference.mean_and_m2(z, project)
            return reference.moment_kl(z, project), *moments

        out, (gz,) = expected(truth, [z], given)
        errors.append(worst([kl, mean, m2], out))
        errors.append(worst([ops.moment_kl_backward(*given, z, mean, m2, project)], [gz]))
        for k in range(3):  # each gradient alone, the others absent
            alone = [g if i == k else None for i, g in enumerate(given)]
            zeros = [g if i == k else torch.zeros_like(g) for i, g in enumerate(given)]
            _, (gz,) = expected(truth, [z], zeros)
            errors.append(worst([ops.moment_kl_backward(*alone, z, mean, m2, project)], [gz]))
    return max(errors)


def gaussian_kl_reparam(ops: Any, count: int, d: int) -> float:
    mu, logvar = torch.randn(count, 2 * d).chunk(2, dim=1)  # rows further apart than d
    noise, gz, gkl = torch.randn(count, d), torch.randn(count, d), torch.randn(count)
    found = [
        *ops.gaussian_kl_reparam(mu, logvar, noise),
        *ops.gaussian_kl_reparam_backward(gz, gkl, mu, logvar, noise),
    ]
    out, grads = expected(
        lambda mu, logvar: reference.gaussian_kl_reparam(mu, logvar, noise.double()),
        [mu, logvar],
        [gz, gkl],
    )
    return worst(found, [*out, *grads])


ACTIVATION_OPS = (bias_act, bias_act_pixel_norm, bias_act_avg_pool2, interleave2, up2_blend)
LATENT_OPS = (moment_kl, gaussian_kl_reparam)
SIZES = ((2, 3, 5), (0, 2, 2), (1, 4, 4), (1, 1, 1))
CHANNELS = (1, 3, 8, 40, 130, 520)  # 520: more than the fast pixel norm of floats takes
LATENTS = ((2, 3), (5, 33), (40, 70))


def cases(channels: tuple[int, ...] = CHANNELS) -> list[Case]:
    """Every channel count, size, dtype and memory format; few of the large ones."""
    table = [
        Case(n, c, h, w, dtype, layout)
        for c, (n, h, w), dtype, layout in product(channels, SIZES, TOLERANCE, (CL, NCHW))
        if c < 100 or (n, h) == (2, 3)
    ]
    # Enough pixels for more partial sums than one pass of the last stage adds.
    return [*table, *(Case(2, 40, 33, 34, dtype, CL) for dtype in TOLERANCE)]


def main(kind: str, library: str) -> None:
    """Print {op: worst error over tolerance} of a library."""
    torch.manual_seed(0)
    if kind == "emulated":
        ops = emulated_ops(library)
    else:
        torch.ops.load_library(library)  # in the place of the kernels that are there
        ops = torch.ops.pgvae
    some = cases((3, 8, 40))
    result = {f.__name__: max(f(ops, c) / TOLERANCE[c.dtype] for c in some) for f in ACTIVATION_OPS}
    result |= {
        f.__name__: max(f(ops, *s) / TOLERANCE[torch.float32] for s in LATENTS) for f in LATENT_OPS
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
