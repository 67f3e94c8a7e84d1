"""Weights that are held: the same results, with what convolutions make of them made once."""

import pytest
import torch

from pgvae import ops
from pgvae.ops import native, phases, winograd
from pgvae.ops.held import hold, made_of


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(
    ("op", "shape", "side", "maker"),
    [
        (ops.conv3x3, (128, 160), 32, "winograd_filters"),
        (ops.up2_conv3x3, (160, 160), 32, "winograd_filters"),
        (ops.up2_conv3x3, (1024, 160), 8, "_folded"),
    ],
)
def test_a_convolution_of_a_held_weight_is_the_same_and_makes_it_ready_once(
    op, shape, side, maker, monkeypatch
):
    if not native.is_loaded(torch.empty(0)):
        pytest.skip("needs the native ops")
    x, weight, calls = rand(1, shape[1], side, side), rand(*shape, 3, 3), []
    expected = op(x, weight)
    module = phases if maker == "_folded" else winograd
    first = getattr(module, maker)
    monkeypatch.setattr(module, maker, lambda *given: calls.append(1) or first(*given))
    kept = hold(weight.clone())
    with torch.inference_mode():
        assert torch.equal(op(x, kept), expected)
    assert torch.equal(op(x, kept), expected)
    assert len(calls) == 1
    again = x.clone().requires_grad_()  # though it was made in inference mode
    op(again, kept).sum().backward()
    op(x.requires_grad_(), weight).sum().backward()
    assert torch.equal(again.grad, x.grad)


def test_each_thing_that_is_made_has_its_name():
    weight = hold(torch.ones(2))
    assert made_of(weight, "a", lambda: 1) == made_of(weight, "a", lambda: 2) == 1
    assert made_of(weight, "b", lambda: 2) == 2
    assert made_of(torch.ones(2), "a", lambda: 3) == 3
