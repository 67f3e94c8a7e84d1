"""Derivatives of the registered ops by finite differences, twice; opcheck; torch.compile."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests.ops.cases import OPS, as_tuple, on_each_device
from tests.ops.equations import SLOPE
from tests.ops.inputs import laid_out, randn

pgvae = torch.ops.pgvae
LAYOUTS = ["contiguous", "channels_last"]


def raw_pixel_norm(norm_first: bool) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Both outputs, y and 1 / sqrt(mean square), which have derivatives of their own."""
    return lambda x, bias: pgvae.bias_act_pixel_norm(x, bias, norm_first, SLOPE, 1e-8)


def biased(layout: str) -> list[Tensor]:
    return small("bias_act", layout)


def small(name: str, layout: str) -> list[Tensor]:
    """Few float64 inputs of an op, of both signs, which steps of 1e-6 take over no kink."""
    op = OPS[name]
    layout = layout if layout == "contiguous" or not op.widens else "halves"
    return op.make(op.small, torch.float64, layout, "cpu")


FUNCTIONS: dict[str, tuple[Callable[..., object], Callable[[str], list[Tensor]]]] = {
    **{name: (partial(op.run, impl="native"), partial(small, name)) for name, op in OPS.items()},
    "norm_act with rstd": (raw_pixel_norm(True), biased),
    "act_norm with rstd": (raw_pixel_norm(False), biased),
    "deinterleave2": (pgvae.deinterleave2, lambda layout: [laid_out(randn(2, 3, 4, 2), layout)]),
}


@on_each_device
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_finite_differences(device, layout, name) -> None:
    function, make = FUNCTIONS[name]
    inputs = [t.to(device).requires_grad_() for t in make(layout)]
    assert gradcheck(function, inputs)


@on_each_device
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives_are_finite_differences(device, layout, name) -> None:
    function, make = FUNCTIONS[name]
    inputs = [t.to(device).requires_grad_() for t in make(layout)]
    assert gradgradcheck(function, inputs, fast_mode=len(inputs[-1].shape) == 4)


def second_derivatives(
    function: Callable[..., object], inputs: list[Tensor], create_graph: bool
) -> list[Tensor]:
    """Of all inputs and incoming gradients, by random directions for the first derivatives."""
    inputs = [t.clone().requires_grad_() for t in inputs]
    outputs = as_tuple(function(*inputs))
    where = inputs[0].device
    gs = [
        randn(*out.shape, seed=20 + i).to(where).requires_grad_() for i, out in enumerate(outputs)
    ]
    first = torch.autograd.grad(outputs, inputs, gs, create_graph=True)
    total = sum((g * randn(*g.shape, seed=30 + i).to(where)).sum() for i, g in enumerate(first))
    second = torch.autograd.grad(
        total, [*gs, *inputs], create_graph=create_graph, materialize_grads=True
    )
    return [t.detach().cpu() for t in second]


@on_each_device
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", OPS)
def test_second_derivatives_are_those_of_the_equation(device, name, create_graph) -> None:
    """To 1e-11: finite differences would not see a slope that is float32's 0.2."""
    op = OPS[name]
    inputs = small(name, "contiguous")
    expected = second_derivatives(op.truth, inputs, create_graph)
    run, inputs = partial(op.run, impl="native"), [t.to(device) for t in inputs]
    actual = second_derivatives(run, inputs, create_graph)
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert (a - e).norm() <= 1e-11 * e.norm() + 1e-14, i


# --- opcheck


def fresh(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.detach().requires_grad_() for t in tensors)


def activation_samples(dtype: torch.dtype, layout: str, count: int, device: str) -> Iterator:
    """(op, arguments) of every registered op on activations [count, 3, 4, 6]."""
    wide = torch.promote_types(dtype, torch.float32)

    def image(c: int, h: int, w: int, seed: int) -> Tensor:
        return laid_out(randn(count, c, h, w, seed=seed).to(device, dtype), layout)

    x, y, odd = image(3, 4, 6, 1), image(3, 4, 6, 2), image(3, 5, 7, 3)
    quarter = image(3, 2, 3, 4)
    bias, rstd = randn(3, seed=5).to(device, wide), randn(count, 1, 4, 6).abs().to(device, wide)
    signs = (quarter.float() * 7).abs().to(torch.uint8) % 16
    alpha = torch.tensor(0.3, dtype=wide, device=device)
    yield pgvae.bias_act, (*fresh(x, bias), SLOPE)
    yield pgvae.bias_act_backward, (*fresh(x, y), SLOPE)
    for norm_first in (True, False):
        yield pgvae.bias_act_pixel_norm, (*fresh(x, bias), norm_first, SLOPE, 1e-8)
        yield pgvae.bias_act_pixel_norm_backward, (*fresh(x, y, rstd), norm_first, SLOPE)
    yield pgvae.bias_act_avg_pool2, (*fresh(odd, bias), SLOPE)
    yield pgvae.bias_act_avg_pool2_backward, (*fresh(quarter), signs, 5, 7, SLOPE)
    yield pgvae.up2_blend, (*fresh(quarter, x), alpha)
    yield pgvae.up2_blend, fresh(quarter, x, alpha)
    yield pgvae.up2_blend_backward, fresh(x, alpha)
    yield pgvae.interleave2, fresh(quarter, quarter + 1, quarter + 2, quarter + 3)
    yield pgvae.deinterleave2, fresh(x)


def latent_samples(dtype: torch.dtype, count: int, device: str) -> Iterator:
    """(op, arguments) of every registered op on latents [count, 3]."""
    z, mu, logvar, noise = (randn(count, 3, seed=s).to(device, dtype) for s in range(4))
    mean, m2 = (randn(3, seed=s).abs().to(device, dtype) for s in (4, 5))
    gkl = torch.tensor(0.7, dtype=dtype, device=device)
    if count:
        yield pgvae.moment_kl, fresh(z)
        yield pgvae.moment_kl_backward, fresh(gkl, mean, m2, z, mean, m2)
        yield pgvae.moment_kl_backward, (*fresh(gkl), None, None, *fresh(z, mean, m2))
    yield pgvae.gaussian_kl_reparam, fresh(mu, logvar, noise)
    of_kl = randn(count).to(device, dtype)
    yield pgvae.gaussian_kl_reparam_backward, fresh(z, of_kl, mu, logvar, noise)


QUICK = ("test_schema", "test_autograd_registration", "test_faketensor")


@on_each_device
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [0, 2])
def test_opcheck_finds_schemas_fakes_and_autograd_right(device, layout, count) -> None:
    others = {("contiguous", 2): ["sliced", "transposed"]}  # opcheck cannot copy an empty slice
    layouts = [layout, *others.get((layout, count), [])]
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for each in layouts:
            for op, arguments in activation_samples(dtype, each, count, device):
                torch.library.opcheck(op, arguments, test_utils=QUICK)
        if dtype != torch.bfloat16:
            for op, arguments in latent_samples(dtype, count, device):
                torch.library.opcheck(op, arguments, test_utils=QUICK)


@on_each_device
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_of_activations_agrees_with_aot_dispatch(device, layout) -> None:
    for op, arguments in activation_samples(torch.float32, layout, 2, device):
        torch.library.opcheck(op, arguments, test_utils="test_aot_dispatch_dynamic")


@on_each_device
def test_opcheck_of_latents_agrees_with_aot_dispatch(device) -> None:
    for op, arguments in latent_samples(torch.float32, 4, device):
        torch.library.opcheck(op, arguments, test_utils="test_aot_dispatch_dynamic")


@on_each_device
def test_an_image_of_one_pixel_gets_the_strides_that_the_fake_kernel_promised(device) -> None:
    """A slice of one pixel is dense in no format; its copy is in both, and the result in one."""
    pixel = laid_out(randn(2, 3, 1, 1), "sliced").to(torch.float32)
    pixel = laid_out(pixel.to(device), "sliced")
    torch.library.opcheck(pgvae.interleave2, (pixel,) * 4, test_utils="test_faketensor")


# --- torch.compile


def compiled_equals_eager(name: str, layout: str, backend: str, device: str) -> None:
    """A function around op `name` gives the same values and gradients when compiled."""
    op, make = FUNCTIONS[name]

    def function(*inputs: Tensor) -> Tensor:
        outputs = op(*(1.5 * t for t in inputs))
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return sum((out * out).sum() for out in outputs)

    torch._dynamo.reset()
    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend=backend)):
        inputs = [t.to(device).requires_grad_() for t in make(layout)]
        value = run(*inputs)
        results.append([value, *torch.autograd.grad(value, inputs)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-10, atol=1e-10)


@on_each_device
@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_whole_by_aot_eager_it_gives_the_same(device, name) -> None:
    compiled_equals_eager(name, "channels_last", "aot_eager", device)


@on_each_device
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # Inductor's own
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["norm_act", "bias_act_avg_pool2", "up2_conv3x3", "moment_kl"])
def test_compiled_whole_by_inductor_it_gives_the_same(device, name, layout) -> None:
    compiled_equals_eager(name, layout, "inductor", device)
