"""The generator's running average has the half-life that the config names."""

import dataclasses

import pytest
import torch
from runs import NO_STORE, bytes_of, state_after, take_steps, tiny_config
from torch import nn

from pgvae.objectives.pioneer import Pioneer
from pgvae.training import step as step_module
from pgvae.training.ema import copy_new_layers, half_life_decay, update_ema


def constant(value: float) -> nn.Linear:
    net = nn.Linear(3, 2)
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    return net


def share(decay: float) -> torch.Tensor:
    """Of the newest weights."""
    return torch.tensor(1 - decay)


@pytest.mark.parametrize("batch_size", [1, 4, 125, 1000])
def test_after_one_half_life_of_images_half_of_the_old_value_is_left(batch_size):
    ema, net = constant(1.0), constant(0.0)
    for _ in range(1000 // batch_size):
        update_ema(ema, net, share(half_life_decay(batch_size, 1000)))
    torch.testing.assert_close(ema.weight, torch.full((2, 3), 0.5))
    torch.testing.assert_close(ema.bias, torch.full((2,), 0.5))


def test_the_average_moves_toward_the_network_and_leaves_it_alone():
    ema, net = constant(1.0), constant(3.0)
    update_ema(ema, net, share(0.75))
    torch.testing.assert_close(ema.weight, torch.full((2, 3), 0.75 * 1 + 0.25 * 3))
    assert (net.weight == 3).all()


def test_no_half_life_means_no_memory():
    assert half_life_decay(4, 0.0) == 0.0
    ema, net = constant(1.0), constant(3.0)
    update_ema(ema, net, share(half_life_decay(4, 0.0)))
    assert (ema.weight == 3).all()


def test_only_layers_that_are_new_are_copied():
    ema, net = constant(1.0), constant(3.0)
    copy_new_layers(ema, net, {"weight"})
    assert (ema.weight == 1).all()
    assert (ema.bias == 3).all()


def test_the_half_life_ramps_up_with_the_images_seen(monkeypatch):
    decays = []
    monkeypatch.setattr(
        step_module, "update_ema", lambda ema, net, share: decays.append(1 - share.item())
    )
    take_steps(state_after(0, ema_kimg=0.0008, ema_rampup=0.05), Pioneer(), 6)
    half_lives = [0, 0.05 * 4, 0.05 * 8, 0.05 * 12, 0.8, 0.8]  # images, capped at ema_kimg
    expected = [0.0, *(0.5 ** (4 / h) for h in half_lives[1:])]
    assert decays == pytest.approx(expected, abs=1e-6)


def test_without_a_ramp_the_half_life_is_whole_from_the_start(monkeypatch):
    decays = []
    monkeypatch.setattr(
        step_module, "update_ema", lambda ema, net, share: decays.append(1 - share.item())
    )
    take_steps(state_after(0, ema_kimg=0.008, ema_rampup=0.0), Pioneer(), 2)
    assert decays == pytest.approx([0.5**0.5, 0.5**0.5])


def test_the_first_step_sets_the_average_to_the_generator():
    nets = state_after(4).nets
    assert bytes_of(nets.ema.state_dict()) == bytes_of(nets.generator.state_dict())


def test_later_the_average_lags_behind_the_generator():
    nets = state_after(24, ema_kimg=1.0, ema_rampup=1.0).nets
    assert not torch.equal(nets.ema.rgb["4"].weight, nets.generator.rgb["4"].weight)


def buffers_of(net: nn.Module) -> dict[str, bytes]:
    return bytes_of(dict(net.named_buffers()))


def test_buffers_are_those_of_the_network_while_its_weights_are_averaged():
    ema, net = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    net.running_mean.fill_(3.0)
    net.num_batches_tracked.fill_(7)
    nn.init.constant_(net.bias, 4.0)
    update_ema(ema, net, share(0.75))
    assert buffers_of(ema) == buffers_of(net)
    assert (ema.bias == 1).all()


def test_the_average_of_a_generator_with_spectral_norm_has_its_vectors():
    nets = state_after(24, "balanced_pioneer", ema_kimg=1.0, ema_rampup=1.0).nets
    assert buffers_of(nets.ema) == buffers_of(nets.generator)
    assert any(name.endswith(".u") for name in buffers_of(nets.ema))
    assert not torch.equal(nets.ema.rgb["4"].weight, nets.generator.rgb["4"].weight)


def test_the_average_of_a_generator_with_batch_norm_has_its_statistics():
    model = dataclasses.replace(tiny_config(NO_STORE, "vac").model, generator_norm="batch")
    nets = state_after(24, "vac", model=model).nets
    assert buffers_of(nets.ema) == buffers_of(nets.generator)
    means = [b for n, b in nets.ema.named_buffers() if n.endswith("running_mean")]
    assert means
    assert all(mean.any() for mean in means)
