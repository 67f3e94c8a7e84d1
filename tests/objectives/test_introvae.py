"""IntroVAE: both phases against eq. 11-12 and algorithm 1 of its paper, in float64."""

import dataclasses
import math

import pytest
import torch
from float64_world import World, assert_same_with_gradients, has_gradient, kl_of, unit_errors
from torch import Tensor

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of
from pgvae.objectives.introvae import IntroVae


def fakes(w: World) -> tuple[Tensor, Tensor]:
    """Reconstructions and generated images of the last call."""
    return w.decode(w.latents_of(w.batch.images)), w.decode(w.prior())


def rec(w: World) -> Tensor:
    """Sum of squares of images in [0, 1], without the paper's 1/2."""
    return unit_errors("mse", w.batch.images, fakes(w)[0]).mean()


def encoder_loss(w: World, o: IntroVae) -> Tensor:
    """Eq. 11: KL(x) + alpha sum_s [m - KL(sg x_s)]+ + beta rec."""
    kls = [kl_of(w.encode(x_s.detach())) for x_s in fakes(w)]
    if o.hinge == "batch":
        kls = [kl.mean() for kl in kls]
    hinges = sum(torch.relu(o.margin - kl).mean() for kl in kls)
    return kl_of(w.encode(w.batch.images)).mean() + o.alpha * hinges + o.beta * rec(w)


def generator_loss(w: World, o: IntroVae) -> Tensor:
    """Eq. 12: alpha sum_s KL(x_s) + beta rec, with x_r from a z without a gradient."""
    x_r, x_f = w.decode(w.latents_of(w.batch.images).detach()), w.decode(w.prior())
    error = unit_errors("mse", w.batch.images, x_r).mean()
    return o.alpha * sum(kl_of(w.encode(x)).mean() for x in (x_r, x_f)) + o.beta * error


def between_the_kls(w: World, o: IntroVae) -> IntroVae:
    """The objective with a margin that some fakes are above and others below."""
    w.losses(o, "encoder")
    kls = [kl_of(w.encode(x_s)) for x_s in fakes(w)]
    margin = (kls[0].mean() + kls[1].mean()).item() / 2
    for kl in kls:
        assert kl.min() < margin < kl.max()
    return dataclasses.replace(o, margin=margin)


@pytest.mark.parametrize("hinge", ["sample", "batch"])
@pytest.mark.parametrize("resolution", [4, 8])
def test_the_encoders_loss_and_gradient_are_those_of_equation_11(world, hinge, resolution) -> None:
    o = IntroVae(margin=3.0, alpha=0.6, beta=0.3, hinge=hinge)
    w = world(o, count=9, resolution=resolution)
    o = between_the_kls(w, o)
    actual = w.total(o, "encoder")
    assert_same_with_gradients(actual, encoder_loss(w, o), w.nets.encoder)


@pytest.mark.parametrize("resolution", [4, 8])
def test_the_generators_loss_and_gradient_are_those_of_equation_12(world, resolution) -> None:
    o = IntroVae(alpha=0.6, beta=0.3)
    w = world(o, resolution=resolution)
    actual = w.total(o, "generator")
    assert_same_with_gradients(actual, generator_loss(w, o), w.nets.generator)


def test_no_gradient_of_the_generators_loss_passes_through_the_latents_of_reals(world) -> None:
    o = IntroVae(alpha=0.6, beta=0.3)
    w = world(o)
    assert not has_gradient(w.losses(o, "generator")["rec"], w.nets.encoder)
    # All that reaches the encoder's weights is the KL of fixed images.
    actual = w.total(o, "generator")
    assert_same_with_gradients(actual, generator_loss(w, o), w.nets.encoder)


def test_pretraining_is_a_vae_with_beta_on_the_reconstruction(world) -> None:
    o = IntroVae(beta=0.3)
    w = world(o)
    actual = w.total(o, "pretrain")
    z = w.latents_of(w.batch.images)
    error = unit_errors("mse", w.batch.images, w.decode(z)).mean()
    expected = 0.3 * error + kl_of(w.encode(w.batch.images)).mean()
    assert_same_with_gradients(actual, expected, w.nets.encoder, w.nets.generator)


def test_the_hinge_on_samples_is_not_the_hinge_on_the_batch(world) -> None:
    """[.]+ is convex: its mean is above that of the mean, unless all are on one side."""
    o = IntroVae(alpha=1.0)
    w = world(o, count=9)
    o = between_the_kls(w, o)
    per_batch = dataclasses.replace(o, hinge="batch")
    assert w.total(o, "encoder") > w.total(per_batch, "encoder") + 0.01
    high = dataclasses.replace(o, margin=1000.0)
    same = w.total(dataclasses.replace(high, hinge="batch"), "encoder")
    torch.testing.assert_close(w.total(high, "encoder"), same)


def test_the_adversarial_terms_of_the_encoder_give_the_generator_no_gradient(world) -> None:
    o = IntroVae()
    w = world(o)
    losses = w.losses(o, "encoder")
    for term in ("hinge_rec", "hinge_fake"):
        assert has_gradient(losses[term], w.nets.encoder)
        assert not has_gradient(losses[term], w.nets.generator)


@pytest.mark.parametrize("hinge", ["sample", "batch"])
def test_beyond_the_margin_the_fakes_have_no_gradient(world, hinge) -> None:
    o = IntroVae(margin=1e-3, hinge=hinge)
    w = world(o)
    losses = w.losses(o, "encoder")
    assert all(kl_of(w.encode(x_s)).min() > 1e-3 for x_s in fakes(w))
    for term in ("hinge_rec", "hinge_fake"):
        assert losses[term].item() == 0.0
        assert not has_gradient(losses[term], w.nets.encoder)
    assert has_gradient(losses["kl"], w.nets.encoder)


def test_an_encoder_step_raises_the_kl_of_fakes_below_the_margin(world) -> None:
    o = IntroVae(margin=100.0, alpha=50.0, beta=0.0)
    w = world(o, count=32)
    loss = w.total(o, "encoder")
    images = [x.detach() for x in fakes(w)]
    before = [kl_of(w.encode(x)).mean().item() for x in images]
    w.step("encoder", loss)
    for x, kl in zip(images, before, strict=True):
        assert kl_of(w.encode(x)).mean().item() > kl


def test_an_encoder_step_lowers_the_kl_of_reals(world) -> None:
    o = IntroVae(margin=0.0, beta=0.0)
    w = world(o, count=32)
    before = kl_of(w.encode(w.batch.images)).mean().item()
    w.step("encoder", w.total(o, "encoder"))
    assert kl_of(w.encode(w.batch.images)).mean().item() < before


def test_a_generator_step_lowers_the_kl_of_fakes(world) -> None:
    o = IntroVae(beta=0.0)
    w = world(o, count=32)
    loss = w.total(o, "generator")
    latents = w.latents_of(w.batch.images).detach(), w.prior()
    before = [kl_of(w.encode(w.decode(z))).mean().item() for z in latents]
    w.step("generator", loss)
    after = [kl_of(w.encode(w.decode(z))).mean().item() for z in latents]
    assert sum(after) < sum(before)


def test_without_alpha_the_encoders_loss_is_that_of_pretraining(world) -> None:
    """The paper pre-trains with alpha = 0."""
    o = IntroVae(alpha=0.0, beta=0.3)
    w = world(o)
    actual = w.total(o, "encoder")
    kl = kl_of(w.encode(w.batch.images)).mean()
    torch.testing.assert_close(actual, kl + 0.3 * rec(w), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("resolution", "margin", "beta", "latent_dim"),
    [(128, 110, 0.5, 256), (256, 120, 0.05, 512), (1024, 90, 0.0025, 512)],
)
def test_presets_are_those_of_the_paper(resolution, margin, beta, latent_dim) -> None:
    preset = IntroVae.preset(resolution)
    assert dict(preset.settings) == {"margin": margin, "alpha": 0.25, "beta": beta}
    assert preset.latent_dim == latent_dim
    assert preset.arch == "residual"


@pytest.mark.parametrize(("resolution", "nearest"), [(16, 128), (32, 128), (64, 128), (512, 256)])
def test_other_resolutions_keep_the_weight_of_the_nearest(resolution, nearest) -> None:
    """The error is a sum over pixels: beta times their number stays."""
    own, known = IntroVae.preset(resolution), IntroVae.preset(nearest)
    assert own.settings["margin"] == known.settings["margin"]
    assert own.latent_dim == known.latent_dim
    weight = known.settings["beta"] * nearest**2
    assert own.settings["beta"] * resolution**2 == pytest.approx(weight, rel=1e-12)


def test_it_is_trained_as_in_the_paper() -> None:
    assert IntroVae.betas == (0.9, 0.999)
    assert [(p.name, p.trains, p.repeats) for p in IntroVae.phases] == [
        ("encoder", ("encoder",), 1),
        ("generator", ("generator",), 1),
    ]
    assert IntroVae.pretraining.name == "pretrain"
    assert set(IntroVae.pretraining.trains) == {"encoder", "generator"}
    assert IntroVae().hinge == "sample"
    assert IntroVae().model_settings()["head"] == "gaussian"


@pytest.mark.parametrize("setting", ["margin", "alpha", "beta"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_weights_and_margin_must_be_finite_and_not_negative(setting, value) -> None:
    with pytest.raises(InputError, match=setting):
        IntroVae(**{setting: value})


def test_an_unknown_hinge_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"hinge.*soft.*sample.*batch"):
        IntroVae(hinge="soft")


def test_an_introvae_travels_through_its_settings() -> None:
    o = IntroVae(margin=7.0, hinge="batch")
    assert OBJECTIVES["introvae"] is IntroVae
    assert objective_from(settings_of(o)) == o
