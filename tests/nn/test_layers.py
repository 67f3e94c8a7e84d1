"""Weight layers: equalized, spectral and plain ones, and the generator's first layer."""

import math

import pytest
import torch
from small import converge, opening, randn
from torch.nn import functional as F

from pgvae.config import ModelConfig
from pgvae.nn.layers import (
    EqualizedWeight,
    LatentToBase,
    PlainWeight,
    SpectralWeight,
    blend,
    matrix_of,
    weight_of,
)


def seeded(build, *arguments, seed: int = 0):
    """`build(*arguments)` with weights from `seed`, the global generator left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(40, 30, 3), (25, 60, 4), (300, 20, 1)])
@pytest.mark.parametrize("norm", ["spectral", "equalized", "pixel", "none", "batch"])
def test_each_norm_has_its_weight_of_hes_deviation_times_its_gain(
    norm, inputs, outputs, kernel, gain
) -> None:
    layer = seeded(weight_of, norm, inputs, outputs, kernel, gain)
    weight = layer()
    assert weight.shape == (outputs, inputs, kernel, kernel)
    scale = gain / math.sqrt(inputs * kernel * kernel)
    if norm == "spectral":
        assert type(layer) is SpectralWeight
    elif norm in ("equalized", "pixel"):
        assert type(layer) is EqualizedWeight
        torch.testing.assert_close(weight, layer.weight * scale, rtol=1e-6, atol=0)
        assert layer.weight.std().item() == pytest.approx(1.0, rel=0.05)
        assert abs(layer.weight.mean().item()) < 0.05
    else:
        assert type(layer) is PlainWeight
        assert weight is layer.weight
        assert weight.std().item() == pytest.approx(scale, rel=0.05)


def test_hes_gain_of_a_leaky_relu_is_the_default() -> None:
    for norm in ("equalized", "none"):
        usual, asked = (seeded(weight_of, norm, 4, 5, 3, *gain)() for gain in ((), (math.sqrt(2),)))
        assert torch.equal(usual, asked)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_matrix_of_a_weight_has_a_row_for_each_output(layout) -> None:
    weight = randn(5, 3, 2, 4).to(memory_format=layout)
    matrix = matrix_of(weight)
    assert matrix.shape == (5, 24)
    for o in range(5):
        expected = [weight[o, i, h, w] for h in range(2) for w in range(4) for i in range(3)]
        assert matrix[o].tolist() == [x.item() for x in expected]


@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(5, 7, 3), (6, 2, 4), (3, 1, 3)])
def test_sigma_becomes_the_largest_singular_value(inputs, outputs, kernel) -> None:
    layer = seeded(weight_of, "spectral", inputs, outputs, kernel)
    for _ in range(500):
        layer.iterate()
    sigma = torch.linalg.matrix_norm(layer.weight.detach().double().flatten(1), 2)
    weight = layer()
    assert weight.shape == (outputs, inputs, kernel, kernel)
    torch.testing.assert_close(weight.double(), layer.weight.double() / sigma, rtol=1e-5, atol=1e-7)
    norm = torch.linalg.matrix_norm(weight.detach().flatten(1), 2).item()
    assert norm == pytest.approx(1.0, rel=1e-5)


def test_a_new_spectral_weight_is_nearly_normal_already() -> None:
    """A sigma of random vectors would be far too small, and the first step would explode."""
    norms = []
    for seed in range(5):
        weight = seeded(weight_of, "spectral", 16, 16, 3, seed=seed)()
        norms.append(torch.linalg.matrix_norm(weight.detach().flatten(1), 2).item())
    assert all(0.999 < norm < 1.1 for norm in norms), norms


def test_one_iteration_is_one_step_of_the_power_method() -> None:
    layer = seeded(weight_of, "spectral", 4, 6, 3)
    matrix = matrix_of(layer.weight.detach()).double()
    u = layer.u.double().clone()
    layer.iterate()
    v = matrix.T @ u
    v = v / v.norm()
    torch.testing.assert_close(layer.v.double(), v, rtol=1e-5, atol=1e-6)
    u = matrix @ v
    torch.testing.assert_close(layer.u.double(), u / u.norm(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(512, 512, 3), (256, 512, 4)])
def test_adams_first_step_moves_a_wide_weights_spectral_norm_by_a_tenth(
    inputs, outputs, kernel
) -> None:
    weight = seeded(weight_of, "spectral", inputs, outputs, kernel).weight.detach().flatten(1)
    sigma = torch.linalg.matrix_norm(weight, 2)
    step = torch.linalg.matrix_norm(torch.full_like(weight, 1e-3), 2)  # all of one sign
    assert (step / sigma).item() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(16, 8, 3), (64, 32, 1), (48, 48, 3)])
def test_a_narrow_spectral_weight_starts_as_he_et_al(inputs, outputs, kernel) -> None:
    weight = seeded(weight_of, "spectral", inputs, outputs, kernel).weight
    expected = (2 / (inputs * kernel**2)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=5 / weight.numel() ** 0.5)


def test_spectral_vectors_do_not_move_in_use_and_are_saved() -> None:
    layer = seeded(weight_of, "spectral", 4, 6, 3)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    assert {"weight", "u", "v"} <= set(before)
    for mode in (True, False):
        layer.train(mode)()
    assert all(torch.equal(layer.state_dict()[k], v) for k, v in before.items())
    layer.iterate()
    assert not torch.equal(layer.u, before["u"])
    assert not torch.equal(layer.v, before["v"])
    assert torch.equal(layer.weight, before["weight"])


def test_the_gradient_of_a_spectral_weight_passes_through_sigma_but_not_its_vectors() -> None:
    """Miyato et al., eq. 12: d(W / sigma) with sigma = u' W v and u, v constant."""
    layer = seeded(weight_of, "spectral", 3, 4, 3)
    incoming = randn(4, 3, 3, 3, seed=1)
    (actual,) = torch.autograd.grad(layer(), layer.weight, incoming)
    rows = incoming.permute(0, 2, 3, 1).flatten(1)
    matrix = layer.weight.detach().permute(0, 2, 3, 1).flatten(1)
    sigma = layer.u @ matrix @ layer.v
    expected = rows / sigma - (rows * matrix).sum() / sigma**2 * torch.outer(layer.u, layer.v)
    actual = actual.permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def first_layer(
    norm: str, head: str = "gaussian", d: int = 6, outputs: int = 5, **options
) -> LatentToBase:
    config = ModelConfig(arch="residual", latent_dim=d, head=head, generator_norm=norm, **options)
    layer = seeded(LatentToBase, config, outputs)
    converge(layer)
    return layer


@pytest.mark.parametrize(("head", "fan_in"), [("gaussian", 6), ("sphere", 96)])
@pytest.mark.parametrize("norm", ["pixel", "spectral", "none", "batch"])
def test_the_first_layer_is_a_4x4_convolution_of_one_pixel(norm, head, fan_in) -> None:
    """PIONEER counts a convolution's 16 d inputs, for codes on the sphere."""
    layer = first_layer(norm, head)
    latents = randn(3, 6, seed=1)
    pixel = latents[:, :, None, None]
    (weight,) = layer.parameters()
    kernel = opening(weight, norm, fan_in)  # [d, C, 4, 4]
    for expected in (
        F.conv_transpose2d(pixel, kernel),
        F.conv2d(pixel, kernel.transpose(0, 1).flip(2, 3), padding=3),
    ):
        torch.testing.assert_close(layer(latents), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["pixel", "spectral", "none", "batch"])
def test_unit_vectors_of_unit_variance_are_latents_of_a_gaussian_prior(norm) -> None:
    """sqrt(d) z through the layer of a Gaussian's d inputs, with the same weights."""
    latents = F.normalize(randn(3, 6, seed=1))
    expected = first_layer(norm)(6**0.5 * latents)
    actual = first_layer(norm, "sphere", unit_variance=True)(latents)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    as_in_pioneer = first_layer(norm, "sphere")(latents)
    times = {"pixel": 4 * 6**0.5, "spectral": 6**0.5}.get(norm, 1.0)
    torch.testing.assert_close(actual, times * as_in_pioneer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["pixel", "none", "batch"])
def test_latents_of_a_gaussian_prior_give_outputs_of_variance_two(norm) -> None:
    latents = F.normalize(randn(50, 64, seed=1)) * 8
    outputs = first_layer(norm, d=64, outputs=200)(latents)
    assert outputs.var().item() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, torch.tensor(0.3)])
def test_a_blend_and_its_gradients_are_those_of_a_weighted_sum(alpha) -> None:
    old, new = (randn(2, 3, 4, 4, seed=seed).requires_grad_() for seed in (0, 1))
    incoming = randn(2, 3, 4, 4, seed=2)
    blended = blend(old, new, alpha)
    torch.testing.assert_close(blended, (1 - alpha) * old + alpha * new)
    actual = torch.autograd.grad(blended, (old, new), incoming)
    torch.testing.assert_close(actual, ((1 - alpha) * incoming, alpha * incoming))
