"""The KL divergences against closed forms and estimates, and which implementation serves."""

import math

import numpy as np
import pytest
import torch

from pgvae import ops
from pgvae.ops import native
from tests.ops.cases import OPS, why_not
from tests.ops.inputs import randn

with_native = pytest.mark.skipif(bool(why_not("cpu")), reason=f"no kernels: {why_not('cpu')}")
both = pytest.mark.parametrize(
    "impl", ["reference", pytest.param("native", marks=[pytest.mark.native, with_native])]
)


def normal_kl(mean: np.ndarray, var: np.ndarray) -> float:
    """KL(N(m, v) || N(0, 1)) summed: log(1/s) + (v + m^2) / 2 - 1/2 (textbook form)."""
    return float(np.sum(-0.5 * np.log(var) + (var + mean**2) / 2 - 0.5))


@both
def test_moment_kl_of_exact_moments_is_the_closed_form_of_a_gaussian(impl) -> None:
    mean, std = np.array([0.5, -2.0, 0.0]), np.array([0.1, 3.0, 1.0])
    z = torch.tensor(np.stack([mean - std, mean + std]))
    assert ops.moment_kl(z, impl=impl).item() == pytest.approx(normal_kl(mean, std**2), rel=1e-12)


@both
def test_moment_kl_is_zero_only_at_the_standard_moments(impl) -> None:
    z = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert ops.moment_kl(z, impl=impl).item() == pytest.approx(0.0, abs=1e-12)
    assert ops.moment_kl(z * 1.1, impl=impl).item() > 1e-3
    assert ops.moment_kl(z + 0.1, impl=impl).item() > 1e-3


@both
def test_moment_kl_of_uniform_codes_on_the_sphere_is_2_62_nats_per_dimension(impl) -> None:
    d = 512
    z = torch.full((1, d), d**-0.5, dtype=torch.float64)
    per_dimension = ops.moment_kl(torch.cat([z, -z]), impl=impl).item() / d
    assert per_dimension == pytest.approx((1 - d + d * math.log(d)) / (2 * d), rel=1e-12)
    assert round(per_dimension, 2) == 2.62


@both
def test_gaussian_kl_is_what_monte_carlo_estimates(impl) -> None:
    mu, logvar = torch.tensor([[0.7, -0.4]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    noise = randn(400_000, 2, seed=1)
    z, kl = ops.gaussian_kl_reparam(mu.expand_as(noise), logvar.expand_as(noise), noise, impl=impl)
    log_q = torch.distributions.Normal(mu, (logvar / 2).exp()).log_prob(z).sum(1)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    draws = log_q - log_p
    error = draws.std().item() / math.sqrt(len(draws))
    assert abs(draws.mean().item() - kl[0].item()) < 4 * error
    assert error < 0.01 * kl[0].item()


@both
def test_gaussian_kl_is_zero_for_the_prior_and_never_negative(impl) -> None:
    zero = torch.zeros(3, 4, dtype=torch.float64)
    assert ops.gaussian_kl_reparam(zero, zero, zero, impl=impl)[1].tolist() == [0.0] * 3
    mu, logvar = randn(500, 4, seed=1) * 0.01, randn(500, 4, seed=2) * 0.01
    assert (ops.gaussian_kl_reparam(mu, logvar, mu, impl=impl)[1] > 0).all()


# --- how an implementation is chosen

PUBLIC = [name for name in ops.status() if hasattr(ops, name)]


def arguments(name: str, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Small inputs of a public op."""
    name = name if name in OPS else "norm_act"
    return OPS[name].make(OPS[name].small, dtype, "contiguous", "cpu")


@pytest.mark.parametrize("name", PUBLIC)
def test_without_a_library_native_raises_and_auto_goes_on(name, monkeypatch) -> None:
    monkeypatch.setitem(native._PROBLEMS, "cpu", "left out by the test")
    with pytest.raises(RuntimeError, match="no native kernel here: left out by the test"):
        getattr(ops, name)(*arguments(name), impl="native")
    auto, reference = (getattr(ops, name)(*arguments(name), impl=i) for i in ("auto", "reference"))
    if name == "moments":
        auto, reference = auto.m2, reference.m2
    torch.testing.assert_close(auto, reference, rtol=1e-12, atol=1e-12)
    assert "not on CPU (left out by the test)" in ops.status()[name]


@pytest.mark.parametrize("name", PUBLIC)
def test_native_float16_is_refused_and_says_why(name) -> None:
    with pytest.raises(RuntimeError, match="float16" if not why_not("cpu") else "no native"):
        getattr(ops, name)(*arguments(name, torch.float16), impl="native")


@pytest.mark.parametrize("name", PUBLIC)
def test_an_implementation_nobody_has_is_a_value_error(name) -> None:
    with pytest.raises(ValueError, match="fastest"):
        getattr(ops, name)(*arguments(name), impl="fastest")
    with pytest.raises(ValueError, match="fastest"), ops.using("fastest"):
        pass


def test_status_names_every_op_and_says_what_runs() -> None:
    assert len(PUBLIC) == len(ops.status()) == 9
    on_cpu = not why_not("cpu")
    for phrase in ops.status().values():
        assert phrase.startswith("native on CPU" if on_cpu else "not on CPU")
        assert "CUDA" in phrase


def took_native() -> bool:
    """Whether "auto" runs the native kernel now: its node of the graph is another."""
    x = torch.ones(1, 2, 1, 1, requires_grad=True)
    name = ops.bias_act(x, torch.zeros(2)).grad_fn.name()
    assert ("Differentiable" in name) != ("LeakyRelu" in name), name
    return "Differentiable" in name


@pytest.mark.native
@with_native
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
@with_native
def test_using_ends_when_its_block_raises() -> None:
    def block() -> None:
        with ops.using("reference"):
            assert not took_native()
            raise KeyError

    with pytest.raises(KeyError):
        block()
    assert took_native()


@pytest.mark.native
@with_native
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


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("count", [0, 1])
def test_the_kl_of_fewer_than_two_samples_is_refused(count, impl) -> None:
    with pytest.raises(ValueError, match=r"two|2"):
        ops.moment_kl(torch.randn(count, 8), impl=impl)
