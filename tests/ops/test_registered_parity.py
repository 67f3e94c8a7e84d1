"""Every op against its equation in float64: values, gradients, dtypes and strides.

The table is in cases.py: channels from 1 to 520, odd sizes, no samples, five layouts of inputs and
five of incoming gradients, float32, bfloat16 and float64. Native kernels, the reference, what runs
without a library and (in test_kernels.py) CUDA's kernels on an emulator are all held to it.
"""

import json
import subprocess
import sys

import pytest
import torch

from pgvae import ops
from pgvae.ops import native, phases, registered
from tests.ops import equations as eq
from tests.ops.cases import (
    ACTIVATIONS,
    DTYPES,
    OPS,
    ROOT,
    assert_dense_as,
    assert_exact,
    check,
    check_parts,
    check_shapes,
    on_each_device,
)
from tests.ops.inputs import images, laid_out, randn

NAMED = [
    (name, layout, dtype)
    for name, op in OPS.items()
    for layout in op.layouts()
    for dtype in op.dtypes
]
each_case = pytest.mark.parametrize(
    ("name", "layout", "dtype"), NAMED, ids=lambda value: str(value).removeprefix("torch.")
)


@pytest.fixture(autouse=True)
def _exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 on CUDA are not to be done in TF32."""
    if torch.cuda.is_available():
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@on_each_device
@each_case
def test_native_values_and_gradients_are_those_of_the_equation(device, dtype, name, layout):
    check_shapes(name, dtype, layout, device)


@each_case
def test_the_reference_is_the_equation(dtype, name, layout):
    if "reference" not in OPS[name].impls:
        pytest.skip("a part of others")
    check_shapes(name, dtype, layout, impl="reference")


def test_without_a_library_values_and_gradients_are_those_of_the_equation():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.ops.kernels"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    kernels = {op.kernel for op in OPS.values() if not op.is_for_cpus}
    assert found == dict.fromkeys(kernels, "")


@on_each_device
@pytest.mark.parametrize("name", OPS)
def test_every_part_of_the_result_may_be_used_alone(device, name):
    check_parts(name, torch.float64, device)


@on_each_device
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_in_bf16_is_exact_and_gets_a_gradient_in_bf16(device, name, dtype):
    for layout in ("contiguous", "channels_last"):
        inputs = images((3, 48, 7, 4), dtype, layout, device, "bias in bf16")
        assert inputs[1].dtype == torch.bfloat16
        check(name, inputs, "like the output")


@on_each_device
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_bias_of_stride_2_is_taken(device, name):
    x = randn(2, 7, 4, 6, seed=1, dtype=torch.float32).to(device)
    bias = randn(14, seed=2, dtype=torch.float32).to(device)[::2]
    check(name, [x, bias], "like the output")


@on_each_device
def test_the_gradient_of_one_channel_is_as_exact_as_what_cancels_in_it(device):
    """a / |a| hardly depends on a: gx = r g (1 - n^2) is about 0, and its error about 1e-7 r g."""
    for order in ("norm_act", "act_norm"):
        x = randn(2, 1, 3, 4, seed=1, dtype=torch.float32)
        exact, x = x.double().requires_grad_(), x.to(device).requires_grad_()
        y = registered.bias_act_pixel_norm(x, torch.zeros(1, device=device), order)
        (gx,) = torch.autograd.grad(y.sum(), x)
        n = eq.pixel_norm(eq.leaky(exact) if order == "act_norm" else exact, 1e-8)
        y = eq.leaky(n) if order == "norm_act" else n
        (expected,) = torch.autograd.grad(y.sum(), exact)
        assert ((gx.cpu() - expected) * exact).abs().max() < 1e-6  # r is about 1 / |x|


@on_each_device
@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_another_slope_and_eps_are_honoured(device, order, impl):
    x, bias = randn(2, 5, 3, 4, seed=1), randn(5, seed=2)
    ours, u = (x.to(device), bias.to(device)), eq.biased(x, bias)
    y = ops.bias_act_pixel_norm(*ours, order, slope=0.5, eps=0.3, impl=impl)
    if order == "norm_act":
        assert_exact(y, eq.leaky(eq.pixel_norm(u, 0.3), 0.5), order)
    else:
        assert_exact(y, eq.pixel_norm(eq.leaky(u, 0.5), 0.3), order)
    assert_exact(ops.bias_act(*ours, slope=0.5, impl=impl), eq.leaky(u, 0.5), "bias_act")
    y = ops.bias_act_avg_pool2(*ours, slope=0.5, impl=impl)
    assert_exact(y, torch.nn.functional.avg_pool2d(eq.leaky(u, 0.5), 2), "pooled")


@on_each_device
@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_pixel_norm_of_a_black_pixel_is_finite(device, order, impl):
    x = torch.zeros(1, 3, 2, 2, device=device, requires_grad=True)
    y = ops.bias_act_pixel_norm(x, torch.zeros(3, device=device), order, impl=impl)
    y.sum().backward()
    assert y.eq(0).all()
    assert x.grad.isfinite().all()


@on_each_device
@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_blend_takes_alpha_as_a_float_or_as_a_tensor_of_one_number(device, alpha, impl):
    old, new = randn(2, 3, 3, 5, seed=1), randn(2, 3, 6, 10, seed=2)
    expected = eq.up2_blend(old, new, torch.tensor(alpha, dtype=torch.float64))
    for given in (alpha, torch.tensor([alpha], dtype=torch.float64), torch.tensor(alpha)):
        is_float32 = isinstance(given, torch.Tensor) and given.dtype == torch.float32
        if is_float32 and impl == "reference":
            continue  # lerp wants the dtype of the images
        y = ops.up2_blend(old.to(device), new.to(device), given, impl=impl)
        assert_exact(y, expected, given, 1e-7 if is_float32 else 1e-12)  # float32's 0.3


@on_each_device
def test_alpha_of_one_element_gets_a_gradient_of_its_own_shape(device):
    old, new = randn(1, 2, 2, 3, seed=1).to(device), randn(1, 2, 4, 6, seed=2).to(device)
    alpha = torch.tensor([0.3], dtype=torch.float64, device=device, requires_grad=True)
    (g,) = torch.autograd.grad(registered.up2_blend(old, new, alpha).sum(), alpha)
    assert g.shape == (1,)
    assert_exact(g, (new - eq.up2(old)).sum().view(1).cpu(), "alpha")


@on_each_device
@pytest.mark.parametrize("layout", OPS["interleave2"].layouts())
def test_deinterleave2_undoes_interleave2(device, layout):
    """Numbers are only moved: equal to the last bit, of any dtype."""
    for dtype in DTYPES:
        for shape in OPS["interleave2"].shapes:
            whole = randn(*shape[:2], 2 * shape[2], 2 * shape[3], seed=1).to(device, dtype)
            given = laid_out(whole, layout)
            parts = torch.ops.pgvae.deinterleave2(given)
            for k, part in enumerate(parts):
                assert torch.equal(part, whole[:, :, k // 2 :: 2, k % 2 :: 2]), shape
                assert_dense_as(part, given, shape)
            assert torch.equal(torch.ops.pgvae.interleave2(*parts), whole)


@on_each_device
def test_images_of_different_layouts_are_taken(device):
    whole = randn(2, 3, 6, 8).to(device)
    parts = [whole[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)]
    layouts = ("channels_last", "contiguous", "sliced", "transposed")
    parts = [laid_out(part, layout) for part, layout in zip(parts, layouts, strict=True)]
    assert torch.equal(torch.ops.pgvae.interleave2(*parts), whole)
    for layout in layouts:
        new = laid_out(whole, layout)
        for other in ("contiguous", "channels_last"):
            y = registered.up2_blend(laid_out(parts[0], other), new, 0.3)
            assert_dense_as(y, new, (layout, other))


@on_each_device
def test_up2_conv3x3_of_channels_last_is_channels_last(device):
    op = OPS["up2_conv3x3 by phases"]
    y = op.run(*op.make((3, 16, 3, 5), torch.float32, "channels_last", device), impl="native")
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()


@pytest.mark.parametrize("way", [phases.by_phases, phases.transposed], ids=lambda f: f.__name__)
def test_under_autocast_both_ways_of_up2_conv3x3_are_in_bf16(way):
    with torch.autocast("cpu", torch.bfloat16):
        y = way(torch.ones(1, 3, 4, 4).bfloat16(), torch.ones(2, 3, 3, 3))
    assert y.dtype == torch.bfloat16


def test_up2_conv3x3_takes_phases_for_many_weights_alone(monkeypatch):
    taken = []
    for name in ("by_phases", "transposed"):
        monkeypatch.setattr(phases, name, lambda x, w, name=name: taken.append(name))
    phases.up2_conv3x3(torch.zeros(1, 512, 4, 4), torch.zeros(256, 512, 3, 3))
    phases.up2_conv3x3(torch.zeros(1, 256, 4, 4), torch.zeros(256, 256, 3, 3))
    assert taken == ["by_phases", "transposed"]


@on_each_device
def test_every_registered_op_has_a_kernel_of_its_own_on_the_device(device):
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("pgvae::")]
    assert len(names) == 23, names
    if device == "cuda":  # Winograd's transforms are for CPUs
        names = [name for name in names if "winograd" not in name]
    for name in names:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, device.upper()), name


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_a_wrong_slope_would_be_noticed(monkeypatch, impl):
    """A check of the checks: the table has kinks of both signs."""
    if impl == "native" and native.why_not(torch.empty(0)):
        pytest.skip(native.why_not(torch.empty(0)))
    monkeypatch.setattr(eq.leaky, "__defaults__", (0.2001,))
    with pytest.raises(AssertionError):
        check_shapes("bias_act", torch.float32, "contiguous", impl=impl)
