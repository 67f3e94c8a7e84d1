"""The generator's running average has the half-life that the config names."""

import dataclasses

import pytest
import torch
from runs import NO_STORE, bytes_of, state_after, take_steps, tiny_config
from torch import nn

from pgvae.objectives.pioneer import Pioneer
from pgvae.training import step as step_module
from pgvae.training.ema import half_life_decay, update_ema


def constant(value: float) -> nn.Linear:
    net = nn.Linear(3, 2)
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    return net


@pytest.mark.parametrize(
    ("batch_size", "updates", "half_life", "left"),
    [(1, 1000, 1000, 0.5), (125, 8, 1000, 0.5), (1000, 1, 1000, 0.5), (4, 1, 0.0, 0.0)],
)
def test_after_one_half_life_of_images_half_of_the_old_value_is_left(
    batch_size, updates, half_life, left
):
    ema, net = constant(1.0), constant(3.0)
    for _ in range(updates):
        update_ema(ema, net, torch.tensor(1 - half_life_decay(batch_size, half_life)))
    for average in ema.parameters():
        torch.testing.assert_close(average, torch.full_like(average, left * 1 + (1 - left) * 3))
    assert (net.weight == 3).all()


# Half-lives in images, of the iterations of 4 images: a ramp up to ema_kimg, or none.
@pytest.mark.parametrize(
    ("ema_kimg", "ema_rampup", "init_from", "half_lives"),
    [
        (0.0008, 0.05, None, [0, 0.05 * 4, 0.05 * 8, 0.05 * 12, 0.8, 0.8]),
        (0.008, 0.0, None, [8, 8]),
        (0.008, 0.05, "0" * 64, [8, 8]),  # weights that have an average already
    ],
)
def test_the_half_life_ramps_up_with_the_images_seen(
    ema_kimg, ema_rampup, init_from, half_lives, monkeypatch
):
    decays = []
    monkeypatch.setattr(
        step_module, "update_ema", lambda ema, net, share: decays.append(1 - share.item())
    )
    changes = {"ema_kimg": ema_kimg, "ema_rampup": ema_rampup, "init_from": init_from}
    take_steps(state_after(0, **changes), Pioneer(), len(half_lives))
    assert decays == pytest.approx([0.5 ** (4 / h) if h else 0 for h in half_lives], abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "norm", "buffer"),
    [("balanced_pioneer", "spectral", ".u"), ("vac", "batch", ".running_mean")],
)
def test_buffers_are_those_of_the_generator_while_its_weights_are_averaged(objective, norm, buffer):
    model = dataclasses.replace(tiny_config(NO_STORE, objective).model, generator_norm=norm)
    nets = state_after(24, objective, model=model, ema_kimg=1.0, ema_rampup=1.0).nets
    ours = dict(nets.ema.named_buffers())
    assert bytes_of(ours) == bytes_of(dict(nets.generator.named_buffers()))
    named = [value for name, value in ours.items() if name.endswith(buffer)]
    assert named
    assert all(value.any() for value in named)
    assert not torch.equal(nets.ema.rgb["4"].weight, nets.generator.rgb["4"].weight)
