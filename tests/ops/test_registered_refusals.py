"""Bad input is refused by the registered ops with an error, not a crash."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import as_tuple, latents, on_each_device, randn, why_not
from torch import Tensor

from pgvae import ops
from pgvae.ops import registered

pgvae = torch.ops.pgvae


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return randn(*shape, seed=1).to(dtype)


X, Z = (2, 4, 3, 5), (5, 4)
REFUSED: dict[str, Callable[[], tuple[object, ...]]] = {
    "bias_act: a bias too short": lambda: ("bias_act", image(*X), image(3), 0.2),
    "bias_act: a bias too long": lambda: ("bias_act", image(*X), image(5), 0.2),
    "bias_act: a bias of two dimensions": lambda: ("bias_act", image(*X), image(1, 4), 0.2),
    "bias_act: a bias in bf16": lambda: ("bias_act", image(*X), image(4).bfloat16(), 0.2),
    "bias_act: a bias in float64": lambda: ("bias_act", image(*X), image(4).double(), 0.2),
    "bias_act: three dimensions": lambda: ("bias_act", image(2, 4, 3), image(4), 0.2),
    "bias_act: float16": lambda: ("bias_act", image(*X).half(), image(4), 0.2),
    "bias_act_backward: another batch": lambda: (
        "bias_act_backward",
        image(1, 4, 3, 5),
        image(*X),
        0.2,
    ),
    "bias_act_backward: another dtype": lambda: (
        "bias_act_backward",
        image(*X).double(),
        image(*X),
        0.2,
    ),
    "bias_act_pixel_norm: a short bias": lambda: (
        "bias_act_pixel_norm",
        image(*X),
        image(3),
        True,
        0.2,
        1e-8,
    ),
    "bias_act_pixel_norm: three dimensions": lambda: (
        "bias_act_pixel_norm",
        image(4, 3, 5),
        image(4),
        True,
        0.2,
        1e-8,
    ),
    "bias_act_pixel_norm_backward: another batch": lambda: (
        "bias_act_pixel_norm_backward",
        image(1, 4, 3, 5),
        image(*X),
        image(2, 1, 3, 5),
        True,
        0.2,
    ),
    "bias_act_pixel_norm_backward: another rstd": lambda: (
        "bias_act_pixel_norm_backward",
        image(*X),
        image(*X),
        image(2, 1, 3, 4),
        True,
        0.2,
    ),
    "bias_act_avg_pool2: a short bias": lambda: ("bias_act_avg_pool2", image(*X), image(3), 0.2),
    "bias_act_avg_pool2: three dimensions": lambda: (
        "bias_act_avg_pool2",
        image(4, 3, 5),
        image(4),
        0.2,
    ),
    "bias_act_avg_pool2_backward: another batch": lambda: (
        "bias_act_avg_pool2_backward",
        image(1, 4, 1, 2),
        signs(),
        3,
        5,
        0.2,
    ),
    "bias_act_avg_pool2_backward: another height": lambda: (
        "bias_act_avg_pool2_backward",
        image(2, 4, 1, 2),
        signs(),
        5,
        5,
        0.2,
    ),
    "bias_act_avg_pool2_backward: signs that are no bytes": lambda: (
        "bias_act_avg_pool2_backward",
        image(2, 4, 1, 2),
        signs().float(),
        3,
        5,
        0.2,
    ),
    "up2_blend: an odd height": lambda: (
        "up2_blend",
        image(1, 3, 2, 2),
        image(1, 3, 5, 4),
        torch.tensor(0.3),
    ),
    "up2_blend: another batch": lambda: (
        "up2_blend",
        image(2, 3, 2, 2),
        image(1, 3, 4, 4),
        torch.tensor(0.3),
    ),
    "up2_blend: three dimensions": lambda: (
        "up2_blend",
        image(3, 2, 2),
        image(3, 4, 4),
        torch.tensor(0.3),
    ),
    "up2_blend: two dtypes": lambda: (
        "up2_blend",
        image(1, 3, 2, 2).double(),
        image(1, 3, 4, 4),
        torch.tensor(0.3),
    ),
    "up2_blend: two alphas": lambda: (
        "up2_blend",
        image(1, 3, 2, 2),
        image(1, 3, 4, 4),
        torch.ones(2),
    ),
    "up2_blend_backward: an odd height": lambda: (
        "up2_blend_backward",
        image(1, 3, 3, 4),
        torch.tensor(0.3),
    ),
    "interleave2: two batches": lambda: (
        "interleave2",
        image(*X),
        image(*X),
        image(1, 4, 3, 5),
        image(*X),
    ),
    "interleave2: two dtypes": lambda: (
        "interleave2",
        image(*X),
        image(*X),
        image(*X).double(),
        image(*X),
    ),
    "deinterleave2: an odd height": lambda: ("deinterleave2", image(1, 3, 3, 4)),
    "moment_kl: three dimensions": lambda: ("moment_kl", image(1, 5, 4), False),
    "moment_kl: bf16": lambda: ("moment_kl", image(*Z).bfloat16(), False),
    "moment_kl_backward: a short gradient of the mean": lambda: of_moments(gmean=image(3)),
    "moment_kl_backward: a short gradient of m2": lambda: of_moments(gm2=image(3)),
    "moment_kl_backward: a short mean": lambda: of_moments(mean=image(3)),
    "moment_kl_backward: a short m2": lambda: of_moments(m2=image(3)),
    "moment_kl_backward: a gradient in float64": lambda: of_moments(gkl=image().double()),
    "gaussian_kl_reparam: two batches": lambda: (
        "gaussian_kl_reparam",
        image(*Z),
        image(2, 4),
        image(*Z),
    ),
    "gaussian_kl_reparam: one dimension": lambda: ("gaussian_kl_reparam", *[image(4)] * 3),
    "gaussian_kl_reparam: bf16": lambda: ("gaussian_kl_reparam", *[image(*Z).bfloat16()] * 3),
    "gaussian_kl_reparam_backward: a short gz": lambda: of_gaussian(gz=image(2, 4)),
    "gaussian_kl_reparam_backward: a short gkl": lambda: of_gaussian(gkl=image(3)),
    "gaussian_kl_reparam_backward: gz in float64": lambda: of_gaussian(gz=image(*Z).double()),
    "gaussian_kl_reparam_backward: a short logvar": lambda: of_gaussian(logvar=image(2, 4)),
}


def signs() -> Tensor:
    return torch.ones(2, 4, 1, 2, dtype=torch.uint8)


def of_moments(**changed: Tensor) -> tuple[object, ...]:
    given = {"gkl": image(), "gmean": image(4), "gm2": image(4), "z": image(*Z)}
    given |= {"mean": image(4), "m2": image(4), **changed}
    return "moment_kl_backward", *given.values(), False


def of_gaussian(**changed: Tensor) -> tuple[object, ...]:
    given = {"gz": image(*Z), "gkl": image(5), "mu": image(*Z)}
    given |= {"logvar": image(*Z), "noise": image(*Z), **changed}
    return "gaussian_kl_reparam_backward", *given.values()


@on_each_device
@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(device, case) -> None:
    name, *arguments = REFUSED[case]()
    arguments = [t.to(device) if isinstance(t, Tensor) else t for t in arguments]
    with pytest.raises(RuntimeError):
        getattr(pgvae, name)(*arguments)


OTHER_SIZES = """
import sys, torch, pgvae.ops

for name in ("uint8", "int32", "int64", "float16"):
    x = torch.arange(5 * 8 * 8 * 8).view(5, 8, 8, 8).to(sys.argv[1], getattr(torch, name))
    try:
        parts = torch.ops.pgvae.deinterleave2(x)
        back = torch.ops.pgvae.interleave2(*parts)
    except RuntimeError:
        continue
    assert torch.equal(back, x), name
    for k, part in enumerate(parts):
        assert torch.equal(part, x[:, :, k // 2 :: 2, k % 2 :: 2]), (name, k)
"""


@on_each_device
def test_numbers_of_another_size_are_moved_rightly_or_refused(device) -> None:
    """In a process of its own, which a kernel that wrote beyond its tensors would bring down."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER_SIZES, device],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@on_each_device
@pytest.mark.parametrize("count", [0, 1])
def test_moment_kl_of_fewer_than_two_samples_is_a_value_error(device, count) -> None:
    for impl in ("native", "auto", "reference"):
        with pytest.raises(ValueError, match=str(count)):
            ops.moment_kl(torch.ones(count, 4, device=device), impl=impl)
        with pytest.raises(ValueError, match=str(count)):
            ops.moments(torch.ones(count, 4, device=device), impl=impl).kl()


def public_arguments(dtype: torch.dtype, device: str) -> dict[str, tuple[Tensor | float, ...]]:
    x, bias = image(2, 3, 4, 6).to(device, dtype), image(3).to(device, dtype)
    z = latents((7, 4), dtype, "contiguous", device, "z")[0]
    return {
        "bias_act": (x, bias),
        "bias_act_pixel_norm": (x, bias),
        "bias_act_avg_pool2": (x, bias),
        "up2_conv3x3": (x, image(2, 3, 3, 3).to(device, dtype)),
        "up2_blend": (x, image(2, 3, 8, 12).to(device, dtype), 0.3),
        "moment_kl": (z,),
        "moments": (z,),
        "gaussian_kl_reparam": (z, z, z),
    }


PUBLIC = list(public_arguments(torch.float32, "cpu"))


@on_each_device
@pytest.mark.parametrize("name", PUBLIC)
def test_native_float16_is_refused_and_says_why(device, name) -> None:
    with pytest.raises(RuntimeError, match="float16"):
        getattr(ops, name)(*public_arguments(torch.float16, device)[name], impl="native")


@pytest.mark.parametrize("name", PUBLIC)
def test_an_implementation_nobody_has_is_a_value_error(name) -> None:
    with pytest.raises(ValueError, match="fastest"):
        getattr(ops, name)(*public_arguments(torch.float32, "cpu")[name], impl="fastest")
    with pytest.raises(ValueError, match="fastest"), ops.using("fastest"):
        pass


@on_each_device
def test_an_order_nobody_has_is_refused_or_means_the_same_to_all(device) -> None:
    x, bias = public_arguments(torch.float32, device)["bias_act_pixel_norm"]
    results = []
    for impl in ("native", "reference"):
        try:
            results.append(ops.bias_act_pixel_norm(x, bias, "norm_norm", impl=impl))
        except ValueError:
            results.append(torch.zeros(()))
    torch.testing.assert_close(*results)


@on_each_device
@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_a_slope_of_zero_has_the_references_gradient_or_is_refused(device, order) -> None:
    """y does not show n where it is 0, so norm_act cannot serve as ReLU from y alone."""
    x, bias = image(2, 3, 4, 6).to(device).requires_grad_(), torch.zeros(3, device=device)
    gradients = []
    for impl in ("auto", "reference"):
        try:
            y = ops.bias_act_pixel_norm(x, bias, order, slope=0.0, impl=impl)
        except (RuntimeError, ValueError):
            return
        gradients.append(torch.autograd.grad(y.square().sum() + y.sum(), x)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.native
@pytest.mark.skipif(bool(why_not("cuda")), reason=f"no native kernels on cuda: {why_not('cuda')}")
@pytest.mark.parametrize("name", ["bias_act", "bias_act_pixel_norm", "bias_act_avg_pool2"])
def test_tensors_on_two_devices_are_refused(name) -> None:
    x, bias = image(2, 3, 4, 6), image(3)
    for a, b in ((x.cuda(), bias), (x, bias.cuda())):
        with pytest.raises(RuntimeError):
            as_tuple(getattr(registered, name)(a, b))[0].cpu()
