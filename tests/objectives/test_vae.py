"""The VAE: rec(x, G(z)) + beta_kl KL, sums over pixels and dimensions."""

import math

import numpy as np
import pytest
import torch

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, objective_from, settings_of


def Vae(**settings):  # noqa: N802
    return OBJECTIVES["vae"](**settings)


def pixel_errors(rec: str, x: np.ndarray, x_r: np.ndarray) -> np.ndarray:
    if rec == "mse":
        return (x - x_r) ** 2
    if rec == "l1":
        return np.abs(x - x_r)
    p, q = (x + 1) / 2, (x_r + 1) / 2
    return -p * np.log(q) - (1 - p) * np.log1p(-q)


def losses_and_expected(g, objective, alpha: float = 1.0, seed: int = 0):
    """The losses of the one phase, and rec and KL recomputed in float64."""
    losses = g.losses(objective, "both", alpha=alpha, seed=seed)
    (z,) = (z.detach() for z in g.decoded)
    x = g.batch.images
    mean, logvar = (t.detach().double().numpy() for t in g.nets.encoder(x, alpha))
    x_r = g.nets.generator(z, alpha).detach().double().numpy()
    error = pixel_errors(objective.rec, x.double().numpy(), x_r).sum() / len(x)
    scale = (16 / x.shape[-1]) ** 2
    kl = -0.5 * (1 + logvar - mean**2 - np.exp(logvar)).sum() / len(x)
    noise = (z.double().numpy() - mean) / np.exp(logvar / 2)
    return losses, scale * error, kl, noise


@pytest.mark.parametrize("resolution", [8, 16])
@pytest.mark.parametrize("rec", ["mse", "l1", "bce"])
def test_the_loss_is_the_reconstruction_plus_beta_times_the_kl(game, rec, resolution) -> None:
    """Below the final 16 px the sum over pixels is scaled by the ratio of pixels."""
    objective = Vae(rec=rec, beta_kl=0.7)
    g = game(objective, resolution=resolution)
    losses, rec_sum, kl, _ = losses_and_expected(g, objective)
    assert losses["rec"].item() == pytest.approx(rec_sum, rel=1e-4)
    assert losses["kl"].item() == pytest.approx(0.7 * kl, rel=1e-4)
    assert set(losses) == {"rec", "kl"}


def test_alpha_reaches_both_networks(game) -> None:
    objective = Vae()
    g = game(objective, fading=True)
    losses, rec_sum, kl, _ = losses_and_expected(g, objective, alpha=0.3)
    assert g.alphas == [0.3] * len(g.alphas)
    assert losses["rec"].item() == pytest.approx(rec_sum, rel=1e-4)
    assert losses["kl"].item() == pytest.approx(kl, rel=1e-4)


def test_latents_are_drawn_from_the_posterior(game) -> None:
    objective = Vae()
    g = game(objective, count=500)
    *_, noise = losses_and_expected(g, objective)
    assert noise.shape == (500, 6)
    assert np.abs(noise.mean(0)).max() < 0.2
    assert np.abs(np.cov(noise.T) - np.eye(6)).max() < 0.25


def test_the_noise_is_decided_by_the_contexts_generator(game) -> None:
    objective = Vae()
    g = game(objective)
    before = torch.random.get_rng_state()
    first, again, other = (
        g.losses(objective, "both", seed=seed)["rec"].item() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again
    assert first != other


def test_one_phase_trains_both_networks(game) -> None:
    objective = Vae()
    assert [(set(p.trains), p.repeats) for p in objective.phases] == [({"encoder", "generator"}, 1)]
    g = game(objective, fading=True)
    sum(g.losses(objective, objective.phases[0].name, alpha=0.5).values()).backward()
    for net in (g.nets.encoder, g.nets.generator):
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_the_kl_reaches_the_encoder_alone_and_the_reconstruction_both(game) -> None:
    objective = Vae()
    g = game(objective)
    losses = g.losses(objective, "both")
    generator = list(g.nets.generator.parameters())
    encoder = list(g.nets.encoder.parameters())
    grads = torch.autograd.grad(losses["kl"], generator, allow_unused=True, retain_graph=True)
    assert all(grad is None for grad in grads)
    assert all(g.any() for g in torch.autograd.grad(losses["rec"], encoder + generator))


def test_gradient_steps_lower_the_loss(game) -> None:
    objective = Vae()
    for net in ("encoder", "generator"):
        g = game(objective)
        before = sum(g.losses(objective, "both").values())
        g.step(net, before, size=0.01)
        assert sum(g.losses(objective, "both").values()).item() < before.item()


def test_without_weight_the_kl_has_no_gradient(game) -> None:
    objective = Vae(beta_kl=0.0)
    g = game(objective)
    assert g.losses(objective, "both").get("kl", torch.zeros(())).item() == 0.0


def test_beta_scales_the_kl_alone(game) -> None:
    g = game(Vae())
    one, half = (g.losses(Vae(beta_kl=beta), "both") for beta in (2.0, 1.0))
    assert half["kl"].item() == pytest.approx(0.5 * one["kl"].item(), rel=1e-6)
    assert half["rec"].item() == one["rec"].item()


def test_the_kl_is_reported_without_its_weight(game) -> None:
    objective = Vae(beta_kl=0.25)
    g = game(objective)
    *_, kl, _ = losses_and_expected(g, objective)
    assert g.reported["kl_real"].item() == pytest.approx(kl, rel=1e-4)


def test_the_encoder_has_a_gaussian_head_and_bce_a_tanh_output() -> None:
    assert Vae().model_settings()["head"] == "gaussian"
    assert Vae(rec="bce").model_settings()["output"] == "tanh"
    assert Vae(rec="mse").model_settings().get("output", "linear") == "linear"


@pytest.mark.parametrize("beta_kl", [math.nan, math.inf, -1.0])
def test_beta_must_be_finite_and_not_negative(beta_kl) -> None:
    with pytest.raises(InputError, match="beta_kl"):
        Vae(beta_kl=beta_kl)


def test_an_unknown_reconstruction_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"l2.*mse.*l1.*bce"):
        Vae(rec="l2")


def test_a_vae_travels_through_its_settings() -> None:
    vae = Vae(rec="l1", beta_kl=0.25)
    assert settings_of(vae) == {"name": "vae", "rec": "l1", "beta_kl": 0.25}
    assert objective_from(settings_of(vae)) == vae


def test_an_unknown_setting_of_a_vae_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"beta_k'.*beta_kl"):
        objective_from({"name": "vae", "beta_k": 1.0})
