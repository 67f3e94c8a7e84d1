"""IntroVAC: both phases against eq. 6-7 and algorithm 1 of its paper, in float64."""

import math

import pytest
import torch
from float64_world import (
    D,
    World,
    assert_same_with_gradients,
    bce,
    has_gradient,
    kl_of,
)
from torch import Tensor

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of
from pgvae.objectives.introvac import IntroVac

CHOSEN = {"b_ae": 7.0, "b_cl": 2.0, "b_reg": 0.6, "b_ec": 1.7, "b_g": 1.3}
NAN = math.nan
LABELS = [[0.0, 1.0], [1.0, 1.0], [NAN, 0.0], [1.0, NAN], [NAN, NAN]]


def labels(known: bool = True) -> Tensor:
    values = torch.tensor(LABELS, dtype=torch.float64)
    return values.nan_to_num(1.0) if known else values


def with_real(y: Tensor) -> Tensor:
    """[y, 0]: the last logit asks whether an image is a fake."""
    return torch.cat([y, torch.zeros(len(y), 1)], dim=1)


def mean_error(w: World, latents: Tensor) -> Tensor:
    x = w.batch.images
    return (x - w.decode(latents)).abs().sum() / x.numel()


def logits(w: World, images: Tensor) -> Tensor:
    """What the classifier says about the posterior means of fakes."""
    return w.nets.encoder.classify(w.encode(images).mean)


def encoder_loss(w: World, o: IntroVac) -> Tensor:
    """b_ae L1 + b_cl BCE(C(z_r), [y, 0]) + b_reg KL/d + b_ec sum_s BCE(fake(x_s), 1)."""
    x, z = w.batch.images, w.latents_of(w.batch.images)
    classes = bce(w.nets.encoder.classify(z), with_real(w.batch.labels))
    found = 0.0
    for x_s in (w.decode(z).detach(), w.decode(w.prior()).detach()):
        fake = logits(w, x_s)[:, -1]
        found = found + bce(fake, torch.ones_like(fake))
    kl = kl_of(w.encode(x)).mean() / D
    return o.b_ae * mean_error(w, z) + o.b_cl * classes + o.b_reg * kl + o.b_ec * found


def generator_loss(w: World, o: IntroVac) -> Tensor:
    """b_ae L1 + b_g (BCE(C(x_rr), [y, 0]) + BCE(fake(x_f), 0)), x_rr = G(sg z_r)."""
    z = w.latents_of(w.batch.images).detach()
    classes = bce(logits(w, w.decode(z)), with_real(w.batch.labels))
    fake = logits(w, w.decode(w.prior()))[:, -1]
    return o.b_ae * mean_error(w, z) + o.b_g * (classes + bce(fake, torch.zeros_like(fake)))


REFERENCES = {"encoder": encoder_loss, "generator": generator_loss}


@pytest.mark.parametrize("known", [True, False], ids=["all labels", "some labels"])
@pytest.mark.parametrize("resolution", [4, 8])
@pytest.mark.parametrize("phase", ["encoder", "generator"])
def test_the_loss_and_its_gradient_are_those_of_algorithm_1(
    world, known, resolution, phase
) -> None:
    o = IntroVac(**CHOSEN)
    w = world(o, resolution=resolution, labels=labels(known))
    actual = w.total(o, phase)
    # Cross entropy is computed in float32.
    trained = getattr(w.nets, phase)
    assert_same_with_gradients(actual, REFERENCES[phase](w, o), trained, rtol=1e-6)


@pytest.mark.parametrize("phase", ["encoder", "generator"])
def test_without_a_known_label_fakes_and_reals_are_still_told_apart(world, phase) -> None:
    """[y, 0] keeps its 0."""
    o = IntroVac(**CHOSEN)
    w = world(o, labels=torch.full((5, 2), NAN, dtype=torch.float64))
    actual = w.total(o, phase)
    trained = getattr(w.nets, phase)
    assert_same_with_gradients(actual, REFERENCES[phase](w, o), trained, rtol=1e-6)


def test_fakes_enter_the_encoders_loss_as_images(world) -> None:
    """The generator's one share in that loss is the reconstruction error."""
    o = IntroVac(**CHOSEN)
    w = world(o, labels=labels())
    losses = w.losses(o, "encoder")
    assert has_gradient(losses["fake"], w.nets.encoder)
    for term in ("fake", "class", "kl"):
        assert not has_gradient(losses[term], w.nets.generator)


def test_no_gradient_of_the_generators_loss_passes_through_the_latents_of_reals(world) -> None:
    o = IntroVac(**CHOSEN)
    w = world(o, labels=labels())
    assert not has_gradient(w.losses(o, "generator")["rec"], w.nets.encoder)
    actual = w.total(o, "generator")
    assert_same_with_gradients(actual, generator_loss(w, o), w.nets.encoder, rtol=1e-6)


def test_the_encoder_learns_to_find_fakes_and_the_generator_to_hide_them(world) -> None:
    weights = {"b_ae": 0.0, "b_cl": 0.0, "b_reg": 0.0, "b_ec": 1.0}
    o = IntroVac(**weights)
    w = world(o, labels=labels())
    loss = w.total(o, "encoder")
    images = [w.decode(z).detach() for z in (w.latents_of(w.batch.images), w.prior())]
    before = [logits(w, x)[:, -1].mean().item() for x in images]
    w.step("encoder", loss)
    for x, logit in zip(images, before, strict=True):
        assert logits(w, x)[:, -1].mean().item() > logit
    w = world(o, labels=labels())
    loss = w.total(o, "generator")
    z = w.prior()
    before = logits(w, w.decode(z))[:, -1].mean().item()
    w.step("generator", loss)
    assert logits(w, w.decode(z))[:, -1].mean().item() < before


def test_the_generator_learns_the_classes_of_its_reconstructions(world) -> None:
    o = IntroVac(b_ae=0.0, b_g=1.0)
    w = world(o, labels=labels(known=False))
    before = w.losses(o, "generator")["class_rec"]
    w.step("generator", before)
    assert w.losses(o, "generator")["class_rec"].item() < before.item()


def test_the_classifier_has_a_logit_for_each_label_and_one_for_fakes() -> None:
    assert IntroVac().needs_labels
    assert [IntroVac().model_settings(k)["classes"] for k in (1, 2, 40)] == [2, 3, 41]
    assert IntroVac().model_settings(2)["head"] == "gaussian"


def test_it_is_trained_encoder_first() -> None:
    assert [(p.name, p.trains, p.repeats) for p in IntroVac.phases] == [
        ("encoder", ("encoder",), 1),
        ("generator", ("generator",), 1),
    ]


def test_the_defaults_are_the_papers() -> None:
    assert settings_of(IntroVac()) == {
        "name": "introvac",
        "b_ae": 100.0,
        "b_cl": 10.0,
        "b_reg": 3.0,
        "b_ec": 0.01,
        "b_g": 5.0,
    }
    assert IntroVac.preset(128).latent_dim == 256


@pytest.mark.parametrize("setting", ["b_ae", "b_cl", "b_reg", "b_ec", "b_g"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_weights_must_be_finite_and_not_negative(setting, value) -> None:
    with pytest.raises(InputError, match=setting):
        IntroVac(**{setting: value})


def test_an_introvac_travels_through_its_settings() -> None:
    o = IntroVac(**CHOSEN)
    assert OBJECTIVES["introvac"] is IntroVac
    assert objective_from(settings_of(o)) == o
