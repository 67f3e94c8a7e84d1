"""IntroVAE: both phases against eq. 11-12 and algorithm 1 of its paper, in float64."""

import dataclasses

import pytest
import torch
from torch import Tensor
from world import World, kl_of, unit_errors

from pgvae.objectives.introvae import IntroVae


def pretraining_loss(w: World, o: IntroVae) -> Tensor:
    """KL(x) + beta rec: the sum of squares of images in [0, 1], without the paper's 1/2."""
    x = w.batch.images
    return w.kl(x) + o.beta * unit_errors("mse", x, w.decode(w.latents_of(x))).mean()


def encoder_loss(w: World, o: IntroVae) -> Tensor:
    """Eq. 11: KL(x) + alpha sum_s [m - KL(sg x_s)]+ + beta rec; alpha is 0 in pre-training."""
    loss = pretraining_loss(w, o)
    for z in (w.latents_of(w.batch.images), w.prior()):
        kl = kl_of(w.encode(w.decode(z).detach()))
        kl = kl.mean() if o.hinge == "batch" else kl
        loss = loss + o.alpha * torch.relu(o.margin - kl).mean()
    return loss


def generator_loss(w: World, o: IntroVae) -> Tensor:
    """Eq. 12: alpha sum_s KL(x_s) + beta rec, with x_r from a z without a gradient."""
    x_r, x_f = w.decode(w.latents_of(w.batch.images).detach()), w.decode(w.prior())
    error = unit_errors("mse", w.batch.images, x_r).mean()
    return o.alpha * (w.kl(x_r) + w.kl(x_f)) + o.beta * error


EQUATIONS = {"pretrain": pretraining_loss, "encoder": encoder_loss, "generator": generator_loss}


@pytest.mark.parametrize("hinge", ["sample", "batch"])
@pytest.mark.parametrize("resolution", [4, 8])
@pytest.mark.parametrize("phase", EQUATIONS)
def test_losses_are_equations_11_and_12(world, phase, resolution, hinge) -> None:
    """With a margin that some fakes are above and others below."""
    o = IntroVae(alpha=0.6, beta=0.3, hinge=hinge)
    w = world(o, count=9, resolution=resolution)
    w.losses(o, "encoder")
    kls = [kl_of(w.encode(w.decode(z))) for z in (w.latents_of(w.batch.images), w.prior())]
    margin = (kls[0].mean() + kls[1].mean()).item() / 2
    for kl in kls:
        assert kl.min() < margin < kl.max()
    w.check(dataclasses.replace(o, margin=margin), phase, EQUATIONS[phase])
    if phase == "encoder":
        above = torch.cat(kls).ge(margin).double().mean().item()
        assert w.reported["saturated"].item() == pytest.approx(above)


@pytest.mark.parametrize("hinge", ["sample", "batch"])
def test_beyond_the_margin_the_fakes_have_no_gradient(world, hinge) -> None:
    o = IntroVae(margin=1e-3, hinge=hinge)
    world(o).check(o, "encoder", pretraining_loss)


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
