"""Soft-IntroVAE: both phases against eq. 4 of AS-IntroVAE's paper, in float64."""

import math

import pytest
import torch
from float64_world import (
    FINAL,
    World,
    assert_same_with_gradients,
    has_gradient,
    kl_of,
    unit_errors,
)
from torch import Tensor

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of
from pgvae.objectives.soft_introvae import SoftIntroVae

SCALE = 1 / (3 * FINAL**2)
CHOSEN = {"beta_rec": 0.7, "beta_kl": 0.4, "beta_neg": 9.0, "gamma_r": 0.3}
RTOL = {"mse": 1e-9, "l1": 1e-9, "bce": 1e-6}  # cross entropy is computed in float32


def encoder_loss(w: World, o: SoftIntroVae) -> Tensor:
    """s (b_rec rec + b_kl KL) + 1/4 sum_s mean exp(-2 s (b_rec rec_s + b_neg KL_s))."""
    x = w.batch.images
    x_r, x_f = w.decode(w.latents_of(x)), w.decode(w.prior())
    elbo = o.beta_rec * unit_errors(o.rec, x, x_r) + o.beta_kl * kl_of(w.encode(x))
    loss = SCALE * elbo.mean()
    for x_s in (x_r.detach(), x_f.detach()):
        rec_s = unit_errors(o.rec, x_s, w.decode(w.latents_of(x_s)))
        negative = o.beta_rec * rec_s + o.beta_neg * kl_of(w.encode(x_s))
        loss = loss + 0.25 * torch.exp(-2 * SCALE * negative).mean()
    return loss


def generator_loss(w: World, o: SoftIntroVae) -> Tensor:
    """s (b_rec rec + b_kl/2 (KL_r + KL_f) + gamma_r b_rec/2 (rec_r + rec_f))."""
    x = w.batch.images
    x_r, x_f = w.decode(w.latents_of(x).detach()), w.decode(w.prior())
    loss = o.beta_rec * unit_errors(o.rec, x, x_r).mean()
    for x_s in (x_r, x_f):
        rec_s = unit_errors(o.rec, x_s.detach(), w.decode(w.latents_of(x_s).detach()))
        loss = loss + 0.5 * o.beta_kl * kl_of(w.encode(x_s)).mean()
        loss = loss + 0.5 * o.gamma_r * o.beta_rec * rec_s.mean()
    return SCALE * loss


@pytest.mark.parametrize("rec", ["mse", "l1", "bce"])
@pytest.mark.parametrize("resolution", [4, 8])
def test_the_encoders_loss_and_gradient_are_those_of_equation_4(world, rec, resolution) -> None:
    o = SoftIntroVae(rec=rec, **CHOSEN)
    w = world(o, resolution=resolution)
    actual = w.total(o, "encoder")
    assert_same_with_gradients(actual, encoder_loss(w, o), w.nets.encoder, rtol=RTOL[rec])


@pytest.mark.parametrize("rec", ["mse", "l1", "bce"])
@pytest.mark.parametrize("resolution", [4, 8])
def test_the_generators_loss_and_gradient_are_those_of_equation_4(world, rec, resolution) -> None:
    o = SoftIntroVae(rec=rec, **CHOSEN)
    w = world(o, resolution=resolution)
    actual = w.total(o, "generator")
    assert_same_with_gradients(actual, generator_loss(w, o), w.nets.generator, rtol=RTOL[rec])


def test_no_gradient_of_the_generators_loss_passes_through_the_latents_of_reals(world) -> None:
    """All that reaches the encoder's weights is the KL of the generated images."""
    o = SoftIntroVae(**CHOSEN)
    w = world(o)
    actual = w.total(o, "generator")
    assert_same_with_gradients(actual, generator_loss(w, o), w.nets.encoder)
    for term in ("rec", "rec_others"):
        assert not has_gradient(w.losses(o, "generator")[term], w.nets.encoder)


@pytest.mark.parametrize("rec", ["mse", "bce"])
def test_pretraining_is_a_scaled_vae(world, rec) -> None:
    o = SoftIntroVae(rec=rec, **CHOSEN)
    w = world(o)
    actual = w.total(o, "pretrain")
    x = w.batch.images
    error = unit_errors(rec, x, w.decode(w.latents_of(x))).mean()
    expected = SCALE * (0.7 * error + 0.4 * kl_of(w.encode(x)).mean())
    nets = w.nets.encoder, w.nets.generator
    assert_same_with_gradients(actual, expected, *nets, rtol=RTOL[rec])


def test_the_adversarial_terms_of_the_encoder_give_the_generator_no_gradient(world) -> None:
    """Fakes enter as images; only their own reconstruction is decoded again."""
    o = SoftIntroVae(**{**CHOSEN, "beta_rec": 0.0})
    w = world(o)
    losses = w.losses(o, "encoder")
    for term in ("exp_rec", "exp_fake"):
        assert has_gradient(losses[term], w.nets.encoder)
        assert not has_gradient(losses[term], w.nets.generator)


def test_the_exponential_is_of_every_sample_and_not_of_the_mean(world) -> None:
    """exp is convex: the mean of exponentials is above the exponential of the mean."""
    o = SoftIntroVae(beta_rec=0.0, beta_kl=0.0, beta_neg=100.0)
    w = world(o, count=16)
    actual = w.total(o, "encoder").item()
    fakes = [w.decode(w.latents_of(w.batch.images)), w.decode(w.prior())]
    kls = [kl_of(w.encode(x_s)).detach() for x_s in fakes]
    of_means = sum(0.25 * math.exp(-200 * SCALE * kl.mean().item()) for kl in kls)
    assert actual > 1.05 * of_means


def test_an_encoder_step_raises_the_kl_of_fakes(world) -> None:
    o = SoftIntroVae(beta_rec=0.0, beta_kl=0.0, beta_neg=4.0)
    w = world(o, count=32)
    loss = w.total(o, "encoder")
    images = [w.decode(z).detach() for z in (w.latents_of(w.batch.images), w.prior())]
    before = [kl_of(w.encode(x)).mean().item() for x in images]
    w.step("encoder", loss)
    for x, kl in zip(images, before, strict=True):
        assert kl_of(w.encode(x)).mean().item() > kl


def test_an_encoder_step_lowers_the_kl_of_reals(world) -> None:
    o = SoftIntroVae(beta_rec=0.0, beta_kl=1.0, beta_neg=0.0)
    w = world(o, count=32)
    before = kl_of(w.encode(w.batch.images)).mean().item()
    w.step("encoder", w.total(o, "encoder"))
    assert kl_of(w.encode(w.batch.images)).mean().item() < before


def test_a_generator_step_lowers_the_kl_of_fakes(world) -> None:
    o = SoftIntroVae(beta_rec=0.0, beta_kl=1.0)
    w = world(o, count=32)
    loss = w.total(o, "generator")
    latents = w.latents_of(w.batch.images).detach(), w.prior()
    before = sum(kl_of(w.encode(w.decode(z))).mean().item() for z in latents)
    w.step("generator", loss)
    assert sum(kl_of(w.encode(w.decode(z))).mean().item() for z in latents) < before


def test_far_fakes_have_no_gradient(world) -> None:
    """exp(-2 s b_neg KL) vanishes smoothly where IntroVAE's hinge is cut off."""
    o = SoftIntroVae(beta_neg=1e6)
    w = world(o)
    losses = w.losses(o, "encoder")
    assert losses["exp_fake"].item() == pytest.approx(0.0, abs=1e-30)
    gradient = torch.autograd.grad(losses["exp_fake"], list(w.nets.encoder.parameters()))
    assert all(grad.abs().max() < 1e-20 for grad in gradient)


@pytest.mark.parametrize(
    ("resolution", "beta_kl", "beta_rec", "beta_neg", "latent_dim"),
    [(32, 1, 1, 256, 128), (128, 0.2, 0.2, 256, 128), (256, 0.5, 1, 1024, 256)],
)
def test_presets_are_the_published_ones(
    resolution, beta_kl, beta_rec, beta_neg, latent_dim
) -> None:
    preset = SoftIntroVae.preset(resolution)
    weights = {"beta_kl": beta_kl, "beta_rec": beta_rec, "beta_neg": beta_neg}
    assert dict(preset.settings) == weights
    assert preset.latent_dim == latent_dim


@pytest.mark.parametrize(("resolution", "nearest"), [(8, 32), (64, 32), (512, 256), (1024, 256)])
def test_other_resolutions_take_the_weights_of_the_nearest(resolution, nearest) -> None:
    """s, one over the number of values, already keeps the balance."""
    assert SoftIntroVae.preset(resolution).settings == SoftIntroVae.preset(nearest).settings


def test_it_is_trained_encoder_first_with_the_papers_gamma() -> None:
    assert [(p.name, p.trains, p.repeats) for p in SoftIntroVae.phases] == [
        ("encoder", ("encoder",), 1),
        ("generator", ("generator",), 1),
    ]
    assert SoftIntroVae.pretraining.name == "pretrain"
    assert set(SoftIntroVae.pretraining.trains) == {"encoder", "generator"}
    assert SoftIntroVae().gamma_r == 1e-8
    assert SoftIntroVae(rec="bce").model_settings()["output"] == "tanh"


@pytest.mark.parametrize("setting", ["beta_rec", "beta_kl", "beta_neg", "gamma_r"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_weights_must_be_finite_and_not_negative(setting, value) -> None:
    with pytest.raises(InputError, match=setting):
        SoftIntroVae(**{setting: value})


def test_an_unknown_reconstruction_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"rec.*l2.*mse.*l1.*bce"):
        SoftIntroVae(rec="l2")


def test_a_soft_introvae_travels_through_its_settings() -> None:
    o = SoftIntroVae(rec="l1", beta_neg=3.0)
    assert OBJECTIVES["soft_introvae"] is SoftIntroVae
    assert objective_from(settings_of(o)) == o
