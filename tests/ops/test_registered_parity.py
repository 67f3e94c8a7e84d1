"""The registered ops against their equations in float64: values, gradients, dtypes and strides.

The tables are in cases.py: channels from 1 to 512, odd sizes, no samples, five layouts of inputs
and five of incoming gradients, float32, bfloat16 and float64.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import (
    DTYPES,
    OPS,
    as_tuple,
    assert_exact,
    check,
    check_all_shapes,
    images,
    incoming,
    laid_out,
    leaky,
    on_each_device,
    on_sphere,
    outputs_and_gradients,
    pixel_norm,
    randn,
)

from pgvae import ops
from pgvae.ops import registered

HERE = Path(__file__).parent
NAMED = [(name, layout) for name, op in OPS.items() for layout in op.layouts()]
ACTIVATIONS = ["bias_act", "norm_act", "act_norm", "bias_act_avg_pool2", "up2_conv3x3", "up2_blend"]


@pytest.fixture(autouse=True)
def _exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 on CUDA are not to be done in TF32."""
    if torch.cuda.is_available():
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@on_each_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "layout"), NAMED)
def test_values_and_gradients_are_those_of_the_equation(device, dtype, name, layout) -> None:
    assert check_all_shapes(name, dtype, layout, device) == len(OPS[name].shapes)


@on_each_device
@pytest.mark.parametrize("name", ["bias_act", "norm_act", "act_norm", "bias_act_avg_pool2"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_in_bf16_is_exact_and_gets_a_gradient_in_bf16(device, name, dtype) -> None:
    for layout in ("contiguous", "channels_last"):
        inputs = images((3, 48, 7, 4), dtype, layout, device, "bias in bf16")
        assert inputs[1].dtype == torch.bfloat16
        check(name, inputs, "like the output", (name, dtype, layout))


@on_each_device
@pytest.mark.parametrize("name", ["bias_act", "norm_act", "act_norm", "bias_act_avg_pool2"])
def test_a_bias_of_stride_2_is_taken(device, name) -> None:
    x = randn(2, 7, 4, 6, seed=1, dtype=torch.float32).to(device)
    bias = randn(14, seed=2, dtype=torch.float32).to(device)[::2]
    check(name, [x, bias], "like the output")


@on_each_device
@pytest.mark.parametrize("name", OPS)
def test_every_part_of_the_result_may_be_used_alone(device, name) -> None:
    """Of two outputs one gets no gradient, and of the inputs one alone is differentiated."""
    op = OPS[name]
    shape = (3, 16, 4, 6) if name in ACTIVATIONS else (7, 16)
    inputs = op.make(shape, torch.float64, "contiguous", device)
    exact = [t.detach().cpu() for t in inputs]
    for k in range(len(as_tuple(op.run(*inputs)))):
        for i in range(len(inputs)):
            ours, theirs = inputs[i].detach().requires_grad_(), exact[i].detach().requires_grad_()
            out = as_tuple(op.run(*inputs[:i], ours, *inputs[i + 1 :]))[k]
            expected = as_tuple(op.truth(*exact[:i], theirs, *exact[i + 1 :]))[k]
            if not expected.requires_grad:  # kl does not depend on the noise
                continue
            g = incoming(out.detach(), "like the output", seed=9)
            (actual,) = torch.autograd.grad(out, ours, g)
            (expected,) = torch.autograd.grad(expected, theirs, g.cpu())
            assert_exact(actual, expected, (name, k, i))


@on_each_device
def test_the_gradient_of_one_channel_is_as_exact_as_what_cancels_in_it(device) -> None:
    """a / |a| hardly depends on a: gx = r g (1 - n^2) is about 0, and its error about 1e-7 r g."""
    for order in ("norm_act", "act_norm"):
        x = randn(2, 1, 3, 4, seed=1, dtype=torch.float32)
        exact, x = x.double().requires_grad_(), x.to(device).requires_grad_()
        y = registered.bias_act_pixel_norm(x, torch.zeros(1, device=device), order)
        (gx,) = torch.autograd.grad(y.sum(), x)
        n = pixel_norm(leaky(exact) if order == "act_norm" else exact, 1e-8)
        (expected,) = torch.autograd.grad((leaky(n) if order == "norm_act" else n).sum(), exact)
        assert ((gx.cpu() - expected) * exact).abs().max() < 1e-6  # r is about 1 / |x|


@on_each_device
@pytest.mark.parametrize("order", ["norm_act", "act_norm"])
def test_another_slope_and_eps_are_honoured(device, order) -> None:
    x, bias = randn(2, 5, 3, 4, seed=1), randn(5, seed=2)
    u = x + bias[:, None, None]
    y = registered.bias_act_pixel_norm(x.to(device), bias.to(device), order, slope=0.5, eps=0.3)

    def act(a: torch.Tensor) -> torch.Tensor:
        return torch.maximum(a, 0.5 * a)

    expected = act(pixel_norm(u, 0.3)) if order == "norm_act" else pixel_norm(act(u), 0.3)
    assert_exact(y, expected, order)
    y = registered.bias_act(x.to(device), bias.to(device), slope=0.5)
    assert_exact(y, act(u), "bias_act")
    y = registered.bias_act_avg_pool2(x[..., :2, :].to(device), bias.to(device), slope=0.5)
    assert_exact(y, torch.nn.functional.avg_pool2d(act(u[..., :2, :]), 2), "pooled")


@on_each_device
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_blend_takes_alpha_as_a_float_or_as_a_tensor_of_one_number(device, alpha) -> None:
    old, new = randn(2, 3, 3, 5, seed=1), randn(2, 3, 6, 10, seed=2)
    expected = OPS["up2_blend"].truth(old, new, torch.tensor(alpha, dtype=torch.float64))
    for given in (alpha, torch.tensor(alpha), torch.tensor([alpha], dtype=torch.float64)):
        y = registered.up2_blend(old.to(device), new.to(device), given)
        # A float32 alpha of 0.3 is 1e-8 off.
        close = isinstance(given, torch.Tensor) and given.dtype == torch.float32
        assert_exact(y, expected, given, 1e-7 if close else 1e-12)


@on_each_device
def test_alpha_of_one_element_gets_a_gradient_of_its_own_shape(device) -> None:
    old, new = randn(1, 2, 2, 3, seed=1).to(device), randn(1, 2, 4, 6, seed=2).to(device)
    alpha = torch.tensor([0.3], dtype=torch.float64, device=device, requires_grad=True)
    (g,) = torch.autograd.grad(registered.up2_blend(old, new, alpha).sum(), alpha)
    up = old.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert g.shape == (1,)
    assert_exact(g, (new - up).sum().view(1).cpu(), "alpha")


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 1e-13, 0.0])
def test_latents_of_no_length_are_projected_and_differentiated_as_normalize_does(
    device, dtype, size
) -> None:
    """Norms below 1e-12 are not divided by: neither is their gradient projected."""
    z = randn(5, 3, seed=1).to(dtype)
    z[2] *= size
    check("mean_and_m2_projected", [z.to(device)], "like the output", size)
    assert on_sphere(z)[2].norm() < 1.0001


# --- interleave2, whose numbers are only moved: equal to the last bit


@on_each_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", OPS["bias_act"].layouts())
def test_interleave2_puts_four_images_into_one_and_deinterleave2_undoes_it(
    device, dtype, layout
) -> None:
    for shape in OPS["bias_act"].shapes:
        whole = randn(*shape[:2], 2 * shape[2], 2 * shape[3], seed=1).to(device, dtype)
        parts = [whole[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)]
        inputs = [laid_out(part, layout).requires_grad_() for part in parts]
        out = torch.ops.pgvae.interleave2(*inputs)
        assert torch.equal(out, whole), shape
        assert_dense_as(out, inputs[0], shape)
        found = torch.autograd.grad(out, inputs, laid_out(2 * whole, "transposed"))
        back = torch.ops.pgvae.deinterleave2(laid_out(whole, layout))
        for part, gradient, apart in zip(parts, found, back, strict=True):
            assert torch.equal(gradient, 2 * part), shape
            assert torch.equal(apart, part), shape
            assert_dense_as(apart, laid_out(whole, layout), shape)


@on_each_device
def test_interleave2_takes_images_of_different_layouts(device) -> None:
    whole = randn(2, 3, 6, 8).to(device)
    parts = [whole[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)]
    layouts = ("channels_last", "contiguous", "sliced", "transposed")
    parts = [laid_out(part, layout) for part, layout in zip(parts, layouts, strict=True)]
    assert torch.equal(torch.ops.pgvae.interleave2(*parts), whole)


# --- strides


def assert_dense_as(out: torch.Tensor, x: torch.Tensor, case: object) -> None:
    """`out` is channels_last where `x` is dense in that, else contiguous.

    Of a slice of one pixel or one channel the dense copy is both: then `out` may be either.
    """
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    if not channels_last and (x.shape[1] == 1 or x.shape[2:].numel() == 1):
        channels_last = not out.is_contiguous()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    assert out.is_contiguous(memory_format=memory_format), case


@on_each_device
@pytest.mark.parametrize("name", ["bias_act", "norm_act", "act_norm", "bias_act_avg_pool2"])
@pytest.mark.parametrize("layout", OPS["bias_act"].layouts())
def test_results_and_gradients_are_dense_in_the_inputs_format(device, name, layout) -> None:
    op = OPS[name]
    for shape in op.shapes:
        for kind in ("like the output", "the other format", "a scalar expanded"):
            inputs = op.make(shape, torch.float32, layout, device)
            outputs, gradients, _ = outputs_and_gradients(op, inputs, kind)
            assert_dense_as(outputs[0], inputs[0], shape)
            if outputs[0].shape[2:].numel() > 1:  # one pooled pixel is dense in both formats
                assert_dense_as(gradients[0], inputs[0], shape)


@on_each_device
@pytest.mark.parametrize("layout", OPS["bias_act"].layouts())
def test_a_blend_is_dense_in_the_format_of_the_new_image(device, layout) -> None:
    op = OPS["up2_blend"]
    for shape in op.shapes:
        old, new, alpha = op.make(shape, torch.float32, layout, device)
        for other in (old, laid_out(old, "contiguous"), laid_out(old, "channels_last")):
            y = op.run(other, new, alpha)
            assert_dense_as(y, new, shape)


@on_each_device
def test_up2_conv3x3_of_channels_last_is_channels_last(device) -> None:
    op = OPS["up2_conv3x3"]
    x, weight = op.make((3, 16, 3, 5), torch.float32, "channels_last", device)
    y = op.run(x, weight)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()


@on_each_device
def test_sums_are_dense(device) -> None:
    for name in ("moment_kl", "mean_and_m2", "gaussian_kl_reparam"):
        for layout in ("contiguous", "transposed", "halves"):
            op = OPS[name]
            inputs = op.make((7, 16), torch.float32, layout, device)
            assert all(out.is_contiguous() for out in as_tuple(op.run(*inputs)))


# --- which kernels run


@on_each_device
def test_native_ops_are_the_registered_ones(device) -> None:
    """impl="native" and "auto" give the very bytes of the op registered with torch.library."""
    for name in ("bias_act", "bias_act_pixel_norm", "bias_act_avg_pool2"):
        inputs = images((2, 7, 4, 6), torch.float32, "channels_last", device, "bias")
        expected = getattr(registered, name)(*inputs)
        for impl in ("native", "auto"):
            assert torch.equal(getattr(ops, name)(*inputs, impl=impl), expected)
    z = randn(5, 4, dtype=torch.float32).to(device)
    moments = ops.moments(z, project=True, impl="native")
    mean, m2 = registered.mean_and_m2(z, True)
    assert torch.equal(moments.mean, mean)
    assert torch.equal(moments.m2, m2)
    assert torch.equal(ops.moment_kl(z, impl="native"), registered.moment_kl(z))


@on_each_device
def test_every_registered_op_has_a_kernel_of_its_own_on_the_device(device) -> None:
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("pgvae::")]
    assert len(names) == 18, names
    if device == "cuda":  # Winograd's transforms are for CPUs
        names = [name for name in names if "winograd" not in name]
    for name in names:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, device.upper()), name


PLAIN = """
import torch

def refuse(path):
    raise OSError("left out by the test")

torch.set_num_threads(1)
torch.ops.load_library = refuse
from cases import DTYPES, OPS, check_all_shapes

assert not torch._C._dispatch_has_kernel_for_dispatch_key("pgvae::bias_act", "CPU")
print(sum(
    check_all_shapes(name, dtype, layout, "cpu")
    for name, op in OPS.items() for dtype in DTYPES for layout in op.layouts()
))
"""


def test_the_plain_kernels_are_as_exact_as_the_native_ones() -> None:
    """They serve devices and dtypes that have no native kernel: run here without any library."""
    path = os.pathsep.join([str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLAIN],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(3 * len(op.layouts()) * len(op.shapes) for op in OPS.values())


def test_the_table_has_kinks_of_both_signs() -> None:
    """A check of the checks: with another slope in the equation, parity would not hold."""
    x, bias = images((3, 7, 8, 8), torch.float64, "contiguous", "cpu", "bias")
    wrong = torch.where(x + bias[:, None, None] > 0, 1.0, 0.21) * (x + bias[:, None, None])
    with pytest.raises(AssertionError):
        assert_exact(wrong, leaky(x + bias[:, None, None]), "wrong slope")
