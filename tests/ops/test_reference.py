"""Every public op against an explicit float64 computation, and both its derivatives."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from pgvae import ops
from pgvae.ops import phases

SLOPE, EPS = 0.2, 1e-8
SHAPES = [(2, 3, 5, 7), (1, 6, 4, 4), (3, 1, 1, 3)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
NAMES = [
    "conv3x3",
    "up2_conv3x3",
    "bias_act",
    "bias_act_pixel_norm",
    "bias_act_avg_pool2",
    "up2_blend",
    "moment_kl",
    "gaussian_kl_reparam",
]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


def arguments(name: str) -> tuple[torch.Tensor | float, ...]:
    """Small float64 inputs of op `name`."""
    x = randn(2, 3, 4, 6, seed=1)
    return {
        "conv3x3": (x, randn(5, 3, 3, 3, seed=2)),
        "up2_conv3x3": (x, randn(5, 3, 3, 3, seed=2)),
        "bias_act": (x, randn(3, seed=3)),
        "bias_act_pixel_norm": (x, randn(3, seed=3)),
        "bias_act_avg_pool2": (x, randn(3, seed=3)),
        "up2_blend": (x, randn(2, 3, 8, 12, seed=4), 0.3),
        "moment_kl": (randn(7, 4, seed=5),),
        "gaussian_kl_reparam": (randn(5, 3, seed=6), randn(5, 3, seed=7), randn(5, 3, seed=8)),
    }[name]


def conv3x3_by_taps(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum over the nine taps of shifted, zero-padded inputs."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((x.shape[0], weight.shape[0], height, width))
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + height, j : j + width]
            out += np.einsum("oc,nchw->nohw", weight[:, :, i, j], window)
    return out


def up2_by_index(x: np.ndarray) -> np.ndarray:
    """Nearest upsampling x2: out[2i + a, 2j + b] = x[i, j]."""
    return x.repeat(2, axis=2).repeat(2, axis=3)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, SLOPE * x)


def pixel_norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + EPS)


def column(bias: torch.Tensor) -> np.ndarray:
    return bias.numpy()[None, :, None, None]


def assert_equal(actual: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-12) -> None:
    assert tuple(actual.shape) == expected.shape
    error = np.linalg.norm(actual.detach().double().numpy() - expected)
    assert error <= tolerance * max(np.linalg.norm(expected), 1e-300)


def check_derivatives(function, *inputs: torch.Tensor) -> None:
    """First and second derivatives of `function` against finite differences."""
    inputs = tuple(t.clone().requires_grad_() for t in inputs)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


# --- how an implementation is chosen


@pytest.mark.parametrize("name", NAMES)
def test_without_a_library_native_raises_and_auto_goes_on(name: str, monkeypatch) -> None:
    monkeypatch.setitem(ops.native._PROBLEMS, "cpu", "left out by the test")
    with pytest.raises(RuntimeError, match=f"{name}.*left out by the test"):
        getattr(ops, name)(*arguments(name), impl="native")
    auto = getattr(ops, name)(*arguments(name))
    reference = getattr(ops, name)(*arguments(name), impl="reference")
    torch.testing.assert_close(auto, reference, rtol=1e-12, atol=1e-12)
    assert "not on CPU (left out by the test)" in ops.status()[name]


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_implementation_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="fastest"):
        getattr(ops, name)(*arguments(name), impl="fastest")


@pytest.mark.parametrize("name", NAMES)
def test_auto_and_reference_agree(name: str) -> None:
    auto = getattr(ops, name)(*arguments(name))
    reference = getattr(ops, name)(*arguments(name), impl="reference")
    torch.testing.assert_close(auto, reference, rtol=1e-12, atol=1e-12)


def test_status_speaks_of_every_op() -> None:
    assert set(ops.status()) == {*NAMES, "moments"}
    assert all(ops.status().values())


# --- convolutions


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3, 5, 7)])
def test_conv3x3_is_the_sum_over_nine_taps(impl, layout, shape) -> None:
    x, weight = randn(*shape, seed=1), randn(5, shape[1], 3, 3, seed=2)
    y = ops.conv3x3(x.to(memory_format=layout), weight.to(memory_format=layout), impl=impl)
    assert_equal(y, conv3x3_by_taps(x.numpy(), weight.numpy()))


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3, 5, 7)])
def test_up2_conv3x3_is_upsampling_and_then_a_convolution(impl, layout, shape) -> None:
    x, weight = randn(*shape, seed=1), randn(5, shape[1], 3, 3, seed=2)
    y = ops.up2_conv3x3(x.to(memory_format=layout), weight.to(memory_format=layout), impl=impl)
    assert_equal(y, conv3x3_by_taps(up2_by_index(x.numpy()), weight.numpy()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
def test_up2_conv3x3_is_as_exact_as_its_type_allows(dtype, tolerance) -> None:
    x, weight = randn(2, 24, 5, 7, seed=1, dtype=dtype), randn(6, 24, 3, 3, seed=2, dtype=dtype)
    expected = conv3x3_by_taps(up2_by_index(x.double().numpy()), weight.double().numpy())
    y = ops.up2_conv3x3(x, weight)
    assert y.dtype == dtype
    assert_equal(y, expected, tolerance)


def test_gradients_of_up2_conv3x3_are_those_of_upsampling_and_convolution() -> None:
    x, weight = randn(2, 3, 5, 4, seed=1), randn(4, 3, 3, 3, seed=2)
    incoming = randn(2, 8, 10, 4, seed=3).permute(0, 3, 2, 1)  # [2, 4, 10, 8], not contiguous
    inputs = [x.requires_grad_(), weight.requires_grad_()]
    direct = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    expected = torch.autograd.grad(direct, inputs, incoming)
    actual = torch.autograd.grad(ops.up2_conv3x3(x, weight), inputs, incoming)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("op", [ops.conv3x3, ops.up2_conv3x3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_differentiate_twice(op, layout) -> None:
    x = randn(1, 2, 3, 2, seed=1).to(memory_format=layout)
    check_derivatives(op, x, randn(2, 2, 3, 3, seed=2))


# --- bias, activation, norm, pooling


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3, 5, 7)])
def test_bias_act_is_leaky_relu_of_the_sum(layout, shape) -> None:
    x, bias = randn(*shape, seed=1), randn(shape[1], seed=2)
    y = ops.bias_act(x.to(memory_format=layout), bias)
    assert_equal(y, leaky(x.numpy() + column(bias)))


def test_bias_act_takes_another_slope() -> None:
    y = ops.bias_act(torch.tensor([-2.0, 3.0]).view(1, 2, 1, 1), torch.tensor([1.0, 1.0]), 0.5)
    assert y.flatten().tolist() == [-0.5, 4.0]


@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3, 5, 7)])
def test_bias_act_pixel_norm_follows_its_order(order, layout, shape) -> None:
    x, bias = randn(*shape, seed=1), randn(shape[1], seed=2)
    y = ops.bias_act_pixel_norm(x.to(memory_format=layout), bias, order)
    biased = x.numpy() + column(bias)
    expected = leaky(pixel_norm(biased)) if order == "norm_act" else pixel_norm(leaky(biased))
    assert_equal(y, expected)


def test_pixel_norm_defaults_to_pioneers_order() -> None:
    x, bias = randn(2, 3, 4, 5), randn(3, seed=1)
    assert_equal(ops.bias_act_pixel_norm(x, bias), leaky(pixel_norm(x.numpy() + column(bias))))


@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_pixel_norm_adds_eps_to_the_mean_square(order) -> None:
    x = torch.full((1, 4, 1, 1), 3.0, dtype=torch.float64)
    y = ops.bias_act_pixel_norm(x, torch.zeros(4, dtype=torch.float64), order, eps=16.0)
    assert_equal(y, np.full((1, 4, 1, 1), 3 / 5))


@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_pixel_norm_of_a_black_pixel_is_finite(order) -> None:
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    y = ops.bias_act_pixel_norm(x, torch.zeros(3), order)
    y.sum().backward()
    assert y.eq(0).all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_pixel_norm_has_the_gradient_of_the_written_out_formula(order) -> None:
    """docs: d = g slope, gx = r (d - n <d, n>) and gu = r (g - y <g, y>), means over C."""
    x, bias, g = randn(2, 5, 3, 2, seed=1), randn(5, seed=2), randn(2, 5, 3, 2, seed=3)
    x.requires_grad_(), bias.requires_grad_()
    y = ops.bias_act_pixel_norm(x, bias, order)
    gx, gb = torch.autograd.grad(y, [x, bias], g)
    u = (x + bias.view(1, -1, 1, 1)).detach()
    slope = torch.where(u > 0, 1.0, SLOPE * torch.ones_like(u))
    n = u if order == "norm_act" else u * slope
    r = 1 / (n.square().mean(1, keepdim=True) + EPS).sqrt()
    n = n * r
    d = g * slope if order == "norm_act" else g
    expected = r * (d - n * (d * n).mean(1, keepdim=True))
    expected = expected if order == "norm_act" else expected * slope
    assert_equal(gx, expected.numpy(), 1e-10)
    assert_equal(gb, expected.sum((0, 2, 3)).numpy(), 1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 6, 10), (1, 5, 2, 2), (0, 3, 4, 4)])
def test_bias_act_avg_pool2_activates_before_it_averages(layout, shape) -> None:
    x, bias = randn(*shape, seed=1), randn(shape[1], seed=2)
    y = ops.bias_act_avg_pool2(x.to(memory_format=layout), bias)
    a = leaky(x.numpy() + column(bias))
    corners = (a[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    assert_equal(y, sum(corners) / 4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "op",
    [
        ops.bias_act,
        ops.bias_act_avg_pool2,
        lambda x, b: ops.bias_act_pixel_norm(x, b, "norm_act"),
        lambda x, b: ops.bias_act_pixel_norm(x, b, "act_norm"),
    ],
    ids=["bias_act", "avg_pool2", "norm_act", "act_norm"],
)
def test_activations_differentiate_twice(op, layout) -> None:
    x = randn(2, 3, 2, 4, seed=1).to(memory_format=layout)
    check_derivatives(op, x, randn(3, seed=2))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_pixel_norm_is_as_exact_as_its_type_allows(order, dtype, tolerance) -> None:
    x, bias = randn(2, 37, 5, 7, seed=1, dtype=dtype), randn(37, seed=2, dtype=dtype)
    biased = x.double().numpy() + column(bias.double())
    expected = leaky(pixel_norm(biased)) if order == "norm_act" else pixel_norm(leaky(biased))
    y = ops.bias_act_pixel_norm(x, bias, order)
    assert y.dtype == dtype
    assert_equal(y, expected, tolerance)


@pytest.mark.parametrize(
    "op",
    [ops.bias_act, ops.bias_act_pixel_norm, ops.bias_act_avg_pool2],
    ids=lambda op: op.__name__,
)
def test_a_float32_bias_leaves_bf16_activations_in_bf16(op) -> None:
    """Under autocast biases stay float32; activations must not double in size for that."""
    x = randn(2, 3, 4, 4, seed=1).bfloat16()
    assert op(x, torch.zeros(3)).dtype == torch.bfloat16


# --- fade


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, torch.tensor(0.7, dtype=torch.float64)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3, 5, 7)])
def test_up2_blend_mixes_the_upsampled_old_with_the_new(alpha, layout, shape) -> None:
    old = randn(*shape, seed=1)
    new = randn(shape[0], shape[1], 2 * shape[2], 2 * shape[3], seed=2)
    y = ops.up2_blend(old.to(memory_format=layout), new.to(memory_format=layout), alpha)
    share = float(alpha)
    assert_equal(y, (1 - share) * up2_by_index(old.numpy()) + share * new.numpy())


def test_up2_blend_differentiates_twice_in_images_and_alpha() -> None:
    alpha = torch.tensor(0.3, dtype=torch.float64)
    check_derivatives(ops.up2_blend, randn(1, 2, 1, 3), randn(1, 2, 2, 6, seed=1), alpha)


def test_up2_blend_takes_a_float32_alpha_for_bf16_images() -> None:
    """docs: alpha is a device tensor, so that one captured graph serves a whole fade."""
    old, new = randn(1, 3, 2, 2, seed=1).bfloat16(), randn(1, 3, 4, 4, seed=2).bfloat16()
    y = ops.up2_blend(old, new, torch.tensor(0.25))
    assert y.dtype == torch.bfloat16
    expected = 0.75 * up2_by_index(old.double().numpy()) + 0.25 * new.double().numpy()
    assert_equal(y, expected, 6e-3)


# --- moment KL


def normal_kl(mean: np.ndarray, var: np.ndarray) -> float:
    """KL(N(m, v) || N(0, 1)) summed: log(1/s) + (v + m^2) / 2 - 1/2 (textbook form)."""
    return float(np.sum(-0.5 * np.log(var) + (var + mean**2) / 2 - 0.5))


def test_moment_kl_is_that_of_the_batchs_biased_moments() -> None:
    z = randn(9, 5, seed=1) * 0.7 + 0.4
    expected = normal_kl(z.numpy().mean(0), z.numpy().var(0))
    assert ops.moment_kl(z).item() == pytest.approx(expected, rel=1e-12)


def test_moment_kl_of_exact_moments_is_the_closed_form_of_a_gaussian() -> None:
    mean, std = np.array([0.5, -2.0, 0.0]), np.array([0.1, 3.0, 1.0])
    z = torch.tensor(np.stack([mean - std, mean + std]))
    assert ops.moment_kl(z).item() == pytest.approx(normal_kl(mean, std**2), rel=1e-12)


def test_moment_kl_is_zero_only_at_the_standard_moments() -> None:
    z = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert ops.moment_kl(z).item() == pytest.approx(0.0, abs=1e-12)
    assert ops.moment_kl(z * 1.1).item() > 1e-3
    assert ops.moment_kl(z + 0.1).item() > 1e-3


def test_moment_kl_of_uniform_codes_on_the_sphere_is_2_62_nats_per_dimension() -> None:
    d = 512
    z = torch.full((1, d), d**-0.5, dtype=torch.float64)
    per_dimension = ops.moment_kl(torch.cat([z, -z])).item() / d
    assert per_dimension == pytest.approx((1 - d + d * math.log(d)) / (2 * d), rel=1e-12)
    assert round(per_dimension, 2) == 2.62


@pytest.mark.parametrize("count", [0, 1])
def test_moment_kl_refuses_fewer_than_two_samples(count) -> None:
    with pytest.raises(ValueError, match=str(count)):
        ops.moment_kl(randn(count, 4))


def test_moment_kl_of_bf16_codes_is_accumulated_in_float32() -> None:
    """In bf16 itself these variances vanish, and the KL is infinite."""
    z = (randn(64, 16, seed=1) * 0.01 + 1.0).bfloat16()
    kl = ops.moment_kl(z)
    assert kl.dtype == torch.float32
    exact = z.double().numpy()
    assert kl.item() == pytest.approx(normal_kl(exact.mean(0), exact.var(0)), rel=1e-4)


def test_moment_kl_keeps_small_differences_of_large_codes_in_float32() -> None:
    z = (randn(64, 16, seed=1) * 1e-3 + 3.0).float()
    exact = z.double().numpy()
    expected = normal_kl(exact.mean(0), exact.var(0))
    assert ops.moment_kl(z).item() == pytest.approx(expected, rel=1e-4)


def test_moment_kl_does_not_depend_on_the_order_of_samples_and_dimensions() -> None:
    z = randn(9, 5, seed=1)
    turned = z.flip(0)[:, [3, 1, 4, 0, 2]]
    assert ops.moment_kl(z).item() == pytest.approx(ops.moment_kl(turned).item(), rel=1e-12)


def test_moment_kl_has_the_gradient_of_age() -> None:
    """docs: gz = [m + (z - m)(1 - 1 / v)] / N, with the biased variance v."""
    z = randn(6, 4, seed=1).requires_grad_()
    (actual,) = torch.autograd.grad(ops.moment_kl(z), z)
    points = z.detach().numpy()
    mean, var = points.mean(0), points.var(0)
    assert_equal(actual, (mean + (points - mean) * (1 - 1 / var)) / 6, 1e-11)


def test_moment_kl_differentiates_twice() -> None:
    check_derivatives(ops.moment_kl, randn(5, 3, seed=1))


# --- Gaussian KL and reparametrisation


def test_gaussian_kl_is_what_monte_carlo_estimates() -> None:
    mu, logvar = torch.tensor([[0.7, -0.4]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    noise = randn(400_000, 2, seed=1)
    z, kl = ops.gaussian_kl_reparam(mu.expand_as(noise), logvar.expand_as(noise), noise)
    log_q = torch.distributions.Normal(mu, (logvar / 2).exp()).log_prob(z).sum(1)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    draws = log_q - log_p
    error = draws.std().item() / math.sqrt(len(draws))
    assert abs(draws.mean().item() - kl[0].item()) < 4 * error
    assert error < 0.01 * kl[0].item()


def test_gaussian_kl_is_per_sample_and_summed_over_dimensions() -> None:
    mu, logvar, noise = (randn(6, 5, seed=s) for s in (1, 2, 3))
    _, kl = ops.gaussian_kl_reparam(mu, logvar, noise)
    assert kl.shape == (6,)
    for i in range(6):
        expected = normal_kl(mu[i].numpy(), logvar[i].exp().numpy())
        assert kl[i].item() == pytest.approx(expected, rel=1e-12)


def test_gaussian_kl_is_zero_for_the_prior_and_never_negative() -> None:
    zero = torch.zeros(3, 4, dtype=torch.float64)
    assert ops.gaussian_kl_reparam(zero, zero, zero)[1].tolist() == [0.0] * 3
    mu, logvar = randn(500, 4, seed=1) * 0.01, randn(500, 4, seed=2) * 0.01
    assert (ops.gaussian_kl_reparam(mu, logvar, mu)[1] > 0).all()


def test_gaussian_kl_of_bf16_posteriors_is_accumulated_in_float32() -> None:
    mu, logvar = randn(6, 512, seed=1).bfloat16(), randn(6, 512, seed=2).bfloat16()
    _, kl = ops.gaussian_kl_reparam(mu, logvar, torch.zeros_like(mu))
    expected = [
        normal_kl(m, np.exp(lv))
        for m, lv in zip(mu.double().numpy(), logvar.double().numpy(), strict=True)
    ]
    assert kl.dtype == torch.float32
    assert kl.tolist() == pytest.approx(expected, rel=1e-5)


def test_reparametrised_samples_are_the_mean_plus_scaled_noise() -> None:
    mu, logvar, noise = (randn(6, 5, seed=s) for s in (1, 2, 3))
    z, _ = ops.gaussian_kl_reparam(mu, logvar, noise)
    assert_equal(z, mu.numpy() + np.sqrt(np.exp(logvar.numpy())) * noise.numpy())


def test_gaussian_kl_reparam_has_the_gradients_of_the_vae() -> None:
    """docs: gmu = gz + gk mu; glv = gz eps e^(lv/2) / 2 + gk (e^lv - 1) / 2."""
    mu, logvar, noise = (randn(6, 5, seed=s) for s in (1, 2, 3))
    gz, gk = randn(6, 5, seed=4), randn(6, seed=5)
    outputs = ops.gaussian_kl_reparam(mu.requires_grad_(), logvar.requires_grad_(), noise)
    gmu, glv = torch.autograd.grad(outputs, [mu, logvar], [gz, gk])
    mu, logvar, gk = mu.detach(), logvar.detach(), gk[:, None]
    assert_equal(gmu, (gz + gk * mu).numpy())
    expected = gz * noise * (logvar / 2).exp() / 2 + gk * (logvar.exp() - 1) / 2
    assert_equal(glv, expected.numpy())


def test_gaussian_kl_reparam_differentiates_twice() -> None:
    noise = randn(2, 3, seed=3)
    check_derivatives(
        lambda mu, logvar: ops.gaussian_kl_reparam(mu, logvar, noise),
        randn(2, 3, seed=1),
        randn(2, 3, seed=2),
    )


def test_gaussian_kl_of_an_empty_batch_is_empty() -> None:
    empty = torch.zeros(0, 3)
    z, kl = ops.gaussian_kl_reparam(empty, empty, empty)
    assert z.shape == (0, 3)
    assert kl.shape == (0,)


@pytest.mark.parametrize("way", [phases.by_phases, phases.transposed], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_of_up2_conv3x3_are_upsampling_and_then_a_convolution(way, shape) -> None:
    x, weight = randn(*shape, seed=1), randn(5, shape[1], 3, 3, seed=2)
    expected = conv3x3_by_taps(up2_by_index(x.numpy()), weight.numpy())
    assert_equal(way(x, weight), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert way(x.bfloat16(), weight.float()).dtype == torch.bfloat16


def test_up2_conv3x3_takes_phases_for_many_weights_alone(monkeypatch) -> None:
    taken = []
    for name in ("by_phases", "transposed"):
        monkeypatch.setattr(phases, name, lambda x, w, name=name: taken.append(name))
    phases.up2_conv3x3(torch.zeros(1, 512, 4, 4), torch.zeros(256, 512, 3, 3))
    phases.up2_conv3x3(torch.zeros(1, 256, 4, 4), torch.zeros(256, 256, 3, 3))
    assert taken == ["by_phases", "transposed"]
