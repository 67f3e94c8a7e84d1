"""RIVAE against its equation, in float64."""

import copy
import math

import pytest
import torch
from torch import Tensor
from world import FINAL, World, kl_of, small_world, smooth_world

from pgvae.errors import InputError
from pgvae.objectives.rivae import Rivae

CHOSEN = Rivae(beta_kl=0.3, game=0.7, game_from=4)


def softplus(t: Tensor) -> Tensor:
    return (1 + t.exp()).log()


def reconstructed(w: World) -> Tensor:
    return w.decode(w.latents_of(w.batch.images))


def error(w: World, x_r: Tensor) -> Tensor:
    x = w.batch.images
    return ((x - x_r) ** 2).sum(dim=(1, 2, 3)).mean() * (FINAL / x.shape[-1]) ** 2


def loss(w: World, o: Rivae) -> Tensor:
    """rec + beta_kl KL + game s(D(sg x_r) - D(x)) + game s(D'(x) - D'(x_r))."""
    x, x_r = w.batch.images, reconstructed(w)
    held = copy.deepcopy(w.nets.encoder).requires_grad_(False)
    real, fake = (w.nets.encoder(i, w.alpha, judge=True).realism for i in (x, x_r.detach()))
    total = error(w, x_r) + o.beta_kl * kl_of(w.encode(x)).mean()
    total = total + o.game * softplus(fake - real).mean()
    real, fake = (held(i, w.alpha, judge=True).realism for i in (x, x_r))
    return total + o.game * softplus(real - fake).mean()


@pytest.mark.parametrize("objective", [CHOSEN, Rivae(game_from=4), Rivae(game=0.0)])
@pytest.mark.parametrize("resolution", [4, FINAL])
def test_the_phase_minimises_its_equation(objective, resolution):
    smooth_world(objective, resolution=resolution).check(objective, "both", loss)


@pytest.mark.parametrize("gain", [-60, 60])
def test_a_critic_that_is_sure_still_tells_the_generator_where_to_go(gain):
    """Its own gradient is next to nothing then, and that of D' is not."""
    w = smooth_world(CHOSEN)
    with torch.no_grad():
        w.nets.encoder.critic.mul_(gain)
    w.losses(CHOSEN, "both")
    assert w.reported["realism_gap"].abs() > 10
    w.check(CHOSEN, "both", loss)


def test_how_far_reals_are_above_reconstructions_is_reported():
    w = smooth_world(CHOSEN)
    assert list(w.losses(CHOSEN, "both")) == ["rec", "kl", "critic", "fool"]
    real, fake = (
        w.nets.encoder(i, w.alpha, judge=True).realism for i in (w.batch.images, reconstructed(w))
    )
    torch.testing.assert_close(w.reported["realism_gap"], (real - fake).mean(), check_dtype=False)


@pytest.mark.parametrize(("resolution", "plays"), [(4, False), (8, True)])
def test_below_a_resolution_it_is_a_vae(resolution, plays):
    objective = Rivae(game_from=8)
    losses = smooth_world(objective, resolution=resolution).losses(objective, "both")
    assert ("fool" in losses) == ("critic" in losses) == plays
    assert "fool" not in smooth_world(Rivae()).losses(Rivae(), "both")  # 16 px by default


def test_the_game_pulls_the_logits_apart_for_the_encoder_and_together_for_the_generator():
    def step(net: str) -> tuple[float, float]:
        w = small_world(CHOSEN)
        gaps = []
        for _ in range(2):
            losses = w.losses(Rivae(beta_kl=0.0, game=1.0, game_from=8), "both")
            gaps.append(w.reported["realism_gap"].item())
            if len(gaps) == 1:
                w.step(net, losses["critic"] + losses["fool"], size=0.05)
        return gaps[0], gaps[1]

    before, after = step("encoder")
    assert after > before
    before, after = step("generator")
    assert after < before


@pytest.mark.parametrize("name", ["beta_kl", "game"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weights_are_finite_and_not_negative(name, value):
    with pytest.raises(InputError, match=f"^{name} is "):
        Rivae(**{name: value})


@pytest.mark.parametrize("value", [0, 2, 12, 2048])
def test_the_game_begins_at_a_resolution(value):
    with pytest.raises(InputError, match=rf"^game_from is {value}: use a power of two"):
        Rivae(game_from=value)
