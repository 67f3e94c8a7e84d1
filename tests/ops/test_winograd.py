"""Winograd's convolutions against the direct ones."""

import pytest
import torch
from torch.nn import functional as F

from pgvae import ops
from pgvae.ops import native, registered, winograd


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return ((actual.double() - expected).norm() / expected.norm()).item()


def direct(x: torch.Tensor, weight: torch.Tensor, up2: bool) -> torch.Tensor:
    return F.conv2d(F.interpolate(x, scale_factor=2) if up2 else x, weight, padding=1)


NARROW = torch.ops.pgvae.winograd_conv3x3
OF_INPUT, OF_WEIGHT = (
    torch.ops.pgvae.winograd_conv3x3_input,
    torch.ops.pgvae.winograd_conv3x3_weight,
)
both = pytest.mark.parametrize("up2", [False, True], ids=["conv3x3", "up2_conv3x3"])


@both
@pytest.mark.native
def test_float32_error_is_small_in_a_wide_layer(up2) -> None:
    x = randn(2, 256, 8, 8, seed=1, dtype=torch.float32)
    weight = randn(256, 256, 3, 3, seed=2, dtype=torch.float32)
    y = winograd.tiled(x, weight, up2)
    assert y.dtype == torch.float32
    assert relative_error(y, direct(x.double(), weight.double(), up2)) < 1e-5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_impulse_gives_the_flipped_kernel(layout) -> None:
    """Cross-correlation, as torch has it: y[i, j] = sum x[i + a - 1, j + b - 1] w[a, b]."""
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    x[0, 0, 4, 3] = 1
    weight = torch.arange(1.0, 10.0, dtype=torch.float64).view(1, 1, 3, 3)
    y = winograd.tiled(x.to(memory_format=layout), weight, up2=False)
    expected = torch.zeros(8, 8, dtype=torch.float64)
    expected[3:6, 2:5] = weight[0, 0].flip(0, 1)
    torch.testing.assert_close(y[0, 0], expected, rtol=0, atol=1e-12)


@both
def test_each_transform_passes_opcheck(up2) -> None:
    x = randn(2, 3, 8, 8, seed=1).requires_grad_()
    torch.library.opcheck(torch.ops.pgvae.winograd_input.default, (x, up2))
    coefficients = registered.winograd_input(x.detach(), up2).requires_grad_()
    size = (2, 16, 16) if up2 else (2, 8, 8)
    torch.library.opcheck(torch.ops.pgvae.winograd_output.default, (coefficients, *size, up2))
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = randn(20, 19, 3, 3, seed=2).to(memory_format=layout).requires_grad_()
        torch.library.opcheck(torch.ops.pgvae.winograd_filters.default, (weight, up2))


@both
@pytest.mark.native
def test_filters_and_their_gradient_are_each_others_transpose(up2) -> None:
    """<F w, f> = <w, F' f>, and F' is F's gradient, at sizes that fill no vector or block."""
    weight = randn(37, 21, 3, 3, seed=1).requires_grad_()
    filters = registered.winograd_filters(weight, up2)
    given = randn(*filters.shape, seed=2)
    (gradient,) = torch.autograd.grad(filters, weight, given)
    torch.testing.assert_close((filters * given).sum(), (weight * gradient).sum())


@both
@pytest.mark.native
def test_the_op_for_narrow_layers_and_its_gradients_pass_opcheck(up2) -> None:
    x, weight = randn(2, 16, 8, 8, seed=1), randn(32, 16, 3, 3, seed=2)
    g = randn(2, 32, 16, 16, seed=3) if up2 else randn(2, 32, 8, 8, seed=3)
    pairs = {NARROW: (x, weight), OF_INPUT: (g, weight), OF_WEIGHT: (x, g)}
    for op, pair in pairs.items():
        torch.library.opcheck(op.default, (*(t.requires_grad_() for t in pair), up2))


@both
@pytest.mark.native
def test_second_derivatives_of_a_narrow_layer_are_those_of_differences(up2) -> None:
    x, weight = randn(1, 16, 4, 4, seed=1), randn(16, 16, 3, 3, seed=2)
    x.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda *pair: NARROW(*pair, up2), (x, weight), fast_mode=True
    )


@both
@pytest.mark.parametrize("inputs", [32, 128, 144])
@pytest.mark.parametrize("size", [(3, 4), (4, 2), (6, 8), (12, 16), (16, 8), (4, 8)])
def test_layers_whose_sides_differ_and_their_gradients_are_the_direct_ones(up2, inputs, size):
    """The whole dispatch: sides that do not tile go another way."""
    count = 1 if inputs < 144 else 16  # enough tiles for the wide way
    x = randn(count, inputs, *size, seed=1).requires_grad_()
    weight = randn(inputs, inputs, 3, 3, seed=2).requires_grad_()
    expected = direct(x, weight, up2)
    g = randn(*expected.shape, seed=3)
    expected = [expected, *torch.autograd.grad(expected, (x, weight), g)]
    single = [tensor.detach().float().requires_grad_() for tensor in (x, weight)]
    y = (ops.up2_conv3x3 if up2 else ops.conv3x3)(*single)
    found = [y, *torch.autograd.grad(y, single, g.float())]
    assert all(relative_error(*pair) < 2e-5 for pair in zip(found, expected, strict=True))


@both
@pytest.mark.native
def test_a_narrow_layer_repeats_bit_for_bit_whatever_the_threads(up2) -> None:
    x = randn(8, 64, 32, 32, seed=1, dtype=torch.float32)
    weight = randn(64, 64, 3, 3, seed=2, dtype=torch.float32).requires_grad_()
    x.requires_grad_()
    found = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        y = NARROW(x, weight, up2)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, weight))))
    torch.set_num_threads(threads)
    assert all(
        torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True)
    )


def test_narrow_layers_are_given_to_their_op() -> None:
    weight = torch.zeros(64, 32, 3, 3)
    assert winograd.narrow(torch.zeros(1, 32, 4, 4), weight)
    assert winograd.narrow(torch.zeros(1, 128, 4, 4), torch.zeros(128, 128, 3, 3))
    for x, other in (
        (torch.zeros(1, 32, 6, 4), weight),
        (torch.zeros(0, 32, 4, 4), weight),
        (torch.zeros(1, 32, 4, 4).double(), weight.double()),
        (torch.zeros(1, 24, 4, 4), torch.zeros(64, 24, 3, 3)),
        (torch.zeros(1, 144, 4, 4), torch.zeros(64, 144, 3, 3)),
        (torch.zeros(1, 32, 4, 4, device="meta"), weight.to("meta")),
    ):
        assert not winograd.narrow(x, other)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: NARROW(torch.zeros(1, 16, 6, 8), torch.zeros(16, 16, 3, 3), False),
        lambda: NARROW(torch.zeros(1, 8, 8, 8), torch.zeros(16, 8, 3, 3), False),
        lambda: NARROW(torch.zeros(1, 16, 8, 8), torch.zeros(8, 16, 3, 3), False),
        lambda: NARROW(torch.zeros(1, 16, 8, 8), torch.zeros(16, 32, 3, 3), False),
        lambda: NARROW(torch.zeros(1, 16, 8, 8), torch.zeros(16, 16, 3, 3).double(), False),
        lambda: NARROW(torch.zeros(16, 8, 8), torch.zeros(16, 16, 3, 3), False),
        lambda: OF_INPUT(torch.zeros(1, 16, 12, 8), torch.zeros(16, 16, 3, 3), True),
        lambda: OF_INPUT(torch.zeros(1, 32, 8, 8), torch.zeros(16, 32, 3, 3), True),
        lambda: OF_WEIGHT(torch.zeros(1, 16, 8, 8), torch.zeros(1, 16, 8, 8), True),
        lambda: OF_WEIGHT(torch.zeros(2, 16, 8, 8), torch.zeros(1, 16, 8, 8), False),
        lambda: registered.winograd_input(torch.zeros(1, 4, 6, 8), False),
        lambda: registered.winograd_input(torch.zeros(4, 8, 8), False),
        lambda: registered.winograd_input(torch.zeros(1, 4, 8, 8).bfloat16(), False),
        lambda: registered.winograd_output(torch.zeros(36, 3, 4), 1, 8, 8, False),
        lambda: registered.winograd_output(torch.zeros(35, 4, 4), 1, 8, 8, False),
        lambda: registered.winograd_output(torch.zeros(100, 4, 4), 1, 12, 16, True),
        lambda: registered.winograd_filters(torch.zeros(4, 4, 1, 1), False),
        lambda: registered.winograd_filters(torch.zeros(4, 4, 3, 3).bfloat16(), False),
        lambda: torch.ops.pgvae.winograd_filters_backward(torch.zeros(36, 4, 4), True),
    ],
)
@pytest.mark.native
def test_what_does_not_tile_is_refused(wrong) -> None:
    if native.why_not(torch.zeros(1)):
        pytest.skip(native.why_not(torch.zeros(1)))
    with pytest.raises(RuntimeError):
        wrong()


@pytest.mark.parametrize("shape", [(64, 512, 4, 4), (16, 512, 8, 8), (1, 512, 32, 32)])
def test_it_pays_off_for_64_tiles_of_a_wide_float32_layer(shape) -> None:
    assert winograd.pays_off(torch.zeros(shape), torch.zeros(512, 512, 3, 3))


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(4, 16, 16, 16), torch.zeros(512, 16, 3, 3)),
        (torch.zeros(4, 512, 16, 16), torch.zeros(16, 512, 3, 3)),
        (torch.zeros(63, 512, 4, 4), torch.zeros(512, 512, 3, 3)),
        (torch.zeros(4, 512, 10, 16), torch.zeros(512, 512, 3, 3)),
        (torch.zeros(4, 512, 16, 10), torch.zeros(512, 512, 3, 3)),
        (torch.zeros(4, 512, 16, 16).bfloat16(), torch.zeros(512, 512, 3, 3).bfloat16()),
        (torch.zeros(4, 512, 16, 16).double(), torch.zeros(512, 512, 3, 3).double()),
        (
            torch.zeros(4, 512, 16, 16, device="meta"),
            torch.zeros(512, 512, 3, 3, device="meta"),
        ),
    ],
    ids=["few in", "few out", "63 tiles", "height 10", "width 10", "bf16", "fp64", "not a CPU"],
)
def test_it_does_not_pay_off_for(x, weight) -> None:
    assert not winograd.pays_off(x, weight)


def test_under_bf16_autocast_a_wide_layer_runs_in_bf16() -> None:
    x, weight = torch.ones(16, 256, 8, 8), torch.ones(256, 256, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.conv3x3(x, weight).dtype == torch.bfloat16


def test_the_public_op_is_right_for_a_wide_layer() -> None:
    x = randn(16, 256, 8, 8, seed=1, dtype=torch.float32)
    weight = randn(256, 256, 3, 3, seed=2, dtype=torch.float32)
    expected = F.conv2d(x.double(), weight.double(), padding=1)
    assert relative_error(ops.conv3x3(x, weight), expected) < 1e-5
    assert relative_error(ops.conv3x3(x, weight, impl="reference"), expected) < 1e-6


def test_without_a_library_a_wide_layer_is_pytorchs(monkeypatch) -> None:
    x, weight = torch.ones(1, 256, 32, 32), torch.ones(256, 256, 3, 3)
    monkeypatch.setitem(native._PROBLEMS, "cpu", "left out by the test")
    monkeypatch.delattr(winograd, "tiled")
    assert torch.equal(ops.conv3x3(x, weight), F.conv2d(x, weight, padding=1))
    assert ops.up2_conv3x3(x, weight).shape == (1, 256, 64, 64)
