"""The game of AGE, PIONEER and Balanced PIONEER (eq. 1-6 of PIONEER's paper), in float64."""

import dataclasses

import pytest
import torch
from torch import Tensor
from world import D, World

from pgvae.objectives.age import Age
from pgvae.objectives.balanced_pioneer import BalancedPioneer
from pgvae.objectives.pioneer import Pioneer

KINDS = {"age": Age, "pioneer": Pioneer, "balanced_pioneer": BalancedPioneer}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def reconstruction(w: World, o: Age) -> Tensor:
    """lambda_x d mean|x - G(E(x))|."""
    x = w.batch.images
    return o.lambda_x * D * (x - w.decode(w.encode(x).mean)).abs().sum() / x.numel()


def pretraining_loss(w: World, o: Age) -> Tensor:
    """KL(E(x)) and the error, of both networks."""
    return w.kl(w.batch.images) + reconstruction(w, o)


def encoder_loss(w: World, o: Age, fakes: Tensor | None = None) -> Tensor:
    """KL(E(x)) - KL(E(sg x_f)), at least -10 d margin in Balanced PIONEER, and the error."""
    fakes = w.decode(w.prior()).detach() if fakes is None else fakes
    difference = w.kl(w.batch.images) - w.kl(fakes)
    if isinstance(o, BalancedPioneer):
        difference = torch.maximum(torch.tensor(-10 * D * o.margin), difference)
    return difference + reconstruction(w, o)


def generator_loss(w: World, o: Age) -> Tensor:
    """KL(E(x_f)) + lambda_z mean(1 - <z, E(x_f)>)."""
    z = w.prior()
    x_f = w.decode(z)
    return w.kl(x_f) + o.lambda_z * (1 - (z * w.encode(x_f).mean).sum(dim=1)).mean()


@every_kind
@pytest.mark.parametrize("resolution", [4, 8])
@pytest.mark.parametrize(
    ("phase", "equation"),
    [("pretrain", pretraining_loss), ("encoder", encoder_loss), ("generator", generator_loss)],
)
def test_losses_are_those_of_an_autoencoder_and_equations_4_and_6(
    world, kind, phase, equation, resolution
) -> None:
    o = kind(lambda_x=2.0, lambda_z=3.0)
    world(o, resolution=resolution).check(o, phase, equation)


@every_kind
@pytest.mark.parametrize("resolution", [4, 8])
def test_the_generator_may_learn_from_the_images_in_one_of_its_two_updates(
    world, kind, resolution
) -> None:
    o = kind(lambda_x=2.0, lambda_z=3.0, rec_to_generator=True)
    w = world(o, resolution=resolution)
    w.check(o, "encoder", encoder_loss)
    w.check(o, "generator", generator_loss)

    def with_images(w: World, o: Age) -> Tensor:
        x, codes = w.batch.images, w.encode(w.batch.images).mean.detach()
        error = (x - w.decode(codes)).abs().sum() / x.numel()
        return generator_loss(w, o) + o.lambda_x * D * error

    w.check(o, "generator_rec", with_images)


@every_kind
def test_an_iteration_has_two_updates_of_the_generator_with_its_images_or_without(kind) -> None:
    assert kind().iteration == kind.phases
    found = [(p.name, p.trains, p.repeats) for p in kind(rec_to_generator=True).iteration]
    assert found == [
        ("encoder", ("encoder",), 1),
        ("generator", ("generator",), 1),
        ("generator_rec", ("generator",), 1),
    ]


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_beyond_the_margin_neither_divergence_has_a_gradient(world, share) -> None:
    """The floor is `share` of the difference that there is."""
    o = BalancedPioneer(lambda_x=2.0)
    w = world(o, count=8)
    w.losses(o, "encoder")
    difference = (w.kl(w.batch.images) - w.kl(w.decode(w.prior()))).item()
    assert difference < 0
    o = dataclasses.replace(o, margin=-share * difference / (10 * D))
    w.check(o, "encoder", encoder_loss)
    assert w.reported["saturated"].item() == (share < 1)
    if share < 1:
        w.check(o, "encoder", lambda w, o: share * difference + reconstruction(w, o))


@every_kind
def test_fakes_of_the_encoder_are_replayed_images_without_a_gradient(world, kind) -> None:
    o = kind()
    w = world(o)
    earlier = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(7)) * 2 - 1
    w.check(o, "encoder", lambda w, o: encoder_loss(w, o, earlier), replay=lambda fakes: earlier)
    (fakes,) = w.replayed
    assert not fakes.requires_grad
    torch.testing.assert_close(fakes, w.decode(w.prior()).detach())


@pytest.mark.parametrize("resolution", [4, 64, 256])
def test_lambda_x_of_pioneer_is_15_once_grown_and_its_own_until_then(resolution) -> None:
    for kind in (Age, Pioneer):
        for faded, grown in ((False, False), (True, False), (True, True)):
            expected = {"lambda_x": 15.0} if grown and kind is Pioneer else {}
            assert kind().stage_settings(resolution, faded=faded, grown=grown) == expected


STAGES = [
    *((resolution, faded, 0.05) for resolution in (4, 8, 16, 32) for faded in (False, True)),
    (64, False, 0.0),
    (64, True, 0.02),
    *((128, faded, 0.02) for faded in (False, True)),
    *((resolution, faded, 0.04) for resolution in (256, 512, 1024) for faded in (False, True)),
]


@pytest.mark.parametrize(("resolution", "faded", "margin"), STAGES)
@pytest.mark.parametrize("grown", [False, True])
def test_the_margin_follows_the_stage(resolution, faded, margin, grown) -> None:
    settings = BalancedPioneer().stage_settings(resolution, faded=faded, grown=grown)
    assert settings == {"margin": margin}
