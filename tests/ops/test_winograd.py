"""Winograd's convolutions against the direct ones."""

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.nn import functional as F

from pgvae import ops
from pgvae.ops import native, registered, winograd

SHAPES = [  # N, inputs, outputs, height, width
    (1, 1, 1, 4, 4),
    (2, 3, 5, 8, 4),
    (3, 7, 2, 12, 20),
    (1, 16, 24, 16, 16),
]


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return ((actual.double() - expected).norm() / expected.norm()).item()


def direct(x: torch.Tensor, weight: torch.Tensor, up2: bool) -> torch.Tensor:
    return F.conv2d(F.interpolate(x, scale_factor=2) if up2 else x, weight, padding=1)


both = pytest.mark.parametrize("up2", [False, True], ids=["conv3x3", "up2_conv3x3"])


@both
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_equals_the_direct_convolution_in_float64(shape, layout, up2) -> None:
    n, inputs, outputs, height, width = shape
    x, weight = randn(n, inputs, height, width, seed=1), randn(outputs, inputs, 3, 3, seed=2)
    y = winograd.tiled(x.to(memory_format=layout), weight.to(memory_format=layout), up2)
    assert relative_error(y, direct(x, weight, up2)) < 1e-10


@both
@pytest.mark.parametrize("shape", [*SHAPES, (2, 256, 256, 8, 8)])
def test_float32_error_is_small(shape, up2) -> None:
    n, inputs, outputs, height, width = shape
    x = randn(n, inputs, height, width, seed=1, dtype=torch.float32)
    weight = randn(outputs, inputs, 3, 3, seed=2, dtype=torch.float32)
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
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_its_gradients_are_those_of_the_direct_convolution(dtype, tolerance, up2) -> None:
    x, weight = randn(2, 6, 8, 12, seed=1), randn(5, 6, 3, 3, seed=2)
    scale = 2 if up2 else 1
    incoming = randn(2, 5, scale * 12, scale * 8, seed=3).transpose(2, 3)  # not contiguous
    inputs = [x.requires_grad_(), weight.requires_grad_()]
    expected = torch.autograd.grad(direct(x, weight, up2), inputs, incoming)
    typed = [t.detach().to(dtype).requires_grad_() for t in inputs]
    actual = torch.autograd.grad(winograd.tiled(*typed, up2), typed, incoming.to(dtype))
    for a, b in zip(actual, expected, strict=True):
        assert relative_error(a, b) < tolerance


@both
def test_it_differentiates_twice(up2) -> None:
    x, weight = randn(1, 2, 4, 4, seed=1), randn(1, 2, 3, 3, seed=2)
    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert gradgradcheck(lambda x, w: winograd.tiled(x, w, up2), inputs, fast_mode=True)


@both
@pytest.mark.parametrize("channels", [1, 7, 8, 19, 40])
def test_the_transforms_are_those_of_the_plain_kernels(channels, up2) -> None:
    """The native kernels by their registered ops; the plain ones by the key they stand behind."""
    key = torch._C._parse_dispatch_key("CompositeExplicitAutograd")
    plain = torch._C.DispatchKeySet(key)
    x = randn(2, channels, 8, 12, seed=1)
    coefficients = registered.winograd_input(x, up2)
    expected = torch.ops.pgvae.winograd_input.default.redispatch(plain, x, up2)
    torch.testing.assert_close(coefficients, expected)
    size = (2, 16, 24) if up2 else (2, 8, 12)
    image = registered.winograd_output(coefficients, *size, up2)
    expected = torch.ops.pgvae.winograd_output.default.redispatch(plain, coefficients, *size, up2)
    torch.testing.assert_close(image, expected)
    assert image.stride() == expected.stride()


@both
def test_each_transform_passes_opcheck(up2) -> None:
    x = randn(2, 3, 8, 8, seed=1).requires_grad_()
    torch.library.opcheck(torch.ops.pgvae.winograd_input.default, (x, up2))
    coefficients = registered.winograd_input(x.detach(), up2).requires_grad_()
    size = (2, 16, 16) if up2 else (2, 8, 8)
    torch.library.opcheck(torch.ops.pgvae.winograd_output.default, (coefficients, *size, up2))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: registered.winograd_input(torch.zeros(1, 4, 6, 8), False),
        lambda: registered.winograd_input(torch.zeros(4, 8, 8), False),
        lambda: registered.winograd_input(torch.zeros(1, 4, 8, 8).bfloat16(), False),
        lambda: registered.winograd_output(torch.zeros(36, 3, 4), 1, 8, 8, False),
        lambda: registered.winograd_output(torch.zeros(35, 4, 4), 1, 8, 8, False),
        lambda: registered.winograd_output(torch.zeros(100, 4, 4), 1, 12, 16, True),
    ],
)
@pytest.mark.native
def test_what_does_not_tile_is_refused(wrong) -> None:
    if native.why_not(torch.zeros(1)):
        pytest.skip(native.why_not(torch.zeros(1)))
    with pytest.raises(RuntimeError):
        wrong()


def test_it_pays_off_for_a_wide_float32_layer() -> None:
    assert winograd.pays_off(torch.zeros(2, 512, 16, 16), torch.zeros(512, 512, 3, 3), False)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(2, 16, 16, 16), torch.zeros(512, 16, 3, 3)),
        (torch.zeros(2, 512, 16, 16), torch.zeros(16, 512, 3, 3)),
        (torch.zeros(2, 512, 4, 4), torch.zeros(512, 512, 3, 3)),
        (torch.zeros(2, 512, 10, 16), torch.zeros(512, 512, 3, 3)),
        (torch.zeros(2, 512, 16, 10), torch.zeros(512, 512, 3, 3)),
        (torch.zeros(2, 512, 16, 16).bfloat16(), torch.zeros(512, 512, 3, 3).bfloat16()),
        (torch.zeros(2, 512, 16, 16).double(), torch.zeros(512, 512, 3, 3).double()),
        (
            torch.zeros(2, 512, 16, 16, device="meta"),
            torch.zeros(512, 512, 3, 3, device="meta"),
        ),
    ],
    ids=["few in", "few out", "4 px", "height 10", "width 10", "bf16", "fp64", "not a CPU"],
)
def test_it_does_not_pay_off_for(x, weight) -> None:
    assert not winograd.pays_off(x, weight, up2=False)


def test_under_bf16_autocast_a_wide_layer_runs_in_bf16() -> None:
    x, weight = torch.ones(1, 256, 8, 8), torch.ones(256, 256, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.conv3x3(x, weight).dtype == torch.bfloat16


def test_the_public_op_is_right_for_a_wide_layer() -> None:
    x = randn(2, 256, 8, 8, seed=1, dtype=torch.float32)
    weight = randn(256, 256, 3, 3, seed=2, dtype=torch.float32)
    expected = F.conv2d(x.double(), weight.double(), padding=1)
    assert relative_error(ops.conv3x3(x, weight), expected) < 1e-5
    assert relative_error(ops.conv3x3(x, weight, impl="reference"), expected) < 1e-6


def test_upsampling_pays_off_from_a_larger_side_on() -> None:
    weight = torch.zeros(512, 512, 3, 3)
    assert not winograd.pays_off(torch.zeros(2, 512, 8, 8), weight, up2=True)
    assert winograd.pays_off(torch.zeros(2, 512, 16, 16), weight, up2=True)
