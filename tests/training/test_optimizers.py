"""Muon: by its equations, worked out otherwise; what is left to Adam; what is left out."""

import dataclasses

import numpy as np
import pytest
import torch
from runs import ATTRIBUTES, LABELLED, NO_STORE, FakeStore, tiny_config
from torch import Tensor, nn

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES
from pgvae.request import Request
from pgvae.training.optimizers import Muon, optimizer_of, orthogonal
from pgvae.training.plan import plan
from pgvae.training.state import TrainState

RATE, BETAS = 0.01, (0.9, 0.99)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def networks() -> nn.Sequential:
    """Layers from colours, between features (one taller, one wider than high) and to a number."""
    layers = (nn.Conv2d(3, 5, 1), nn.Conv2d(5, 6, 3), nn.Conv2d(6, 40, 1), nn.Linear(40, 1))
    net = nn.Sequential(*layers)
    for seed, weight in enumerate(net.parameters()):
        weight.data = drawn(*weight.shape, seed=seed, dtype=torch.float32)
    return net


def muon_of(net: nn.Module, kind: str = "muon") -> torch.optim.Adam:
    return optimizer_of(kind, net, torch.tensor(RATE, dtype=torch.float64), BETAS)


def give_gradients(net: nn.Module, seed: int) -> list[Tensor]:
    """A gradient for each parameter; -> copies of them."""
    for index, weight in enumerate(net.parameters()):
        weight.grad = drawn(*weight.shape, seed=100 * seed + index, dtype=torch.float32)
    return [weight.grad.clone() for weight in net.parameters()]


def by_newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """Jordan's iteration as it is published, on the matrix itself, in float64."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


@pytest.mark.parametrize("shape", [(6, 6), (4, 30), (30, 4), (1, 9), (64, 576)])
def test_a_matrix_comes_to_what_the_iteration_on_itself_gives(shape):
    matrix = drawn(*shape)
    wide = matrix.numpy() if shape[0] <= shape[1] else matrix.numpy().T
    expected = by_newton_schulz(wide)
    expected = expected if shape[0] <= shape[1] else expected.T
    np.testing.assert_allclose(orthogonal(matrix).numpy(), expected, rtol=1e-9, atol=1e-11)
    found = orthogonal(matrix.float()).double().numpy()
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("shape", [(8, 8), (5, 70), (70, 5)])
def test_singular_vectors_stay_and_singular_values_come_near_to_one(shape):
    u, _, vh = torch.linalg.svd(drawn(*shape), full_matrices=False)
    values = torch.logspace(0, -2, min(shape), dtype=torch.float64)
    core = u.mT @ orthogonal(u * values @ vh) @ vh.mT
    assert torch.allclose(core, core.diagonal().diag(), atol=1e-9)
    assert ((core.diagonal() > 0.65) & (core.diagonal() < 1.25)).all()


def test_a_stack_is_its_matrices_whatever_their_length_and_zeros_stay_zeros():
    stack = drawn(3, 4, 7) * torch.tensor([1e-12, 1.0, 1e12], dtype=torch.float64)[:, None, None]
    stack[1] = 0
    found = orthogonal(stack)
    assert torch.equal(found[1], torch.zeros_like(found[1]))
    for index in (0, 2):
        expected = orthogonal(stack[index] / stack[index].norm())
        torch.testing.assert_close(found[index], expected, rtol=1e-9, atol=1e-11)


def test_convolutions_between_features_follow_the_equations():
    net = networks()
    optimizer = muon_of(net)
    mine = {1: net[1].weight, 2: net[2].weight}
    before = {i: weight.detach().double().numpy().copy() for i, weight in mine.items()}
    momenta = {i: np.zeros_like(weight) for i, weight in before.items()}
    names = [name for name, _ in net.named_parameters()]
    for seed in range(3):
        given = dict(zip(names, give_gradients(net, seed), strict=True))
        optimizer.step()
        for i, momentum in momenta.items():
            gradient = given[f"{i}.weight"].double().numpy()
            momentum[:] = 0.9 * momentum + 0.1 * gradient
            ahead = 0.9 * momentum + 0.1 * gradient
            # [O, I, K, K] to [O, K K I], the longer side last for the iteration.
            matrix = ahead.transpose(0, 2, 3, 1).reshape(len(ahead), -1)
            tall = matrix.shape[0] > matrix.shape[1]
            turned = by_newton_schulz(matrix.T).T if tall else by_newton_schulz(matrix)
            outputs, inputs, *kernel = ahead.shape
            turned = turned.reshape(outputs, *kernel, inputs).transpose(0, 3, 1, 2)
            move = RATE * max(matrix.shape) ** 0.5 * turned
            assert 0.7 * RATE < np.sqrt((move**2).mean()) < 1.1 * RATE
            before[i] -= move
            np.testing.assert_allclose(mine[i].detach().numpy(), before[i], rtol=0, atol=1e-5)
            kept = optimizer.state[mine[i]]
            assert kept.keys() == {"exp_avg"}
            np.testing.assert_allclose(kept["exp_avg"].numpy(), momentum, rtol=0, atol=1e-6)


def test_colours_biases_and_linear_layers_are_adams_in_every_byte():
    one, other = networks(), networks()
    muon, adam = muon_of(one), muon_of(other, "adam")
    assert type(adam) is torch.optim.Adam
    for seed in range(3):
        give_gradients(one, seed)
        give_gradients(other, seed)
        muon.step()
        adam.step()
    moved = dict(other.named_parameters())
    for name, weight in one.named_parameters():
        assert torch.equal(weight, moved[name]) == (name not in ("1.weight", "2.weight"))


def test_nothing_moves_where_an_update_is_left_out():
    net = networks()
    optimizer = muon_of(net)
    give_gradients(net, 0)
    optimizer.step()
    weights = [weight.detach().clone() for weight in net.parameters()]
    moments = [optimizer.state[p]["exp_avg"].clone() for p in net.parameters()]
    give_gradients(net, 1)
    for weight, value in zip(net.parameters(), (torch.nan, torch.inf) * 4, strict=True):
        weight.grad.flatten()[0] = value
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    for now, before in zip(net.parameters(), weights, strict=True):
        assert torch.equal(now, before)
    for parameter, before in zip(net.parameters(), moments, strict=True):
        assert torch.equal(optimizer.state[parameter]["exp_avg"], before)
    give_gradients(net, 2)
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert not any(map(torch.equal, net.parameters(), weights))


def test_weights_move_alike_in_either_memory_format():
    one, other = networks(), networks().to(memory_format=torch.channels_last)
    for net in (one, other):
        optimizer = muon_of(net)
        for seed in range(2):
            give_gradients(net, seed)
            optimizer.step()
    assert other[1].weight.is_contiguous(memory_format=torch.channels_last)
    for weight, same in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight, same, rtol=0, atol=1e-6)


def test_rivae_has_muon_and_the_papers_objectives_adam_unless_one_asks():
    for name in OBJECTIVES:
        labels = ATTRIBUTES if name in LABELLED else None
        asked = Request(dataset="faces", objective=name, resolution=16, attributes=labels)
        config = plan(asked, FakeStore())
        assert config.optimizer == ("muon" if name == "rivae" else "adam")
        for kind in ("adam", "muon"):
            config = plan(dataclasses.replace(asked, optimizer=kind), FakeStore())
            assert config.optimizer == kind
            state = TrainState.create(tiny_config(NO_STORE, optimizer=kind), torch.device("cpu"), 4)
            found = {type(optimizer) for optimizer in state.optimizers.values()}
            assert found == {Muon if kind == "muon" else torch.optim.Adam}


def test_a_run_from_before_has_adam():
    config = tiny_config(NO_STORE, "rivae")
    values = config.to_dict()
    assert values.pop("optimizer") == "muon"
    assert type(config).from_dict(values) == dataclasses.replace(config, optimizer="adam")


@pytest.mark.parametrize("make", [Request, lambda **given: tiny_config(NO_STORE, **given)])
def test_another_optimizer_is_refused(make):
    with pytest.raises(InputError, match=r"sgd.*adam, muon"):
        make(optimizer="sgd")
