"""The running averages have the half-life that the config names."""

import dataclasses

import pytest
import torch
from runs import NO_STORE, bytes_of, state_after, take_steps, tiny_config
from torch import nn

from pgvae.nn.layers import SpectralWeight, matrix_of
from pgvae.objectives.pioneer import Pioneer
from pgvae.training import step as step_module
from pgvae.training.ema import half_life_decay, update_ema
from pgvae.types import AVERAGES


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
    assert decays[::2] == decays[1::2]  # of generator and encoder
    assert decays[::2] == pytest.approx([0.5 ** (4 / h) if h else 0 for h in half_lives], abs=1e-6)


def test_a_schedule_may_average_by_iterations(monkeypatch):
    decays = []
    monkeypatch.setattr(
        step_module, "update_ema", lambda ema, net, share: decays.append(1 - share.item())
    )
    state = state_after(0)
    schedule = dataclasses.replace(state.config.schedule, ema_decay=0.999)
    state.config = dataclasses.replace(state.config, schedule=schedule)
    take_steps(state, Pioneer(), 3)
    assert decays == pytest.approx(6 * [0.999])


def test_batch_norms_of_an_average_have_the_statistics_of_the_network():
    changes = {"arch": "residual", "encoder_norm": "batch", "generator_norm": "batch"}
    model = dataclasses.replace(tiny_config(NO_STORE, "vac").model, **changes)
    nets = state_after(24, "vac", model=model, ema_kimg=1.0, ema_rampup=1.0).nets
    for average, followed in AVERAGES.items():
        ours, theirs = (dict(nets.parts()[n].named_buffers()) for n in (average, followed))
        assert any(name.endswith("running_mean") and value.any() for name, value in ours.items())
        assert bytes_of(ours) == bytes_of(theirs)


def test_spectral_norms_of_an_average_are_those_of_its_own_weights():
    model = dataclasses.replace(
        tiny_config(NO_STORE, "balanced_pioneer").model, generator_norm="spectral"
    )
    nets = state_after(40, "balanced_pioneer", model=model, ema_kimg=0.02, ema_rampup=1.0).nets
    for average, followed in AVERAGES.items():
        pairs = zip(nets.parts()[average].modules(), nets.parts()[followed].modules(), strict=True)
        norms = [pair for pair in pairs if isinstance(pair[0], SpectralWeight)]
        assert norms
        for mine, theirs in norms:
            assert not torch.equal(mine.weight, theirs.weight)
            largest = torch.linalg.matrix_norm(matrix_of(mine()), ord=2)
            torch.testing.assert_close(largest, torch.ones(()), rtol=0.05, atol=0)


def test_each_average_follows_its_network():
    nets = state_after(8, ema_kimg=1.0, ema_rampup=1.0).nets
    parts = nets.parts()
    for average, followed in AVERAGES.items():
        mine, theirs = parts[average].rgb["4"].weight, parts[followed].rgb["4"].weight
        assert not torch.equal(mine, theirs)
        assert (mine - theirs).norm() < 0.5 * theirs.norm()
