"""Moments of parts merge into those of the whole."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pgvae import ops
from pgvae.ops import Moments, native
from tests.ops.cases import TOLERANCE, assert_exact, on_each_device
from tests.ops.equations import mean_and_m2, moment_kl
from tests.ops.inputs import randn

SPLITS = [[5], [1], [19], [3, 4, 11], [1, 2, 3, 4, 5]]
EMPTY = [[0], [20], [0, 0], [7, 7, 14], [4, 4, 20]]


def latents(count: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    return (0.7 * randn(count, 6, seed=1) + 0.4).to(dtype)


def merged(z: Tensor, cuts: list[int], impl: str) -> Moments:
    """The moments of the parts of `z` between cuts, merged from the left."""
    parts = [ops.moments(z[a:b], impl=impl) for a, b in pairwise([0, *cuts, len(z)])]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    return whole


@on_each_device
@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merged_moments_of_parts_are_those_of_the_whole(device, dtype, impl) -> None:
    if impl == "native" and native.why_not(torch.empty(0, dtype=dtype, device=device)):
        pytest.skip(f"no native kernel for {dtype} on {device}")
    z = latents(dtype=dtype).to(device)
    exact = z.cpu().double()
    mean, m2 = mean_and_m2(exact)
    for cuts in [[], *SPLITS]:
        found = merged(z, cuts, impl)
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
    found = merged(z, cuts, impl)
    assert found.count == 20
    assert_exact(found.mean, mean, cuts)
    assert_exact(found.m2, m2, cuts)


@on_each_device
@pytest.mark.parametrize("impl", ["native", "reference"])
def test_an_empty_part_leaves_the_gradients_of_the_others_alone(device, impl) -> None:
    z = latents(dtype=torch.float32).to(device).requires_grad_()
    exact = z.detach().cpu().double().requires_grad_()
    (expected,) = torch.autograd.grad(moment_kl(exact), exact)
    (actual,) = torch.autograd.grad(merged(z, [0, 20], impl).kl(), z)
    assert_exact(actual, expected, "gradient", 3e-6)


@on_each_device
@pytest.mark.parametrize("cuts", SPLITS)
def test_gradients_through_a_merge_are_those_of_the_whole(device, cuts) -> None:
    z = latents(dtype=torch.float32).to(device).requires_grad_()
    exact = z.detach().cpu().double().requires_grad_()
    (expected,) = torch.autograd.grad(moment_kl(exact), exact)
    (through_merge,) = torch.autograd.grad(merged(z, cuts, "native").kl(), z)
    (at_once,) = torch.autograd.grad(ops.moment_kl(z, impl="native"), z)
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
