"""AGE's game: every term of both phases recomputed (eq. 1-6 of PIONEER's paper)."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of

D = 6


def moment_kl(codes: Tensor) -> float:
    """Eq. 1, in float64: -d/2 + sum (s^2 + m^2) / 2 - log s."""
    z = codes.detach().double().numpy()
    m, s = z.mean(0), z.std(0)
    return float(-z.shape[1] / 2 + np.sum((s**2 + m**2) / 2 - np.log(s)))


def mean_abs(a: Tensor, b: Tensor) -> float:
    return float(np.abs(a.detach().double().numpy() - b.detach().double().numpy()).mean())


@pytest.fixture(params=["age", "pioneer"])
def objective(request):
    return OBJECTIVES[request.param]()


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_the_encoders_loss_is_equation_4(objective, game, alpha) -> None:
    """KL(E(x)) - KL(E(x_f)) + 10 d mean|x - G(E(x))|."""
    g = game(objective, fading=True)
    losses = g.losses(objective, "encoder", alpha=alpha)
    assert set(g.alphas) == {alpha}
    nets, x = g.nets, g.batch.images
    prior = [z.clone() for z in g.decoded]
    real = nets.encoder(x, alpha).mean
    x_r = nets.generator(real, alpha)
    (z,) = (z for z in prior if not torch.allclose(z, real, atol=1e-5))
    assert z.shape == (8, D)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(8))
    fake = nets.encoder(nets.generator(z, alpha), alpha).mean
    assert losses["kl_real"].item() == pytest.approx(moment_kl(real), rel=1e-4)
    assert losses["kl_fake"].item() == pytest.approx(-moment_kl(fake), rel=1e-4)
    assert losses["rec_x"].item() == pytest.approx(10 * D * mean_abs(x, x_r), rel=1e-4)
    assert set(losses) == {"kl_real", "kl_fake", "rec_x"}


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_the_generators_loss_is_equation_6(objective, game, alpha) -> None:
    """KL(E(x_f)) + 1000 mean(1 - <z, E(x_f)>)."""
    g = game(objective, fading=True)
    losses = g.losses(objective, "generator", alpha=alpha)
    assert set(g.alphas) == {alpha}
    (z,) = (z.clone() for z in g.decoded)
    fake = g.nets.encoder(g.nets.generator(z, alpha), alpha).mean
    cosine = (z.double() * fake.double()).sum(1)
    expected = 1000 * (1 - cosine).mean().item()
    assert losses["kl_fake"].item() == pytest.approx(moment_kl(fake), rel=1e-4)
    assert losses["rec_z"].item() == pytest.approx(expected, rel=1e-4)
    assert set(losses) == {"kl_fake", "rec_z"}


def test_the_weights_scale_their_terms_and_no_others(game) -> None:
    for name in ("age", "pioneer"):
        base, other = OBJECTIVES[name](), OBJECTIVES[name](lambda_x=2.5, lambda_z=30.0)
        g = game(base)
        for phase, term, ratio in (("encoder", "rec_x", 0.25), ("generator", "rec_z", 0.03)):
            before, after = g.losses(base, phase), g.losses(other, phase)
            for key in before:
                factor = ratio if key == term else 1.0
                assert after[key].item() == pytest.approx(factor * before[key].item(), rel=1e-5)


def test_lambda_x_is_in_units_of_d(game) -> None:
    objective = OBJECTIVES["age"]()
    for d in (3, 12):
        g = game(objective, latent_dim=d)
        losses = g.losses(objective, "encoder")
        x = g.batch.images
        x_r = g.nets.generator(g.nets.encoder(x).mean)
        assert losses["rec_x"].item() == pytest.approx(10 * d * mean_abs(x, x_r), rel=1e-4)


def test_there_are_two_generator_updates_for_one_of_the_encoder(objective) -> None:
    phases = [(p.name, p.trains, p.repeats) for p in objective.phases]
    assert phases == [("encoder", ("encoder",), 1), ("generator", ("generator",), 2)]


@pytest.mark.parametrize("phase", ["encoder", "generator"])
def test_a_phase_reaches_every_parameter_that_it_trains_and_no_other(
    objective, game, phase
) -> None:
    g = game(objective, fading=True)
    g.train_only(phase)
    sum(g.losses(objective, phase, alpha=0.5).values()).backward()
    other = {"encoder": "generator", "generator": "encoder"}[phase]
    for name, parameter in getattr(g.nets, phase).named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in getattr(g.nets, other).parameters())


def test_nothing_flows_into_the_generator_through_the_fakes_of_the_encoder_phase(
    objective, game
) -> None:
    g = game(objective)
    losses = g.losses(objective, "encoder")
    weights = list(g.nets.generator.parameters())
    for term in ("kl_real", "kl_fake"):
        grads = torch.autograd.grad(losses[term], weights, allow_unused=True, retain_graph=True)
        assert all(grad is None or not grad.any() for grad in grads), term
    assert not g.replayed[0].requires_grad


def test_the_image_reconstruction_reaches_the_encoder_through_the_generator(
    objective, game
) -> None:
    g = game(objective)
    g.train_only("encoder")
    losses = g.losses(objective, "encoder")
    x = g.batch.images
    weights = list(g.nets.encoder.parameters())
    actual = torch.autograd.grad(losses["rec_x"], weights)
    x_r = g.nets.generator(g.nets.encoder(x).mean)
    expected = torch.autograd.grad(10 * D * (x - x_r).abs().sum() / x.numel(), weights)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_latent_reconstruction_reaches_the_generator_through_the_encoder(
    objective, game
) -> None:
    g = game(objective)
    g.train_only("generator")
    losses = g.losses(objective, "generator")
    (z,) = g.decoded
    weights = list(g.nets.generator.parameters())
    actual = torch.autograd.grad(losses["rec_z"], weights)
    fake = g.nets.encoder(g.nets.generator(z)).mean
    expected = torch.autograd.grad(1000 * (1 - (z * fake).sum(1)).mean(), weights)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_encoder_steps_lower_the_kl_of_reals_and_raise_that_of_fakes(objective, game) -> None:
    kl = {}
    for term in (None, "kl_real", "kl_fake"):
        g = game(objective, count=64)
        if term:
            g.step("encoder", g.losses(objective, "encoder")[term], size=0.01)
        losses = g.losses(objective, "encoder")
        kl[term] = losses["kl_real"].item(), -losses["kl_fake"].item()
    assert kl["kl_real"][0] < kl[None][0]
    assert kl["kl_fake"][1] > kl[None][1]


def test_generator_steps_lower_the_kl_of_fakes_and_the_latent_error(objective, game) -> None:
    for term in ("kl_fake", "rec_z"):
        g = game(objective, count=64)
        before = g.losses(objective, "generator")[term]
        g.step("generator", before, size=0.01)
        assert g.losses(objective, "generator")[term].item() < before.item()


def test_the_replayed_fakes_are_those_that_the_encoder_sees(objective, game) -> None:
    g = game(objective)
    earlier = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(7)) * 2 - 1
    losses = g.losses(objective, "encoder", replay=lambda fakes: earlier)
    assert len(g.replayed) == 1
    assert g.replayed[0].shape == earlier.shape
    expected = -moment_kl(g.nets.encoder(earlier).mean)
    assert losses["kl_fake"].item() == pytest.approx(expected, rel=1e-4)


def test_the_generator_trains_on_its_own_fakes_alone(objective, game) -> None:
    g = game(objective)
    plain = g.losses(objective, "generator")
    swapped = g.losses(objective, "generator", replay=torch.zeros_like)
    assert {k: v.item() for k, v in plain.items()} == {k: v.item() for k, v in swapped.items()}


@pytest.mark.parametrize("phase", ["encoder", "generator"])
def test_losses_are_decided_by_the_contexts_generator(objective, game, phase) -> None:
    g = game(objective)
    before = torch.random.get_rng_state()
    first, again, other = (
        g.losses(objective, phase, seed=seed)["kl_fake"].item() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again
    assert first != other


def test_losses_are_finite_scalars_of_full_precision(objective, game) -> None:
    g = game(objective, count=2)
    for phase in ("encoder", "generator"):
        for loss in g.losses(objective, phase).values():
            assert loss.shape == ()
            assert loss.dtype == torch.float32
            assert math.isfinite(loss.item())


def test_age_neither_grows_nor_replays_nor_normalises_spectrally() -> None:
    age = OBJECTIVES["age"]()
    assert not age.grows
    assert not age.pool
    assert age.stage_settings(64, faded=True, grown=True) == {}
    assert age.model_settings()["encoder_norm"] != "spectral"
    assert age.model_settings()["head"] == "sphere"


@pytest.mark.parametrize("name", ["age", "pioneer"])
@pytest.mark.parametrize("weight", ["lambda_x", "lambda_z"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_weights_must_be_finite_and_not_negative(name, weight, value) -> None:
    with pytest.raises(InputError, match=weight):
        objective_from({"name": name, weight: value})


def test_age_travels_through_its_settings() -> None:
    age = OBJECTIVES["age"](lambda_x=3.0)
    assert settings_of(age) == {"name": "age", "lambda_x": 3.0, "lambda_z": 1000.0}
    assert objective_from(settings_of(age)) == age
