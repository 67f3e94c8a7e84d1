"""AS-IntroVAE: Soft-IntroVAE's game with the KL annealed in and the AS distance out (eq. 5-9)."""

import dataclasses
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
from pgvae.objectives.as_introvae import AsIntroVae
from pgvae.objectives.soft_introvae import SoftIntroVae
from pgvae.types import Posterior

SCALE = 1 / (3 * FINAL**2)
SOFT = {"beta_rec": 0.7, "beta_kl": 0.4, "beta_neg": 9.0, "gamma_r": 0.3}
CHOSEN = {**SOFT, "beta_as": 150.0, "beta_gen": 40.0}


def pair_mean(a: Posterior, b: Posterior, form: str, same: bool) -> Tensor:
    """The mean kernel of all pairs of two posteriors, or of all different ones of a set."""
    kernels = []
    for i in range(len(a.mean)):
        for j in range(len(b.mean)):
            v = a.logvar[i].exp() + b.logvar[j].exp()
            gap = (a.mean[i] - b.mean[j]) ** 2
            logs = -0.5 * (gap / v + v.log())
            k = {
                "marginal": logs.exp().mean(),
                "tempered": logs.mean().exp(),
                "cauchy_schwarz": logs.sum().exp(),
            }[form]
            if not (same and i == j):
                kernels.append(k)
    return torch.stack(kernels).mean()


def distance(real: Posterior, fake: Posterior, form: str) -> Tensor:
    rr, ff = pair_mean(real, real, form, True), pair_mean(fake, fake, form, True)
    rf = pair_mean(real, fake, form, False)
    if form == "cauchy_schwarz":
        return (rr.log() + ff.log() - 2 * rf.log()) / real.mean.shape[1]
    return rr + ff - 2 * rf


def encoder_loss(w: World, o: AsIntroVae, c: float) -> Tensor:
    """Soft's, with c b_neg KL_s + (1 - c) b_as D in the exponent."""
    x = w.batch.images
    x_r, x_f = (image.detach() for image in (w.decode(w.latents_of(x)), w.decode(w.prior())))
    rec = unit_errors(o.rec, x, w.decode(w.latents_of(x)))
    loss = SCALE * (o.beta_rec * rec + o.beta_kl * kl_of(w.encode(x))).mean()
    apart = distance(w.encode(x), w.encode(x_f), o.distance)
    for x_s in (x_r, x_f):
        rec_s = unit_errors(o.rec, x_s, w.decode(w.latents_of(x_s)))
        kl_or_distance = c * o.beta_neg * kl_of(w.encode(x_s)) + (1 - c) * o.beta_as * apart
        exponent = -2 * SCALE * (o.beta_rec * rec_s + kl_or_distance)
        loss = loss + 0.25 * exponent.exp().mean()
    return loss


def generator_loss(w: World, o: AsIntroVae, c: float) -> Tensor:
    """Soft's, with c b_kl/2 (KL_r + KL_f) + (1 - c) b_gen D in place of the KL."""
    x = w.batch.images
    x_r, x_f = w.decode(w.latents_of(x).detach()), w.decode(w.prior())
    loss = o.beta_rec * unit_errors(o.rec, x, x_r).mean()
    for x_s in (x_r, x_f):
        rec_s = unit_errors(o.rec, x_s.detach(), w.decode(w.latents_of(x_s).detach()))
        loss = loss + 0.5 * c * o.beta_kl * kl_of(w.encode(x_s)).mean()
        loss = loss + 0.5 * o.gamma_r * o.beta_rec * rec_s.mean()
    apart = distance(w.encode(x), w.encode(x_f), o.distance)
    return SCALE * (loss + (1 - c) * o.beta_gen * apart)


CASES = [
    (form, annealing, progress)
    for form in ("marginal", "tempered", "cauchy_schwarz")
    for annealing, progress in (("linear", 0.0), ("linear", 0.13), ("tanh", 0.13), ("linear", 0.6))
]


def share(annealing: str, progress: float) -> float:
    return min(5 * progress, 1) if annealing == "linear" else math.tanh(5 * progress)


@pytest.mark.parametrize(("form", "annealing", "progress"), CASES)
def test_the_encoders_loss_and_gradient_are_those_of_its_equation(
    world, form, annealing, progress
) -> None:
    o = AsIntroVae(distance=form, annealing=annealing, **CHOSEN)
    w = world(o)
    actual = w.total(o, "encoder", progress=progress)
    expected = encoder_loss(w, o, share(annealing, progress))
    assert_same_with_gradients(actual, expected, w.nets.encoder, rtol=1e-5)


@pytest.mark.parametrize(("form", "annealing", "progress"), CASES)
def test_the_generators_loss_and_gradient_are_those_of_its_equation(
    world, form, annealing, progress
) -> None:
    o = AsIntroVae(distance=form, annealing=annealing, **CHOSEN)
    w = world(o)
    actual = w.total(o, "generator", progress=progress)
    expected = generator_loss(w, o, share(annealing, progress))
    assert_same_with_gradients(actual, expected, w.nets.generator, rtol=1e-5)


@pytest.mark.parametrize("resolution", [4, 8])
def test_the_distance_keeps_its_weight_while_the_network_grows(world, resolution) -> None:
    o = AsIntroVae(**CHOSEN)
    w = world(o, resolution=resolution)
    actual = w.total(o, "encoder", progress=0.1)
    assert_same_with_gradients(actual, encoder_loss(w, o, 0.5), w.nets.encoder, rtol=1e-5)


def test_the_distance_counts_in_both_losses_at_the_start(world) -> None:
    """Without it the tests above could not tell a wrong distance from a right one."""
    o = AsIntroVae(**CHOSEN)
    w = world(o)
    for phase, weight in (("encoder", "beta_as"), ("generator", "beta_gen")):
        without = dataclasses.replace(o, **{weight: 0.0})
        change = w.total(o, phase) - w.total(without, phase)
        assert abs(change.item()) > 1e-4, phase


@pytest.mark.parametrize("phase", ["encoder", "generator"])
def test_once_annealed_it_is_soft_introvae(world, phase) -> None:
    o, soft = AsIntroVae(**CHOSEN), SoftIntroVae(**SOFT)
    w = world(o)
    expected = w.total(soft, phase)
    for progress in (0.2, 0.7, 1.0):
        actual = w.total(o, phase, progress=progress)
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0, check_dtype=False)


def test_pretraining_is_soft_introvaes(world) -> None:
    o, soft = AsIntroVae(**CHOSEN), SoftIntroVae(**SOFT)
    w = world(o)
    torch.testing.assert_close(w.total(o, "pretrain"), w.total(soft, "pretrain"))


@pytest.mark.parametrize("progress", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_the_share_of_the_kl_rises_from_none_to_all(progress) -> None:
    for annealing in ("linear", "tanh"):
        c = AsIntroVae(annealing=annealing).kl_share(torch.tensor(progress))
        assert c.dtype == torch.float64
        assert c.item() == pytest.approx(share(annealing, progress))


def test_an_encoder_step_parts_the_posteriors_and_a_generator_step_joins_them(world) -> None:
    o = AsIntroVae(beta_rec=0.0, beta_kl=0.0, beta_neg=0.0, beta_as=100.0, beta_gen=1.0)
    for phase, sign in (("encoder", 1), ("generator", -1)):
        w = world(o, count=16)
        loss = w.total(o, phase)
        z, x = w.prior(), w.batch.images
        before = distance(w.encode(x), w.encode(w.decode(z)), "marginal").item()
        w.step(phase, loss)
        after = distance(w.encode(x), w.encode(w.decode(z)), "marginal").item()
        assert sign * (after - before) > 0, phase


def test_the_adversarial_terms_of_the_encoder_give_the_generator_no_gradient(world) -> None:
    o = AsIntroVae(**{**CHOSEN, "beta_rec": 0.0})
    w = world(o)
    losses = w.losses(o, "encoder", progress=0.1)
    for term in ("exp_rec", "exp_fake"):
        assert has_gradient(losses[term], w.nets.encoder)
        assert not has_gradient(losses[term], w.nets.generator)


@pytest.mark.parametrize("phase", ["encoder", "generator"])
def test_one_image_has_no_distance(world, phase) -> None:
    o = AsIntroVae()
    assert o.min_batch == 2
    w = world(o, count=1)
    with pytest.raises(ValueError, match=r"2|two"):
        w.losses(o, phase)


@pytest.mark.parametrize(
    "setting", ["beta_rec", "beta_kl", "beta_neg", "gamma_r", "beta_as", "beta_gen"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_weights_must_be_finite_and_not_negative(setting, value) -> None:
    with pytest.raises(InputError, match=setting):
        AsIntroVae(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "choices"),
    [("distance", r"marginal.*tempered.*cauchy_schwarz"), ("annealing", r"linear.*tanh")],
)
def test_unknown_choices_are_refused_with_the_known_ones(setting, choices) -> None:
    with pytest.raises(InputError, match=f"{setting}.*cosine.*{choices}"):
        AsIntroVae(**{setting: "cosine"})


def test_the_defaults_are_the_marginal_distance_and_the_papers_annealing() -> None:
    assert AsIntroVae().distance == "marginal"
    assert AsIntroVae().annealing == "linear"
    assert [p.name for p in AsIntroVae.phases] == ["encoder", "generator"]
    assert AsIntroVae.pretraining.name == "pretrain"


def test_an_as_introvae_travels_through_its_settings() -> None:
    o = AsIntroVae(distance="tempered", annealing="tanh", beta_as=3.0)
    assert OBJECTIVES["as_introvae"] is AsIntroVae
    assert objective_from(settings_of(o)) == o
