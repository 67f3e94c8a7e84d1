"""Time every fused op against plain PyTorch and torch.compile, on a CPU or a GPU.

    python benchmarks/ops.py                        # CPU, float32, the shapes of the goals
    python benchmarks/ops.py --device cuda --json ops.json

Eager and compiled runs are of the reference ops, in channels_last. All are timed in turns, and the
median is kept. GB/s counts each tensor that an op must read or write once; "of copy" is that over
what `y.copy_(x)` of 256 MiB reaches in the same run: tensors that fit a cache can be above 100 %. A
backward includes the gradient of the bias.
"""

import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgvae import tuning

tuning.shorten_spinning()

import click  # noqa: E402
import torch  # noqa: E402
import torch._functorch.config as functorch_config  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from pgvae import ops  # noqa: E402
from pgvae.ops import phases  # noqa: E402

Run = Callable[[], Any]
PASSES = ("forward", "backward", "forward+backward")
CPU_SHAPES = ((16, 256, 64, 64), (16, 512, 8, 8), (16, 64, 32, 32), (16, 16, 256, 256))
CUDA_SHAPES = ((128, 512, 16, 16), (32, 256, 64, 64), (8, 64, 256, 256), (4, 16, 1024, 1024))


@dataclass
class Case:
    """One op on one set of inputs.

    function: takes the inputs and `impl`.
    traffic:  bytes that its forward, and its backward, must move; None where it computes.
    other:    another function of the inputs that users may know, to compare with.
    """

    op: str
    shape: tuple[int, ...]
    function: Callable[..., Any]
    inputs: list[Tensor]
    traffic: tuple[float, float] | None
    other: Callable[..., Any] | None = None


def activation(device: str, dtype: torch.dtype, *shape: int) -> Tensor:
    """A random [N, C, H, W] in channels_last."""
    return torch.randn(shape, device=device).to(dtype).to(memory_format=torch.channels_last)


def rms_norm_act(x: Tensor, bias: Tensor) -> Tensor:
    """`bias_act_pixel_norm` by PyTorch's own fused norm over the last dimension."""
    u = (x + bias.to(x.dtype).view(1, -1, 1, 1)).permute(0, 2, 3, 1)
    return F.leaky_relu(F.rms_norm(u, u.shape[-1:], eps=1e-8).permute(0, 3, 1, 2), 0.2)


def mixed_precision(x: Tensor) -> torch.autocast:
    """As in training: weights are float32, and a convolution casts them."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=x.dtype == torch.bfloat16)


def transposed(x: Tensor, weight: Tensor) -> Tensor:
    """`up2_conv3x3` as one transposed convolution."""
    with mixed_precision(x):
        return phases.transposed(x, weight)


def up2_layer(x: Tensor, weight: Tensor, bias: Tensor, impl: str = "auto") -> Tensor:
    """The first layer of a generator's block."""
    return ops.bias_act_pixel_norm(convolve(x, weight, impl), bias, impl=impl)


def cases(device: str, dtype: torch.dtype) -> list[Case]:
    """Every op at the shapes of its device."""
    made = []
    for shape in CUDA_SHAPES if device == "cuda" else CPU_SHAPES:
        n, c, h, w = shape
        x, bias = activation(device, dtype, *shape), torch.randn(c, device=device)
        a = x.numel() * x.element_size()
        signs = x.numel() / 4
        norm = Case(
            "bias_act_pixel_norm", shape, ops.bias_act_pixel_norm, [x, bias], (2 * a, 3 * a)
        )
        norm.other = rms_norm_act
        made += [norm, Case("bias_act", shape, ops.bias_act, [x, bias], (2 * a, 3 * a))]
        pool = (1.25 * a + signs, 1.25 * a + signs)
        made.append(Case("bias_act_avg_pool2", shape, ops.bias_act_avg_pool2, [x, bias], pool))
        small = activation(device, dtype, n, c, h // 2, w // 2)
        weight = activation(device, torch.float32, c, c, 3, 3) / (3 * c**0.5)
        made.append(Case("conv3x3", small.shape, convolve_plainly, [small, weight], None))
        made.append(Case("up2_conv3x3", small.shape, convolve, [small, weight], None, transposed))
        made.append(
            Case("up2_conv3x3 + bias_act_pixel_norm", small.shape, up2_layer,
                 [small, weight, bias], None)
        )  # fmt: skip
        rgb = [
            activation(device, dtype, n, 3, h // 2, w // 2),
            activation(device, dtype, n, 3, h, w),
        ]
        moved = 2.25 * rgb[1].numel() * rgb[1].element_size()
        made.append(Case("up2_blend", rgb[1].shape, blend, rgb, (moved, moved)))
    z, noise, logvar = (torch.randn(128, 512, device=device) for _ in range(3))
    z_bytes = z.numel() * z.element_size()
    made.append(Case("moment_kl", z.shape, ops.moment_kl, [z], (z_bytes, 2 * z_bytes)))
    made.append(
        Case("gaussian_kl_reparam", z.shape, reparametrized(noise), [z, logvar],
             (4 * z_bytes, 6 * z_bytes))
    )  # fmt: skip
    return made


def convolve_plainly(x: Tensor, weight: Tensor, impl: str = "auto") -> Tensor:
    with mixed_precision(x):
        return ops.conv3x3(x, weight, impl=impl)


def convolve(x: Tensor, weight: Tensor, impl: str = "auto") -> Tensor:
    with mixed_precision(x):
        return ops.up2_conv3x3(x, weight, impl=impl)


def blend(old: Tensor, new: Tensor, impl: str = "auto") -> Tensor:
    return ops.up2_blend(old, new, torch.full((), 0.3, device=old.device), impl=impl)


def reparametrized(noise: Tensor) -> Callable[..., Any]:
    def function(mu: Tensor, logvar: Tensor, impl: str = "auto") -> tuple[Tensor, Tensor]:
        return ops.gaussian_kl_reparam(mu, logvar, noise, impl=impl)

    return function


def runs(function: Callable[..., Any], inputs: list[Tensor]) -> dict[str, Run]:
    """The three passes of `function`, each a call without arguments."""
    leaves = [x.detach().requires_grad_() for x in inputs]

    def outputs() -> tuple[Tensor, ...]:
        out = function(*leaves)
        return out if isinstance(out, tuple) else (out,)

    def forward() -> None:
        with torch.no_grad():
            function(*leaves)

    kept = outputs()
    gradients = [torch.randn_like(out) for out in kept]
    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(kept, leaves, gradients, retain_graph=True),
        "forward+backward": lambda: torch.autograd.grad(outputs(), leaves, gradients),
    }


def milliseconds(run: Run, device: str, seconds: float) -> float:
    """The mean over about `seconds` of calls."""
    count, start = 0, time.perf_counter()
    while True:
        run()
        count += 1
        if count % 16 == 1:  # or the clock would only see calls being queued
            synchronize(device)
        if time.perf_counter() - start > seconds:
            break
    synchronize(device)
    return (time.perf_counter() - start) / count * 1e3


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def in_turns(
    variants: dict[str, Run], device: str, rounds: int, seconds: float
) -> dict[str, float]:
    """Median milliseconds of each, measured one after another, several times."""
    for run in variants.values():
        run()
        run()
    synchronize(device)
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            found[name].append(milliseconds(run, device, seconds))
    return {name: statistics.median(times) for name, times in found.items()}


def copy_bandwidth(device: str) -> float:
    """Bytes per second that y.copy_(x) reads and writes together, of 256 MiB."""
    x = torch.randn(2**26, device=device)
    y = torch.empty_like(x)
    time_of = in_turns({"copy": lambda: y.copy_(x)}, device, 5, 0.1)["copy"]
    return 2 * x.numel() * x.element_size() / (time_of / 1e3)


def measure(case: Case, device: str, bandwidth: float, compiled: bool, rounds: int) -> list[dict]:
    """One record for each pass."""
    variants = {
        "native": runs(lambda *x: case.function(*x, impl="native"), case.inputs),
        "eager": runs(lambda *x: case.function(*x, impl="reference"), case.inputs),
    }
    if compiled:
        torch._dynamo.reset()
        reference = torch.compile(lambda *x: case.function(*x, impl="reference"))
        variants["compile"] = runs(reference, case.inputs)
    if case.other is not None:
        variants["other"] = runs(case.other, case.inputs)
    records = []
    traffic = case.traffic and dict(zip(PASSES, (*case.traffic, sum(case.traffic)), strict=True))
    for name in PASSES:
        ms = in_turns({k: v[name] for k, v in variants.items()}, device, rounds, 0.05)
        rate = traffic and traffic[name] / ms["native"] * 1e3
        record = {
            "op": case.op,
            "shape": list(case.shape),
            "layout": "channels_last" if len(case.shape) == 4 else "rows",
            "pass": name,
            "ms": ms["native"],
            "ms_eager": ms["eager"],
            "ms_compile": ms.get("compile"),
            "gb_per_s": rate and rate / 1e9,
            "copy_fraction": rate and rate / bandwidth,
        }
        if case.other is not None:
            record["ms_other"] = ms["other"]
            record["other"] = case.other.__name__
        records.append(record)
    return records


def row(record: dict) -> str:
    """A line of the table."""
    ratios = [record[key] and record[key] / record["ms"] for key in ("ms_eager", "ms_compile")]
    ratios.append(record["ms_other"] / record["ms"] if "ms_other" in record else None)
    cells = [
        f"{record['op']:34}",
        f"{'x'.join(map(str, record['shape'])):>15}",
        f"{record['pass']:16}",
        f"{record['ms']:9.3f}",
        f"{record['gb_per_s']:7.1f}" if record["gb_per_s"] else "      -",
        f"{record['copy_fraction']:6.0%}" if record["copy_fraction"] else "     -",
        *(f"{ratio:7.2f}" if ratio else "      -" for ratio in ratios),
    ]
    return " | ".join(cells)


@click.command(context_settings={"show_default": True})
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default=None, help="fp32; GPU: bf16")
@click.option("--compile/--no-compile", "compiled", default=True, help="Time torch.compile too.")
@click.option("--only", default="", help="Ops whose name contains this.")
@click.option("--rounds", type=int, default=5, help="Turns of which the median is kept.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the records there."
)
def main(device, dtype, compiled, only, rounds, json_file) -> None:
    """Time every fused op against plain PyTorch and torch.compile."""
    tuning.keep_freed_memory()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of Inductor itself
    functorch_config.donated_buffer = False  # a compiled backward runs many times here
    dtype = dtype or ("bf16" if device == "cuda" else "fp32")
    number = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    problem = ops.native.why_not(torch.empty(0, device=device, dtype=number))
    if problem:
        raise click.ClickException(f"no native ops to time on {device}: {problem}")
    torch.manual_seed(0)
    bandwidth = copy_bandwidth(device)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(
        f"torch {torch.__version__}, {name}, {torch.get_num_threads()} threads, {dtype}, "
        f"copy {bandwidth / 1e9:.0f} GB/s"
    )
    print(
        f"{'op':34} | {'shape':>15} | {'pass':16} | {'ms':>9} | {'GB/s':>7} | of copy | x eager"
        " | x comp. | x other"
    )
    records = []
    for case in cases(device, number):
        if only in case.op:
            for record in measure(case, device, bandwidth, compiled, rounds):
                records.append(record)
                print(row(record), flush=True)
            if json_file is not None:  # after each op: a run may be cut short
                json_file.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
