"""The registered ops at the edges of their domain: NaN, infinity, extreme sizes."""

import pytest
import torch
from torch import Tensor

from pgvae.ops import registered
from tests.ops.cases import ACTIVATIONS, OPS, TOLERANCE, on_each_device
from tests.ops.equations import mean_and_m2, moment_kl
from tests.ops.inputs import laid_out, randn

NAN, INF = float("nan"), float("inf")

# --- NaN and infinity


def strange(dtype: torch.dtype, special: float) -> Tensor:
    """[2, 5, 3, 4] with one special number in a few pixels, alone or with zeros and huge ones."""
    x = randn(2, 5, 3, 4, seed=1)
    x[0, 2, 0, 1] = special
    x[0, 0, 2, 3] = special
    x[1, :, 1, 1] = torch.tensor([0.0, -0.0, special, 1e30, -1e-30], dtype=torch.float64)
    x[1, :, 2, 0] = special
    return x.to(dtype)


@on_each_device
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("special", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_and_infinity_come_out_as_the_equation_gives_them(
    device, name, special, dtype, layout
) -> None:
    wide = torch.promote_types(dtype, torch.float32)
    x, bias = strange(dtype, special), randn(5, seed=2).to(wide)
    y = OPS[name].run(laid_out(x, layout).to(device), bias.to(device), impl="native")
    # In the type that the kernels compute in: float32 overflows where float64 does not.
    expected = OPS[name].truth(x.to(wide), bias).to(dtype)
    assert expected.isfinite().any()
    assert not expected.isfinite().all()
    torch.testing.assert_close(y.cpu(), expected, equal_nan=True, rtol=2 * TOLERANCE[dtype], atol=0)


@on_each_device
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("special", [NAN, INF])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_incoming_nan_reaches_the_gradients_it_should(device, name, special, layout) -> None:
    x, bias = randn(2, 5, 4, 6, seed=1), randn(5, seed=2)
    ours = [laid_out(x, layout).to(device).requires_grad_(), bias.to(device).requires_grad_()]
    theirs = [x.requires_grad_(), bias.requires_grad_()]
    y, expected = OPS[name].run(*ours, impl="native"), OPS[name].truth(*theirs)
    g = randn(*y.shape, seed=3)
    g[1, 2, 1, 1] = special
    actual = torch.autograd.grad(y, ours, g.to(device))
    for a, e in zip(actual, torch.autograd.grad(expected, theirs, g), strict=True):
        torch.testing.assert_close(a.cpu().isfinite(), e.isfinite())
        torch.testing.assert_close(a.cpu()[e.isfinite()], e[e.isfinite()], rtol=1e-10, atol=1e-10)


@on_each_device
def test_the_largest_bf16_numbers_round_as_torch_rounds_them(device) -> None:
    """Ties go to even, and what is above the largest number becomes infinite."""
    wide = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-7 + 2**-8, 3.3895e38, 3.39e38, 1e-40])
    x = torch.zeros(1, 6, 1, 1, dtype=torch.bfloat16, device=device)
    y = registered.bias_act(x, wide.to(device))
    assert torch.equal(y.flatten().cpu(), wide.bfloat16())
    y = registered.bias_act(x, -wide.to(device), slope=1.0)
    assert torch.equal(y.flatten().cpu(), (-wide).bfloat16())


# --- extreme sizes


@on_each_device
def test_a_gaussian_of_any_variance_is_exact_in_float32(device) -> None:
    """From e^-200 to e^170: right to 1e-6 where float32 has the number, else 0 or infinite."""
    logvar = torch.cat([torch.arange(-200, -2, 0.37), torch.arange(2, 170, 0.37)]).view(-1, 1)
    logvar = torch.cat([logvar, torch.tensor([[87.3], [88.0], [88.5], [88.7], [-87.4], [-174.7]])])
    # In between e^logvar is infinite in float32, though half of it would not be.
    logvar = logvar[(logvar < 88.72) | (logvar > 89.42)].view(-1, 1)
    inputs = [torch.zeros_like(logvar), logvar, torch.full_like(logvar, 1.5)]
    g = [torch.ones_like(logvar), torch.ones(len(logvar))]
    ours = [t.to(device).requires_grad_() for t in inputs]
    exact = [t.double().requires_grad_() for t in inputs]
    op = OPS["gaussian_kl_reparam"]
    outputs, expected = op.run(*ours, impl="native"), op.truth(*exact)
    actual = (*outputs, *torch.autograd.grad(outputs, ours, [t.to(device) for t in g]))
    expected = (*expected, *torch.autograd.grad(expected, exact, [t.double() for t in g]))
    for a, e in zip(actual, expected, strict=True):
        as_float = e.detach().float()  # infinite where float32 has no such number
        # Deviations below 1.2e-38 may be 0; here they are multiplied by a noise of 1.5.
        torch.testing.assert_close(a.detach().cpu(), as_float, rtol=1e-6, atol=1.8e-38)
    assert outputs[1].isinf().any()
    assert outputs[1].isfinite().sum() > 500


@on_each_device
def test_a_gaussians_nan_and_infinite_log_variances_stay_what_they_are(device) -> None:
    logvar = torch.tensor([[NAN], [INF], [-INF], [0.0]], device=device)
    zero = torch.zeros_like(logvar)
    z, kl = registered.gaussian_kl_reparam(zero, logvar, torch.ones_like(logvar))
    assert z.flatten().tolist()[1:] == [INF, 0.0, 1.0]
    assert kl.tolist()[2:] == [INF, 0.0]
    assert z[0].isnan()
    assert kl[0].isnan()


@on_each_device
@pytest.mark.parametrize("count", [7, 1000])
def test_moments_of_far_and_narrow_latents_are_exact_in_float32(device, count) -> None:
    """Mean 1000, deviation 0.1: the mean square has no digit left for the variance."""
    z = (1000 + 0.1 * randn(count, 33, seed=1)).float()
    mean, m2 = mean_and_m2(z.double())
    our_mean, our_m2 = (t.cpu().double() for t in registered.mean_and_m2(z.to(device)))
    assert ((our_mean - mean) / mean).norm() < 1e-6 * 33**0.5
    assert ((our_m2 - m2) / m2).abs().max() < 1e-3
    kl = registered.moment_kl(z.to(device)).item()
    assert kl == pytest.approx(moment_kl(z.double()).item(), rel=2e-6)


@on_each_device
def test_bf16_latents_are_summed_in_float32(device) -> None:
    z = (1 + 0.01 * randn(64, 16, seed=1)).bfloat16()
    kl = registered.moment_kl(z.to(device))
    assert kl.dtype == torch.float32
    assert kl.item() == pytest.approx(moment_kl(z.double()).item(), rel=1e-5)
