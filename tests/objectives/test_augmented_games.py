"""Games whose critic is shown T(x) for x: every family by the equations of docs/objectives.md.

A fixed T stands in the place of the random one, so that what goes through it, and what does not,
is seen in the numbers.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from world import FINAL, D, World, an, bce, kl_of, phases_of, unit_errors

from pgvae.objectives import OBJECTIVES, base
from pgvae.objectives.as_introvae import AsIntroVae
from pgvae.objectives.soft_introvae import SoftIntroVae
from pgvae.objectives.terms import as_distance
from pgvae.objectives.vac import Vac

P = 0.4
Equation = Callable[[World, object], Tensor]
GAMES = [name for name, kind in OBJECTIVES.items() if an(name).plays_at(FINAL)]


def t(x: Tensor) -> Tensor:
    return P * x.flip(3) + 0.2 * x.roll(1, dims=2) ** 2


@pytest.fixture(autouse=True)
def _fixed(monkeypatch) -> None:
    def fixed(images: Tensor, draws: Tensor, p: Tensor) -> Tensor:
        assert len(draws) == len(images)
        return p * images.flip(3) + 0.2 * images.roll(1, dims=2) ** 2

    monkeypatch.setattr(base, "augmented", fixed)


def made(w: World) -> tuple[Tensor, Tensor, Tensor]:
    """x, x_r and x_f."""
    x = w.batch.images
    return x, w.decode(w.latents_of(x)), w.decode(w.prior())


def apart(w: World) -> tuple[Tensor, Tensor, Tensor]:
    """The same with latents that have no gradient."""
    x = w.batch.images
    return x, w.decode(w.latents_of(x).detach()), w.decode(w.prior())


def kl_real(w: World) -> Tensor:
    return (w.kl(w.batch.images) + w.kl(t(w.batch.images))) / 2


# --- IntroVAE's family


def introvae_encoder(w: World, o) -> Tensor:
    x, x_r, x_f = made(w)
    loss = kl_real(w) + o.beta * unit_errors("mse", x, x_r).mean()
    for x_s in (x_r, x_f):
        loss = loss + o.alpha * torch.relu(o.margin - kl_of(w.encode(t(x_s.detach())))).mean()
    return loss


def introvae_generator(w: World, o) -> Tensor:
    x, x_r, x_f = apart(w)
    return o.alpha * (w.kl(t(x_r)) + w.kl(t(x_f))) + o.beta * unit_errors("mse", x, x_r).mean()


def distance(w: World, o: SoftIntroVae, x_f: Tensor, held: bool) -> Tensor:
    real = w.encode(t(w.batch.images))
    real = [part.detach() for part in real] if held else real
    return as_distance(*real, *w.encode(t(x_f)), o.distance)


def soft_encoder(w: World, o: SoftIntroVae) -> Tensor:
    x, x_r, x_f = made(w)
    s, c = 1 / (3 * FINAL**2), 0.0 if isinstance(o, AsIntroVae) else 1.0
    loss = s * (o.beta_rec * unit_errors(o.rec, x, x_r).mean() + o.beta_kl * kl_real(w))
    for x_s in (x_r, x_f):
        shown = t(x_s.detach())
        negative = o.beta_rec * unit_errors(o.rec, shown, w.decode(w.latents_of(shown)))
        if c:
            negative = negative + o.beta_neg * kl_of(w.encode(shown))
        else:
            negative = negative + o.beta_as * distance(w, o, x_f.detach(), held=False)
        loss = loss + torch.exp(-2 * s * negative).mean() / 4
    return loss


def soft_generator(w: World, o: SoftIntroVae) -> Tensor:
    x, x_r, x_f = apart(w)
    s, is_as = 1 / (3 * FINAL**2), isinstance(o, AsIntroVae)
    loss = o.beta_rec * unit_errors(o.rec, x, x_r).mean()
    for x_s in (x_r, x_f):
        shown = t(x_s)
        again = w.decode(w.latents_of(shown).detach())
        loss = loss + o.gamma_r * o.beta_rec / 2 * unit_errors(o.rec, shown.detach(), again).mean()
        loss = loss + (0 if is_as else o.beta_kl / 2 * w.kl(shown))
    return s * (loss + (o.beta_gen * distance(w, o, x_f, held=True) if is_as else 0))


# --- PIONEER's family


def age_encoder(w: World, o) -> Tensor:
    x, x_f = w.batch.images, w.decode(w.prior()).detach()
    difference = kl_real(w) - w.kl(t(x_f))
    if hasattr(o, "margin"):
        difference = torch.maximum(torch.tensor(-10 * D * o.margin), difference)
    return difference + o.lambda_x * D * (x - w.decode(w.encode(x).mean)).abs().sum() / x.numel()


def age_generator(w: World, o) -> Tensor:
    z = w.prior()
    x_f = w.decode(z)
    return w.kl(t(x_f)) + o.lambda_z * (1 - (z * w.encode(x_f).mean).sum(dim=1)).mean()


# --- the others


def classes(w: World, latents: Tensor) -> Tensor:
    y = w.batch.labels
    return bce(w.nets.encoder.classify(latents), torch.cat([y, torch.zeros(len(y), 1)], dim=1))


def logits(w: World, images: Tensor) -> Tensor:
    return w.nets.encoder.classify(w.encode(t(images)).mean)


def of_t(w: World) -> Tensor:
    """Samples of the posteriors of T(x), with the noise that was drawn after that of x."""
    mu, logvar = w.encode(t(w.batch.images))
    normal = [noise for noise in w.drawn if noise.shape == mu.shape]
    return mu + (logvar / 2).exp() * normal[-1]


def introvac_encoder(w: World, o: Vac) -> Tensor:
    x, x_r, x_f = made(w)
    loss = o.b_ae * (x - x_r).abs().mean() + o.b_reg * w.kl(x) / D
    loss = loss + o.b_cl * (classes(w, w.latents_of(x)) + classes(w, of_t(w))) / 2
    for x_s in (x_r, x_f):
        fake = logits(w, x_s.detach())[:, -1]
        loss = loss + o.b_ec * bce(fake, torch.ones_like(fake))
    return loss


def introvac_generator(w: World, o: Vac) -> Tensor:
    x, x_r, x_f = apart(w)
    y = torch.cat([w.batch.labels, torch.zeros(len(x), 1)], dim=1)
    fake = logits(w, x_f)[:, -1]
    game = bce(logits(w, x_r), y) + bce(fake, torch.zeros_like(fake))
    return o.b_ae * (x - x_r).abs().mean() + o.b_g * game


def rivae(w: World, o) -> Tensor:
    x, x_r, _ = (w.batch.images, w.decode(w.latents_of(w.batch.images)), None)
    held = copy.deepcopy(w.nets.encoder).requires_grad_(False)
    real, fake = (w.nets.encoder(t(i), w.alpha, judge=True).realism for i in (x, x_r.detach()))
    loss = ((x - x_r) ** 2).sum(dim=(1, 2, 3)).mean() + o.beta_kl * w.kl(x)
    loss = loss + o.game * softplus(fake - real).mean()
    real, fake = (held(t(i), w.alpha, judge=True).realism for i in (x, x_r))
    return loss + o.game * softplus(real - fake).mean()


def pggan_discriminator(w: World, o) -> Tensor:
    x, x_f = t(w.batch.images), t(w.decode(w.prior()).detach())
    u = 0.5 * (1 + torch.erf(w.drawn[-1] / 2**0.5))[:, :, None, None]
    between = (x + u * (x_f - x)).requires_grad_()
    real, fake, score = (w.nets.discriminator(i, w.alpha) for i in (x, x_f, between))
    (slope,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return fake.mean() - real.mean() + o.penalty * penalty + o.drift * real.square().mean()


def pggan_generator(w: World, o) -> Tensor:
    return -w.nets.discriminator(t(w.decode(w.prior())), w.alpha).mean()


def ali(sign: int) -> Equation:
    def loss(w: World, o) -> Tensor:
        mu, logvar = w.encode(w.batch.images)
        z_x, z = mu + (logvar / 2).exp() * w.drawn[0], w.prior()
        pairs = [(t(w.batch.images), z_x), (t(w.decode(z)), z)]
        if sign > 0:
            pairs = [tuple(part.detach() for part in pair) for pair in pairs]
        real, fake = (w.nets.discriminator(i, w.alpha, latents) for i, latents in pairs)
        return softplus(-sign * real).mean() + softplus(sign * fake).mean()

    return loss


EQUATIONS: dict[tuple[str, str], Equation] = {
    ("introvae", "encoder"): introvae_encoder,
    ("introvae", "generator"): introvae_generator,
    ("introvac", "encoder"): introvac_encoder,
    ("introvac", "generator"): introvac_generator,
    ("rivae", "both"): rivae,
    ("pggan", "discriminator"): pggan_discriminator,
    ("pggan", "generator"): pggan_generator,
    ("ali", "discriminator"): ali(1),
    ("ali", "both"): ali(-1),
    **{(name, "encoder"): soft_encoder for name in ("soft_introvae", "as_introvae")},
    **{(name, "generator"): soft_generator for name in ("soft_introvae", "as_introvae")},
    **{(name, "encoder"): age_encoder for name in ("age", "pioneer", "balanced_pioneer")},
    **{(name, "generator"): age_generator for name in ("age", "pioneer", "balanced_pioneer")},
}
SETTINGS = {
    "introvae": {"margin": 3.0},
    "soft_introvae": {"beta_neg": 9.0, "gamma_r": 0.3},
    "as_introvae": {"beta_as": 150.0, "beta_gen": 40.0, "gamma_r": 0.3},
}


@pytest.mark.parametrize(("name", "phase"), EQUATIONS)
def test_a_phase_minimises_its_equation_with_what_is_judged_transformed(world, name, phase):
    o = type(an(name))(**SETTINGS[name]) if name in SETTINGS else an(name)
    world(o).check(o, phase, EQUATIONS[name, phase], augment=P)


def test_every_game_has_equations_and_nothing_else_plays():
    assert {name for name, _ in EQUATIONS} == set(GAMES)
    assert set(OBJECTIVES) - set(GAMES) == {"ae", "vae", "vac"}
    for name in GAMES:
        assert {phase.name for phase in OBJECTIVES[name].phases} == {
            phase for game, phase in EQUATIONS if game == name
        }


PRETRAINED = [name for name in GAMES if OBJECTIVES[name].pretraining]


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretraining_is_as_it_was(world, name):
    o = an(name)
    w = world(o)
    assert phases_of(name)[-1].name == "pretrain"
    plain = w.losses(o, "pretrain")
    assert w.losses(o, "pretrain", augment=P) == plain


@pytest.mark.parametrize("name", GAMES)
def test_the_critic_stands_where_its_values_of_transformed_images_say(world, name):
    """`unreal` falls by what the critic's own training on those images makes them more real."""
    o = an(name)
    w = world(o)
    part = "discriminator" if w.nets.discriminator is not None else "encoder"
    context = base.Context(
        alpha=torch.tensor(w.alpha),
        noise=lambda shape: torch.zeros(shape),
        augment=torch.tensor(P),
    )
    before = o.unreal(w.nets, w.batch.images, context)
    assert before.shape == ()
    assert o.unreal_made(w.nets, w.batch.images, context).shape == ()
    plain = o.unreal(w.nets, t(w.batch.images), base.Context(context.alpha, context.noise))
    if name != "ali":  # whose code is of the image as it is
        torch.testing.assert_close(before, plain)
    w.step(part, before)
    assert o.unreal(w.nets, w.batch.images, context) < before
