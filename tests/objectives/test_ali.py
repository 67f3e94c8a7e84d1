"""ALI's losses by algorithm 1 of its paper, in float64."""

import pytest
import torch
from torch import Tensor
from world import FINAL, World, an

from pgvae.objectives.ali import Ali


def pairs(w: World) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(x, z_x) with z_x drawn from E(x), the first noise; (x_f, z) with z from the prior."""
    mu, logvar = w.encode(w.batch.images)
    z_x, z = mu + (logvar / 2).exp() * w.drawn[0], w.prior()
    return (w.batch.images, z_x), (w.decode(z), z)


def rho(w: World, pair: tuple[Tensor, Tensor]) -> Tensor:
    """The probability that a pair is of an image and its code: [N]."""
    images, latents = pair
    return 1 / (1 + (-w.nets.discriminator(images, w.alpha, latents)).exp())


def judge(w: World, o: Ali) -> Tensor:
    of_q, of_p = (rho(w, [part.detach() for part in pair]) for pair in pairs(w))
    return -of_q.log().mean() - (1 - of_p).log().mean()


def players(w: World, o: Ali) -> Tensor:
    of_q, of_p = (rho(w, pair) for pair in pairs(w))
    return -(1 - of_q).log().mean() - of_p.log().mean()


@pytest.mark.parametrize("resolution", [FINAL, FINAL // 2])
@pytest.mark.parametrize(
    ("phase", "equation"), [("discriminator", judge), ("both", players)], ids=["judge", "players"]
)
def test_each_phase_minimises_its_loss_of_algorithm_1(world, phase, equation, resolution) -> None:
    o = an("ali")
    world(o, resolution=resolution).check(o, phase, equation)


def test_how_far_pairs_of_images_are_above_made_ones_is_told(world) -> None:
    o = an("ali")
    for phase in ("discriminator", "both"):
        w = world(o)
        assert [*w.losses(o, phase)] == ["real", "fake"]
        real, fake = (w.nets.discriminator(x, w.alpha, z) for x, z in pairs(w))
        torch.testing.assert_close(w.reported["realism_gap"], (real - fake).mean().detach())


def test_a_step_of_each_player_moves_the_scores_its_own_way(world) -> None:
    """The discriminator parts both kinds of pairs, encoder and generator join them."""
    o = an("ali")
    for phase, net, sign in (
        *(
            ("discriminator", "discriminator", 1),
            ("both", "encoder", -1),
            ("both", "generator", -1),
        ),
    ):
        w = world(o)
        loss = w.total(o, phase)
        before = w.reported["realism_gap"]
        w.step(net, loss)
        w.total(o, phase)
        assert sign * (w.reported["realism_gap"] - before) > 0
