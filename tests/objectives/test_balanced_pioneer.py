"""Balanced PIONEER: AGE's game with a margin on the encoder's KL terms, in float64."""

import dataclasses
import math

import pytest
import torch
from float64_world import D, World, assert_same_with_gradients, has_gradient
from torch import Tensor

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of
from pgvae.objectives.balanced_pioneer import BalancedPioneer


def moment_kl(z: Tensor) -> Tensor:
    """Eq. 1 of PIONEER: -d/2 + sum_d [(s_d^2 + m_d^2)/2 - log s_d]."""
    m = z.sum(0) / len(z)
    variance = ((z - m) ** 2).sum(0) / len(z)
    return -z.shape[1] / 2 + ((variance + m**2) / 2 - 0.5 * variance.log()).sum()


def kl_gap(w: World, fakes: Tensor) -> Tensor:
    """KLm(E(x)) - KLm(E(x_f))."""
    return moment_kl(w.encode(w.batch.images).mean) - moment_kl(w.encode(fakes).mean)


def reconstruction(w: World, o: BalancedPioneer) -> Tensor:
    """lambda_x d mean|x - G(E(x))|."""
    x = w.batch.images
    x_r = w.decode(w.encode(x).mean)
    return o.lambda_x * D * (x - x_r).abs().sum() / x.numel()


def encoder_loss(w: World, o: BalancedPioneer, fakes: Tensor | None = None) -> Tensor:
    fakes = w.decode(w.prior()).detach() if fakes is None else fakes
    gap = kl_gap(w, fakes)
    return torch.maximum(torch.tensor(-10 * D * o.margin), gap) + reconstruction(w, o)


def generator_loss(w: World, o: BalancedPioneer) -> Tensor:
    """AGE's: KLm(E(x_f)) + lambda_z mean(1 - <z, E(x_f)>)."""
    z = w.prior()
    code = w.encode(w.decode(z)).mean
    return moment_kl(code) + o.lambda_z * (1 - (z * code).sum(dim=1)).mean()


@pytest.mark.parametrize("share", [0.5, 2.0], ids=["beyond the margin", "within the margin"])
@pytest.mark.parametrize("resolution", [4, 8])
def test_the_encoders_loss_and_gradient_have_a_floor(world, share, resolution) -> None:
    """max(-10 d margin, KLm(E(x)) - KLm(E(sg x_f))) + lambda_x d mean|x - x_r|."""
    o = BalancedPioneer(lambda_x=2.0)
    w = world(o, count=8, resolution=resolution)
    w.losses(o, "encoder")
    gap = kl_gap(w, w.decode(w.prior())).item()
    assert gap < 0
    o = dataclasses.replace(o, margin=-share * gap / (10 * D))
    actual = w.total(o, "encoder")
    floor = share * gap if share < 1 else gap
    assert actual.item() == pytest.approx(floor + reconstruction(w, o).item(), rel=1e-9)
    assert_same_with_gradients(actual, encoder_loss(w, o), w.nets.encoder)


def test_the_generators_loss_and_gradient_are_ages(world) -> None:
    o = BalancedPioneer(lambda_z=3.0)
    w = world(o, count=8)
    actual = w.total(o, "generator")
    assert_same_with_gradients(actual, generator_loss(w, o), w.nets.generator)


def test_beyond_the_margin_neither_divergence_has_a_gradient(world) -> None:
    o = BalancedPioneer(margin=0.0)
    w = world(o, count=8)
    loss = w.total(o, "encoder")
    assert kl_gap(w, w.decode(w.prior())).item() < 0
    assert_same_with_gradients(loss, reconstruction(w, o), w.nets.encoder)


def test_a_margin_out_of_reach_is_pioneers_game(world) -> None:
    o = BalancedPioneer(margin=1e3)
    pioneer = OBJECTIVES["pioneer"]()
    w = world(o, count=8)
    for phase in ("encoder", "generator"):
        torch.testing.assert_close(w.total(o, phase), w.total(pioneer, phase))


def test_an_encoder_step_raises_the_kl_of_fakes_over_that_of_reals(world) -> None:
    o = BalancedPioneer(margin=1e3, lambda_x=0.0)
    w = world(o, count=32)
    loss = w.total(o, "encoder")
    images, fakes = w.batch.images, w.decode(w.prior()).detach()
    before = [moment_kl(w.encode(x).mean).item() for x in (images, fakes)]
    w.step("encoder", loss)
    after = [moment_kl(w.encode(x).mean).item() for x in (images, fakes)]
    assert after[0] < before[0]
    assert after[1] > before[1]


def test_a_generator_step_lowers_the_kl_of_fakes(world) -> None:
    o = BalancedPioneer(lambda_z=0.0)
    w = world(o, count=32)
    loss, z = w.total(o, "generator"), w.prior()
    before = moment_kl(w.encode(w.decode(z)).mean).item()
    w.step("generator", loss)
    assert moment_kl(w.encode(w.decode(z)).mean).item() < before


def test_fakes_of_the_encoder_are_replayed_images_without_a_gradient(world) -> None:
    o = BalancedPioneer(margin=1e3)
    w = world(o, count=8)
    earlier = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(7)) * 2 - 1
    replayed = []

    def replay(fakes: Tensor) -> Tensor:
        replayed.append(fakes)
        return earlier

    actual = w.total(o, "encoder", replay=replay)
    assert_same_with_gradients(actual, encoder_loss(w, o, earlier), w.nets.encoder)
    (fakes,) = replayed
    assert not fakes.requires_grad
    torch.testing.assert_close(fakes, w.decode(w.prior()).detach())
    assert not has_gradient(w.losses(o, "encoder")["kl_hinge"], w.nets.generator)


@pytest.mark.parametrize("phase", ["encoder", "generator"])
def test_one_image_has_no_divergence(world, phase) -> None:
    o = BalancedPioneer()
    assert o.min_batch == 2
    w = world(o, count=1)
    with pytest.raises(ValueError, match="2"):
        w.losses(o, phase)


STAGES = [
    *((resolution, faded, 0.05) for resolution in (4, 8, 16, 32) for faded in (False, True)),
    (64, False, 0.0),
    (64, True, 0.02),
    *((128, faded, 0.02) for faded in (False, True)),
    *((resolution, faded, 0.04) for resolution in (256, 512, 1024) for faded in (False, True)),
]


@pytest.mark.parametrize(("resolution", "faded", "margin"), STAGES)
@pytest.mark.parametrize("grown", [False, True])
def test_the_margin_follows_the_stage(resolution, faded, margin, grown) -> None:
    o = BalancedPioneer()
    settings = o.stage_settings(resolution, faded=faded, grown=grown)
    assert dataclasses.replace(o, **settings).margin == margin


def test_both_networks_are_normalised_spectrally_and_adam_has_its_own_betas() -> None:
    settings = BalancedPioneer().model_settings()
    assert settings["head"] == "sphere"
    assert settings["encoder_norm"] == settings["generator_norm"] == "spectral"
    assert BalancedPioneer.betas == (0.0, 0.9)
    assert BalancedPioneer.grows
    assert BalancedPioneer.pool
    phases = [(p.name, p.trains, p.repeats) for p in BalancedPioneer.phases]
    assert phases == [("encoder", ("encoder",), 1), ("generator", ("generator",), 2)]


@pytest.mark.parametrize("setting", ["lambda_x", "lambda_z", "margin"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_weights_and_margin_must_be_finite_and_not_negative(setting, value) -> None:
    with pytest.raises(InputError, match=setting):
        BalancedPioneer(**{setting: value})


def test_a_balanced_pioneer_travels_through_its_settings() -> None:
    o = BalancedPioneer(margin=0.3)
    assert OBJECTIVES["balanced_pioneer"] is BalancedPioneer
    assert objective_from(settings_of(o)) == o
