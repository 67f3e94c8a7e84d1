"""Soft-IntroVAE and AS-IntroVAE against eq. 4 and 5-9 of AS-IntroVAE's paper, in float64."""

import math

import pytest
import torch
from torch import Tensor
from world import FINAL, World, kl_of, unit_errors

from pgvae.objectives.as_introvae import AsIntroVae
from pgvae.objectives.soft_introvae import SoftIntroVae
from pgvae.objectives.terms import as_distance

SCALE = 1 / (3 * FINAL**2)
CHOSEN = {"beta_rec": 0.7, "beta_kl": 0.4, "beta_neg": 9.0, "gamma_r": 0.3}
APART = {"beta_as": 150.0, "beta_gen": 40.0}


def pretraining_loss(w: World, o: SoftIntroVae) -> Tensor:
    """s (b_rec rec + b_kl KL)."""
    x = w.batch.images
    error = unit_errors(o.rec, x, w.decode(w.latents_of(x))).mean()
    return SCALE * (o.beta_rec * error + o.beta_kl * w.kl(x))


def encoder_loss(w: World, o: SoftIntroVae, c: float = 1.0) -> Tensor:
    """Pre-training's + 1/4 sum_s mean exp(-2 s (b_rec rec_s + c b_neg KL_s + (1 - c) b_as D))."""
    x = w.batch.images
    x_r, x_f = (w.decode(z).detach() for z in (w.latents_of(x), w.prior()))
    loss = pretraining_loss(w, o)
    apart = (1 - c) * o.beta_as * distance(w, o, w.encode(x), x_f) if c < 1 else 0
    for x_s in (x_r, x_f):
        rec_s = unit_errors(o.rec, x_s, w.decode(w.latents_of(x_s)))
        negative = o.beta_rec * rec_s + c * o.beta_neg * kl_of(w.encode(x_s)) + apart
        loss = loss + 0.25 * torch.exp(-2 * SCALE * negative).mean()
    return loss


def generator_loss(w: World, o: SoftIntroVae, c: float = 1.0) -> Tensor:
    """s (b_rec rec + sum_s (c b_kl/2 KL_s + gamma_r b_rec/2 rec_s) + (1 - c) b_gen D)."""
    x = w.batch.images
    x_r, x_f = w.decode(w.latents_of(x).detach()), w.decode(w.prior())
    loss = o.beta_rec * unit_errors(o.rec, x, x_r).mean()
    for x_s in (x_r, x_f):
        rec_s = unit_errors(o.rec, x_s.detach(), w.decode(w.latents_of(x_s).detach()))
        loss = loss + 0.5 * c * o.beta_kl * w.kl(x_s)
        loss = loss + 0.5 * o.gamma_r * o.beta_rec * rec_s.mean()
    if c < 1:
        real = (part.detach() for part in w.encode(x))
        loss = loss + (1 - c) * o.beta_gen * distance(w, o, real, x_f)
    return SCALE * loss


def distance(w: World, o: AsIntroVae, real: tuple[Tensor, Tensor], x_f: Tensor) -> Tensor:
    return as_distance(*real, *w.encode(x_f), o.distance)


EQUATIONS = {"pretrain": pretraining_loss, "encoder": encoder_loss, "generator": generator_loss}


@pytest.mark.parametrize("rec", ["mse", "l1", "bce"])
@pytest.mark.parametrize("resolution", [4, 8])
@pytest.mark.parametrize("phase", EQUATIONS)
def test_losses_are_equation_4(world, phase, resolution, rec) -> None:
    o = SoftIntroVae(rec=rec, **CHOSEN)
    world(o, resolution=resolution).check(o, phase, EQUATIONS[phase])


def share(annealing: str, progress: float) -> float:
    return min(5 * progress, 1) if annealing == "linear" else math.tanh(5 * progress)


@pytest.mark.parametrize("form", ["marginal", "tempered", "cauchy_schwarz"])
@pytest.mark.parametrize("resolution", [4, 8])
@pytest.mark.parametrize("phase", ["encoder", "generator"])
@pytest.mark.parametrize(
    ("annealing", "progress"), [("linear", 0.0), ("linear", 0.13), ("tanh", 0.13), ("linear", 0.6)]
)
def test_losses_with_the_distance_are_equations_5_to_9(
    world, annealing, progress, phase, resolution, form
) -> None:
    o = AsIntroVae(distance=form, annealing=annealing, **CHOSEN, **APART)
    w = world(o, resolution=resolution)
    c = share(annealing, progress)
    # The weights are rounded to float32.
    w.check(o, phase, lambda w, o: EQUATIONS[phase](w, o, c), rtol=1e-6, progress=progress)
    assert w.reported["c"].item() == pytest.approx(c)
    assert abs(w.reported["as_distance"].item()) > 1e-3  # else a wrong one would look right


@pytest.mark.parametrize("kind", [SoftIntroVae, AsIntroVae])
@pytest.mark.parametrize("phase", EQUATIONS)
def test_once_annealed_as_introvae_is_soft_introvae(world, phase, kind) -> None:
    o = kind(**CHOSEN)
    for progress in (0.2, 0.7, 1.0):
        world(o).check(o, phase, EQUATIONS[phase], rtol=1e-6, progress=progress)


@pytest.mark.parametrize("progress", [0.0, 0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("annealing", ["linear", "tanh"])
def test_the_share_of_the_kl_rises_from_none_to_all(annealing, progress) -> None:
    c = AsIntroVae(annealing=annealing).kl_share(torch.tensor(progress))
    assert c.dtype == torch.float64
    assert c.item() == pytest.approx(share(annealing, progress))


def test_far_fakes_have_no_gradient(world) -> None:
    """exp(-2 s b_neg KL) vanishes smoothly where IntroVAE's hinge is cut off."""
    o = SoftIntroVae(beta_neg=1e6)
    w = world(o)
    losses = w.losses(o, "encoder")
    assert losses["exp_fake"].item() == pytest.approx(0.0, abs=1e-30)
    gradient = torch.autograd.grad(losses["exp_fake"], list(w.nets.encoder.parameters()))
    assert all(grad.abs().max() < 1e-20 for grad in gradient)


def test_gamma_of_zero_saves_the_pass_over_reconstructions_of_fakes(world) -> None:
    o = SoftIntroVae(gamma_r=0.0)
    w = world(o)
    assert "rec_others" not in w.losses(o, "generator")
    assert sum(map(len, w.decoded)) == 2 * len(w.batch.images)


@pytest.mark.parametrize(
    ("resolution", "beta_kl", "beta_rec", "beta_neg", "latent_dim"),
    [(32, 1, 1, 256, 128), (128, 0.2, 0.2, 256, 128), (256, 0.5, 1, 1024, 256)],
)
def test_presets_are_the_published_ones(
    resolution, beta_kl, beta_rec, beta_neg, latent_dim
) -> None:
    soft, apart = SoftIntroVae.preset(resolution), AsIntroVae.preset(resolution)
    weights = {"beta_kl": beta_kl, "beta_rec": beta_rec, "beta_neg": beta_neg}
    assert dict(soft.settings) == weights
    assert dict(apart.settings) == {**weights, "beta_as": beta_neg, "beta_gen": beta_kl}
    assert soft.latent_dim == apart.latent_dim == latent_dim


@pytest.mark.parametrize(("resolution", "nearest"), [(8, 32), (64, 32), (512, 256), (1024, 256)])
def test_other_resolutions_take_the_weights_of_the_nearest(resolution, nearest) -> None:
    """s, one over the number of values, already keeps the balance."""
    assert SoftIntroVae.preset(resolution).settings == SoftIntroVae.preset(nearest).settings
