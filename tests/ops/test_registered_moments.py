"""Moments that merge, what "auto" means within a block, and what `status` says."""

from itertools import pairwise

import pytest
import torch
from cases import (
    TOLERANCE,
    assert_exact,
    mean_and_m2,
    moment_kl,
    on_each_device,
    on_sphere,
    randn,
)
from torch import Tensor

from pgvae import ops
from pgvae.ops import Moments, native

SPLITS = [[5], [1], [19], [3, 4, 11], [1, 2, 3, 4, 5]]
EMPTY = [[0], [20], [0, 0], [7, 7, 14], [4, 4, 20]]


def latents(count: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    return (0.7 * randn(count, 6, seed=1) + 0.4).to(dtype)


def merged(z: Tensor, cuts: list[int], project: bool, impl: str) -> Moments:
    """The moments of the parts of `z` between cuts, merged from the left."""
    parts = [ops.moments(z[a:b], project, impl=impl) for a, b in pairwise([0, *cuts, len(z)])]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    return whole


@on_each_device
@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merged_moments_of_parts_are_those_of_the_whole(device, dtype, impl, project) -> None:
    if impl == "native" and native.why_not(torch.empty(0, dtype=dtype, device=device)):
        pytest.skip(f"no native kernel for {dtype} on {device}")
    z = latents(dtype=dtype).to(device)
    exact = z.cpu().double()
    exact = on_sphere(exact) if project else exact
    mean, m2 = mean_and_m2(exact)
    for cuts in [[], *SPLITS]:
        found = merged(z, cuts, project, impl)
        assert found.count == 20
        assert_exact(found.mean, mean, cuts)
        assert_exact(found.m2, m2, cuts)
        assert_exact(found.kl(), moment_kl(exact), cuts, 3 * TOLERANCE[dtype])


@on_each_device
@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("cuts", EMPTY)
def test_an_empty_part_changes_nothing(device, impl, cuts) -> None:
    z = latents(dtype=torch.float32).to(device)
    mean, m2 = mean_and_m2(z.cpu().double())
    found = merged(z, cuts, False, impl)
    assert found.count == 20
    assert_exact(found.mean, mean, cuts)
    assert_exact(found.m2, m2, cuts)


@on_each_device
@pytest.mark.parametrize("impl", ["native", "reference"])
def test_an_empty_part_leaves_the_gradients_of_the_others_alone(device, impl) -> None:
    z = latents(dtype=torch.float32).to(device).requires_grad_()
    exact = z.detach().cpu().double().requires_grad_()
    (expected,) = torch.autograd.grad(moment_kl(exact), exact)
    (actual,) = torch.autograd.grad(merged(z, [0, 20], False, impl).kl(), z)
    assert_exact(actual, expected, "gradient", 3e-6)


@on_each_device
@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("cuts", SPLITS)
def test_gradients_through_a_merge_are_those_of_the_whole(device, cuts, project) -> None:
    z = latents(dtype=torch.float32).to(device).requires_grad_()
    exact = z.detach().cpu().double().requires_grad_()
    truth = moment_kl(on_sphere(exact) if project else exact)
    (expected,) = torch.autograd.grad(truth, exact)
    (through_merge,) = torch.autograd.grad(merged(z, cuts, project, "native").kl(), z)
    (at_once,) = torch.autograd.grad(ops.moment_kl(z, project, impl="native"), z)
    assert_exact(at_once, expected, "at once", 2e-6)
    assert_exact(through_merge, expected, cuts, 5e-6)


@on_each_device
def test_merging_goes_in_any_order(device) -> None:
    z = latents(dtype=torch.float32).to(device)
    a, b, c = (ops.moments(part) for part in (z[:3], z[3:10], z[10:]))
    one, other = a.merge(b).merge(c), c.merge(a.merge(b))
    assert_exact(one.mean, other.mean.cpu().double(), "mean")
    assert_exact(one.m2, other.m2.cpu().double(), "m2")


@on_each_device
def test_parts_far_apart_merge_to_the_spread_between_them(device) -> None:
    """Two points, each without spread of its own: m2 is all of the distance's making."""
    z = torch.tensor([[-3.0], [-3.0], [5.0], [5.0], [5.0], [5.0]], device=device)
    found = ops.moments(z[:2]).merge(ops.moments(z[2:]))
    assert found.mean.item() == pytest.approx(14 / 6, rel=1e-6)
    assert found.m2.item() == pytest.approx(8.0**2 * 2 * 4 / 6, rel=1e-6)


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_projecting_is_normalising_first(device, dtype) -> None:
    z = latents(dtype=dtype).to(device)
    unit = torch.nn.functional.normalize(z.float(), dim=1)
    projected, normalised = ops.moments(z, project=True), ops.moments(unit)
    assert_exact(projected.mean, normalised.mean.cpu().double(), "mean")
    assert_exact(projected.m2, normalised.m2.cpu().double(), "m2")
    kl = ops.moment_kl(z, project=True)
    assert_exact(kl, ops.moment_kl(unit).cpu().double(), "kl", 3e-6)
    assert abs(kl - ops.moment_kl(z)) > 0.1 * kl


@on_each_device
def test_projected_latents_of_another_length_have_the_same_moments(device) -> None:
    z = latents(dtype=torch.float32).to(device)
    lengths = randn(20, 1, seed=5).exp().float().to(device)
    same, scaled = ops.moment_kl(z, project=True), ops.moment_kl(z * lengths, project=True)
    assert scaled.item() == pytest.approx(same.item(), rel=1e-5)


# --- using, status


def took_native() -> bool:
    """Whether "auto" runs the native kernel now: its node of the graph is another."""
    x = torch.ones(1, 2, 1, 1, requires_grad=True)
    name = ops.bias_act(x, torch.zeros(2)).grad_fn.name()
    assert ("Differentiable" in name) != ("LeakyRelu" in name), name
    return "Differentiable" in name


@pytest.mark.native
@pytest.mark.skipif(bool(native.why_not(torch.empty(0))), reason="no native kernels on cpu")
def test_using_reference_is_honoured_and_ends_with_its_block() -> None:
    assert took_native()
    with ops.using("reference"):
        assert not took_native()
        with ops.using("native"):
            assert took_native()
        assert not took_native()
        with ops.using("auto"):
            assert took_native()
    assert took_native()


@pytest.mark.native
@pytest.mark.skipif(bool(native.why_not(torch.empty(0))), reason="no native kernels on cpu")
def test_using_ends_when_its_block_raises() -> None:
    def block() -> None:
        with ops.using("reference"):
            assert not took_native()
            raise KeyError

    with pytest.raises(KeyError):
        block()
    assert took_native()


@pytest.mark.native
@pytest.mark.skipif(bool(native.why_not(torch.empty(0))), reason="no native kernels on cpu")
def test_an_argument_goes_before_using() -> None:
    x = torch.ones(1, 2, 1, 1, requires_grad=True)
    with ops.using("reference"):
        y = ops.bias_act(x, torch.zeros(2), impl="native")
    assert "Differentiable" in y.grad_fn.name()
    with ops.using("native"):
        y = ops.bias_act(x, torch.zeros(2), impl="reference")
    assert "LeakyRelu" in y.grad_fn.name()


def test_using_native_raises_where_there_is_no_kernel() -> None:
    half = torch.ones(1, 2, 1, 1, dtype=torch.float16)
    with ops.using("native"), pytest.raises(RuntimeError, match="float16"):
        ops.bias_act(half, half[0, :, 0, 0])
    assert ops.bias_act(half, half[0, :, 0, 0]).dtype == torch.float16  # auto takes the reference


def test_status_names_every_op_and_says_what_runs() -> None:
    status = ops.status()
    assert status.keys() >= {
        "bias_act",
        "bias_act_pixel_norm",
        "bias_act_avg_pool2",
        "up2_conv3x3",
        "up2_blend",
        "moments",
        "moment_kl",
        "gaussian_kl_reparam",
    }
    assert all(callable(getattr(ops, name)) for name in status)
    on_cpu = not native.why_not(torch.empty(0))
    for phrase in status.values():
        assert phrase.startswith("native on CPU" if on_cpu else "not on CPU")
        assert "CUDA" in phrase
