"""VAC: a VAE and a linear classifier of its latents (eq. 3-5 of IntroVAC's paper), in float64."""

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
from pgvae.objectives.vac import Vac

CHOSEN = {"b_ae": 7.0, "b_cl": 2.0, "b_reg": 0.6}
NAN = math.nan
LABELS = [[0.0, 1.0], [1.0, 1.0], [NAN, 0.0], [1.0, NAN], [NAN, NAN]]


def labels(known: bool) -> Tensor:
    values = torch.tensor(LABELS, dtype=torch.float64)
    return values.nan_to_num(1.0) if known else values


def loss_of(w: World, o: Vac) -> Tensor:
    """b_ae mean|x - x_r| + b_cl BCE(C(z_r), y) + b_reg KL/d."""
    x, z = w.batch.images, w.latents_of(w.batch.images)
    rec = (x - w.decode(z)).abs().sum() / x.numel()
    kl = kl_of(w.encode(x)).mean() / D
    return o.b_ae * rec + o.b_cl * bce(w.nets.encoder.classify(z), w.batch.labels) + o.b_reg * kl


@pytest.mark.parametrize("known", [True, False], ids=["all labels", "some labels"])
@pytest.mark.parametrize("resolution", [4, 8])
def test_the_loss_and_its_gradient_are_those_of_the_papers_objective(
    world, known, resolution
) -> None:
    o = Vac(**CHOSEN)
    w = world(o, resolution=resolution, labels=labels(known))
    actual = w.total(o, "both")
    # Cross entropy is computed in float32.
    assert_same_with_gradients(actual, loss_of(w, o), w.nets.encoder, w.nets.generator, rtol=1e-6)


def test_without_a_known_label_only_the_vae_is_left(world) -> None:
    o = Vac(**CHOSEN)
    w = world(o, labels=torch.full((5, 2), NAN, dtype=torch.float64))
    actual = w.total(o, "both")
    w.batch = type(w.batch)(w.batch.images, labels(known=True))
    vae = loss_of(w, Vac(**{**CHOSEN, "b_cl": 0.0}))
    assert_same_with_gradients(actual, vae, w.nets.encoder, w.nets.generator, rtol=1e-6)


def test_the_classifier_learns_from_latents_and_the_generator_from_the_error_alone(world) -> None:
    o = Vac(**CHOSEN)
    w = world(o, labels=labels(known=True))
    losses = w.losses(o, "both")
    assert has_gradient(losses["class"], w.nets.encoder)
    assert not has_gradient(losses["class"], w.nets.generator)
    assert not has_gradient(losses["kl"], w.nets.generator)
    assert has_gradient(losses["rec"], w.nets.generator)
    (grad,) = torch.autograd.grad(losses["class"], [w.nets.encoder.classifier])
    assert grad.any()


def test_a_step_of_both_networks_lowers_the_loss(world) -> None:
    o = Vac(**CHOSEN)
    for net in ("encoder", "generator"):
        w = world(o, labels=labels(known=False))
        before = w.total(o, "both")
        w.step(net, before)
        assert w.total(o, "both").item() < before.item()


def test_the_classifier_has_a_logit_for_each_label() -> None:
    assert Vac().needs_labels
    assert [Vac().model_settings(k)["classes"] for k in (1, 2, 40)] == [1, 2, 40]
    assert Vac().model_settings(2)["head"] == "gaussian"


def test_one_phase_trains_both_networks() -> None:
    assert [(p.name, set(p.trains), p.repeats) for p in Vac.phases] == [
        ("both", {"encoder", "generator"}, 1)
    ]


def test_the_defaults_are_the_papers() -> None:
    assert settings_of(Vac()) == {"name": "vac", "b_ae": 100.0, "b_cl": 10.0, "b_reg": 3.0}
    assert OBJECTIVES["vac"] is Vac


@pytest.mark.parametrize("setting", ["b_ae", "b_cl", "b_reg"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_weights_must_be_finite_and_not_negative(setting, value) -> None:
    with pytest.raises(InputError, match=setting):
        Vac(**{setting: value})


def test_a_vac_travels_through_its_settings() -> None:
    o = Vac(**CHOSEN)
    assert objective_from(settings_of(o)) == o
