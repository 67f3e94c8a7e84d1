"""Bad input is refused by the registered ops with an error, not a crash."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from pgvae import ops
from pgvae.ops import registered
from tests.ops.cases import ROOT, as_tuple, on_each_device, why_not
from tests.ops.inputs import randn

pgvae = torch.ops.pgvae


def image(*shape: int) -> Tensor:
    return randn(*shape, seed=1).float()


x, z, small, alpha = image(2, 4, 3, 5), image(5, 4), image(1, 3, 2, 2), torch.tensor(0.3)
signs = torch.ones(2, 4, 1, 2, dtype=torch.uint8)
# What each op takes,
TAKEN: dict[str, dict[str, object]] = {
    "bias_act": {"x": x, "bias": image(4), "slope": 0.2},
    "bias_act_backward": {"g": x, "y": x, "slope": 0.2},
    "bias_act_pixel_norm": {"x": x, "bias": image(4), "first": True, "slope": 0.2, "eps": 1e-8},
    "bias_act_pixel_norm_backward": {
        "g": x,
        "y": x,
        "rstd": image(2, 1, 3, 5),
        "first": True,
        "slope": 0.2,
    },
    "bias_act_avg_pool2": {"x": x, "bias": image(4), "slope": 0.2},
    "bias_act_avg_pool2_backward": {
        "g": image(2, 4, 1, 2),
        "signs": signs,
        "height": 3,
        "width": 5,
        "slope": 0.2,
    },
    "up2_blend": {"old": small, "new": image(1, 3, 4, 4), "alpha": alpha},
    "up2_blend_backward": {"g": image(1, 3, 4, 4), "alpha": alpha},
    "interleave2": {"p0": x, "p1": x, "p2": x, "p3": x},
    "deinterleave2": {"x": image(1, 3, 4, 4)},
    "moment_kl": {"z": z},
    "moment_kl_backward": {
        "gkl": image(),
        "gmean": image(4),
        "gm2": image(4),
        "z": z,
        "mean": image(4),
        "m2": image(4),
    },
    "gaussian_kl_reparam": {"mu": z, "logvar": z, "noise": z},
    "gaussian_kl_reparam_backward": {"gz": z, "gkl": image(5), "mu": z, "logvar": z, "noise": z},
}
# and what it does not take in the place of that.
REFUSED: list[tuple[str, str, dict[str, object]]] = [
    ("bias_act", "a bias too short", {"bias": image(3)}),
    ("bias_act", "a bias too long", {"bias": image(5)}),
    ("bias_act", "a bias of two dimensions", {"bias": image(1, 4)}),
    ("bias_act", "a bias in bf16", {"bias": image(4).bfloat16()}),
    ("bias_act", "a bias in float64", {"bias": image(4).double()}),
    ("bias_act", "three dimensions", {"x": image(2, 4, 3)}),
    ("bias_act", "float16", {"x": x.half()}),
    ("bias_act_backward", "another batch", {"g": x[:1]}),
    ("bias_act_backward", "another dtype", {"g": x.double()}),
    ("bias_act_pixel_norm", "a short bias", {"bias": image(3)}),
    ("bias_act_pixel_norm", "three dimensions", {"x": image(4, 3, 5)}),
    ("bias_act_pixel_norm_backward", "another batch", {"g": x[:1]}),
    ("bias_act_pixel_norm_backward", "another rstd", {"rstd": image(2, 1, 3, 4)}),
    ("bias_act_avg_pool2", "a short bias", {"bias": image(3)}),
    ("bias_act_avg_pool2", "three dimensions", {"x": image(4, 3, 5)}),
    ("bias_act_avg_pool2_backward", "another batch", {"g": image(1, 4, 1, 2)}),
    ("bias_act_avg_pool2_backward", "another height", {"height": 5}),
    ("bias_act_avg_pool2_backward", "signs that are no bytes", {"signs": signs.float()}),
    ("up2_blend", "an odd height", {"new": image(1, 3, 5, 4)}),
    ("up2_blend", "another batch", {"old": image(2, 3, 2, 2)}),
    ("up2_blend", "three dimensions", {"old": small[0], "new": image(3, 4, 4)}),
    ("up2_blend", "two dtypes", {"old": small.double()}),
    ("up2_blend", "two alphas", {"alpha": torch.ones(2)}),
    ("up2_blend_backward", "an odd height", {"g": image(1, 3, 3, 4)}),
    ("interleave2", "two batches", {"p2": x[:1]}),
    ("interleave2", "two dtypes", {"p2": x.double()}),
    ("deinterleave2", "an odd height", {"x": image(1, 3, 3, 4)}),
    ("moment_kl", "three dimensions", {"z": image(1, 5, 4)}),
    ("moment_kl", "bf16", {"z": z.bfloat16()}),
    ("moment_kl_backward", "a short gradient of the mean", {"gmean": image(3)}),
    ("moment_kl_backward", "a short gradient of m2", {"gm2": image(3)}),
    ("moment_kl_backward", "a short mean", {"mean": image(3)}),
    ("moment_kl_backward", "a short m2", {"m2": image(3)}),
    ("moment_kl_backward", "a gradient in float64", {"gkl": image().double()}),
    ("gaussian_kl_reparam", "two batches", {"logvar": z[:2]}),
    ("gaussian_kl_reparam", "one dimension", dict.fromkeys(("mu", "logvar", "noise"), z[0])),
    ("gaussian_kl_reparam", "bf16", dict.fromkeys(("mu", "logvar", "noise"), z.bfloat16())),
    ("gaussian_kl_reparam_backward", "a short gz", {"gz": z[:2]}),
    ("gaussian_kl_reparam_backward", "a short gkl", {"gkl": image(3)}),
    ("gaussian_kl_reparam_backward", "gz in float64", {"gz": z.double()}),
    ("gaussian_kl_reparam_backward", "a short logvar", {"logvar": z[:2]}),
]


def call(name: str, device: str, changed: dict[str, object]) -> object:
    values = (TAKEN[name] | changed).values()
    return getattr(pgvae, name)(*(t.to(device) if isinstance(t, Tensor) else t for t in values))


@on_each_device
@pytest.mark.parametrize(("name", "what", "changed"), REFUSED)
def test_bad_input_is_refused(device, name, what, changed) -> None:
    call(name, device, {})
    with pytest.raises(RuntimeError):
        call(name, device, changed)


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
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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


@on_each_device
def test_an_order_nobody_has_is_refused_or_means_the_same_to_all(device) -> None:
    x, bias = image(2, 3, 4, 6).to(device), image(3).to(device)
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
