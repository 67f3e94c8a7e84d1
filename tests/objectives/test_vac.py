"""VAC and IntroVAC against eq. 3-7 and algorithm 1 of IntroVAC's paper, in float64."""

import pytest
import torch
from torch import Tensor
from world import LABELS, NAN, D, World, bce, kl_of

from pgvae.objectives.introvac import IntroVac
from pgvae.objectives.vac import Vac

VAC = Vac(b_ae=7.0, b_cl=2.0, b_reg=0.6)
INTROVAC = IntroVac(b_ae=7.0, b_cl=2.0, b_reg=0.6, b_ec=1.7, b_g=1.3)


def targets(w: World, o: Vac) -> Tensor:
    """y, or [y, 0]: the last logit asks whether an image is a fake."""
    y = w.batch.labels
    return torch.cat([y, torch.zeros(len(y), 1)], dim=1) if isinstance(o, IntroVac) else y


def mean_error(w: World, latents: Tensor) -> Tensor:
    x = w.batch.images
    return (x - w.decode(latents)).abs().sum() / x.numel()


def logits(w: World, images: Tensor) -> Tensor:
    """What the classifier says about the posterior means of fakes."""
    return w.nets.encoder.classify(w.encode(images).mean)


def vac_loss(w: World, o: Vac) -> Tensor:
    """b_ae mean|x - x_r| + b_cl BCE(C(z_r), y) + b_reg KL/d."""
    z = w.latents_of(w.batch.images)
    classes = bce(w.nets.encoder.classify(z), targets(w, o))
    kl = kl_of(w.encode(w.batch.images)).mean() / D
    return o.b_ae * mean_error(w, z) + o.b_cl * classes + o.b_reg * kl


def encoder_loss(w: World, o: IntroVac) -> Tensor:
    """VAC's, with [y, 0], + b_ec sum_s BCE(fake(sg x_s), 1)."""
    loss = vac_loss(w, o)
    for z in (w.latents_of(w.batch.images), w.prior()):
        fake = logits(w, w.decode(z).detach())[:, -1]
        loss = loss + o.b_ec * bce(fake, torch.ones_like(fake))
    return loss


def generator_loss(w: World, o: IntroVac) -> Tensor:
    """b_ae L1 + b_g (BCE(C(x_rr), [y, 0]) + BCE(fake(x_f), 0)), x_rr = G(sg z_r)."""
    z = w.latents_of(w.batch.images).detach()
    classes = bce(logits(w, w.decode(z)), targets(w, o))
    fake = logits(w, w.decode(w.prior()))[:, -1]
    return o.b_ae * mean_error(w, z) + o.b_g * (classes + bce(fake, torch.zeros_like(fake)))


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.nan_to_num(1.0), torch.full_like(LABELS, NAN)],
    ids=["some labels", "all labels", "no labels"],
)
@pytest.mark.parametrize("resolution", [4, 8])
@pytest.mark.parametrize(
    ("o", "phase", "equation"),
    [
        (VAC, "both", vac_loss),
        (INTROVAC, "encoder", encoder_loss),
        (INTROVAC, "generator", generator_loss),
    ],
)
def test_losses_are_those_of_the_paper(world, o, phase, equation, resolution, labels) -> None:
    """Without labels [y, 0] keeps its 0: fakes and reals are still told apart."""
    w = world(o, resolution=resolution, labels=labels)
    w.check(o, phase, equation)
    if phase != "generator":
        right = (logits(w, w.batch.images)[:, :2] > 0) == (labels > 0.5)
        known = labels.isfinite()
        expected = (right & known).sum().item() / max(known.sum().item(), 1)
        assert w.reported["accuracy"].item() == pytest.approx(expected)


def test_the_classifier_has_a_logit_for_each_label_and_introvacs_one_for_fakes() -> None:
    for labels in (1, 2, 40):
        assert VAC.model_settings(labels)["classes"] == labels
        assert INTROVAC.model_settings(labels)["classes"] == labels + 1
    assert Vac.preset(128).latent_dim == IntroVac.preset(128).latent_dim == 256
