"""PGGAN's losses by their equations, the gradient penalty by a closed form and by native ops."""

import pytest
import torch
from torch import Tensor
from world import FINAL, World, an, small_world

from pgvae import ops
from pgvae.objectives import terms
from pgvae.objectives.pggan import Pggan


def scores(w: World, images: Tensor) -> Tensor:
    return w.nets.discriminator(images, w.alpha)


def made(w: World) -> Tensor:
    return w.decode(w.prior())


def length_of_slopes(w: World, images: Tensor) -> Tensor:
    """|grad D| of each image, of the smooth world's D(x) = tanh(alpha x A) B, written out: [N]."""
    first, second = w.nets.discriminator.first, w.nets.discriminator.second
    bent = 1 - torch.tanh(w.alpha * images.flatten(1) @ first) ** 2  # [N, 16]
    return ((w.alpha * bent * second[:, 0]) @ first.T).norm(dim=1)


def between(w: World) -> Tensor:
    """x + u (x_f - x), u the normal distribution's share below what was drawn last."""
    u = 0.5 * (1 + torch.erf(w.drawn[-1] / 2**0.5))
    x = w.batch.images
    return x + u[:, :, None, None] * (made(w).detach() - x)


def critic(w: World, o: Pggan) -> Tensor:
    x = w.batch.images
    penalty = ((length_of_slopes(w, between(w)) - 1) ** 2).mean()
    wasserstein = scores(w, made(w).detach()).mean() - scores(w, x).mean()
    return wasserstein + o.penalty * penalty + o.drift * (scores(w, x) ** 2).mean()


def player(w: World, o: Pggan) -> Tensor:
    return -scores(w, made(w)).mean()


@pytest.mark.parametrize("settings", [{}, {"penalty": 0.3, "drift": 2.0}], ids=str)
@pytest.mark.parametrize("resolution", [FINAL, FINAL // 2])
def test_the_discriminators_phase_is_wgan_gp_with_drift(world, settings, resolution) -> None:
    o = Pggan(**settings)
    world(o, resolution=resolution).check(o, "discriminator", critic)


def test_the_generators_phase_is_minus_the_score_of_what_it_makes(world) -> None:
    world(an("pggan")).check(an("pggan"), "generator", player)


def test_the_terms_and_what_is_told_beside_them(world) -> None:
    o = an("pggan")
    w = world(o)
    losses = w.losses(o, "discriminator")
    assert [*losses] == ["critic", "penalty", "drift"]
    gap = (scores(w, w.batch.images) - scores(w, made(w))).mean()
    torch.testing.assert_close(w.reported["realism_gap"], gap.detach())
    slopes = length_of_slopes(w, between(w)).mean().detach()
    torch.testing.assert_close(w.reported["slope"], slopes)
    assert [*w.losses(o, "generator")] == ["fool"]


def test_a_step_of_each_moves_the_scores_of_fakes_its_own_way(world) -> None:
    o = an("pggan")
    for phase, sign in (("discriminator", -1), ("generator", 1)):
        w = world(o)
        loss = w.losses(o, phase)["critic" if sign < 0 else "fool"]
        latents = w.prior()
        before = scores(w, w.decode(latents)).mean()
        w.step(phase, loss)
        assert sign * (scores(w, w.decode(latents)).mean() - before) > 0


# --- the gradient penalty


def test_the_slope_of_a_linear_score_is_the_length_of_its_weight() -> None:
    weight = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    found = terms.gradient_norm(lambda x: (x * weight).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(found, weight.norm().expand(2))


def test_the_second_derivatives_are_those_of_a_closed_form() -> None:
    """D(x) = w (x . a)^2 / 2: |grad D| = |w| |x . a| |a|, whose derivative in w is |x . a| |a|."""
    a = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64).view(3, 1, 1)
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    images = torch.ones(4, 3, 1, 1, dtype=torch.float64) * torch.arange(1, 5).view(4, 1, 1, 1)
    found = terms.gradient_norm(lambda x: w * (x * a).sum(dim=(1, 2, 3)).square() / 2, images)
    expected = 5.0 * torch.arange(1, 5) * 3.0
    torch.testing.assert_close(found, 0.5 * expected.double())
    (slope,) = torch.autograd.grad(found.sum(), w)
    torch.testing.assert_close(slope, expected.sum().double())


def test_without_autograd_a_slope_has_no_graph() -> None:
    with torch.no_grad():
        found = terms.gradient_norm(lambda x: 2 * x[:, 0, 0, 0], torch.zeros(1, 1, 2, 2))
    assert found.tolist() == [2.0]
    assert not found.requires_grad


def learned(w: World, impl: str) -> tuple[dict[str, float], list[Tensor]]:
    """Losses and the discriminator's gradients by one kind of ops."""
    with ops.using(impl):
        losses = w.losses(an("pggan"), "discriminator")
        net = w.nets.discriminator
        return {k: v.item() for k, v in losses.items()}, [
            *torch.autograd.grad(sum(losses.values()), [*net.parameters()])
        ]


@pytest.fixture
def run_world():
    """Build a `small_world` in float64, which is the default meanwhile, or float32."""
    before = torch.get_default_dtype()

    def build(dtype: torch.dtype, **shape) -> World:
        torch.set_default_dtype(dtype)
        return small_world(an("pggan"), alpha=0.6, **shape)

    yield build
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("fmap_max", [16, 160], ids=["fused Winograd", "Winograd"])
@pytest.mark.native
@pytest.mark.skipif(
    bool(ops.native.why_not(torch.empty(0))), reason="no native ops are built for the CPU"
)
def test_the_penalty_goes_through_the_native_ops_twice(run_world, dtype, rtol, fmap_max) -> None:
    apart = []
    for seed in (1, 2, 3, 4):
        w = run_world(dtype, resolution=16, fmap_max=fmap_max, fmap_base=2048, seed=seed)
        (losses, gradients), (expected, others) = (learned(w, i) for i in ("native", "reference"))
        assert losses == pytest.approx(expected, rel=rtol)
        one, other = (torch.cat([g.flatten() for g in found]) for found in (gradients, others))
        apart.append(((one - other).norm() / other.norm()).item())
    assert min(apart) <= rtol  # rounding may carry a unit across LeakyReLU's kink, but not in all


def test_the_penaltys_gradient_is_that_of_finite_differences(run_world) -> None:
    """Through the run's own layers, fade, deviation and all, whatever ops there are."""
    w = run_world(torch.float64)
    weight = w.nets.discriminator.blocks["8"].first.weight
    loss = w.losses(an("pggan"), "discriminator")["penalty"]
    (gradient,) = torch.autograd.grad(loss, weight)
    way = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = []
    for size in (1e-5, -1e-5):
        with torch.no_grad():
            weight += size * way
        values.append(w.losses(an("pggan"), "discriminator")["penalty"].item())
        with torch.no_grad():
            weight -= size * way
    expected = (values[0] - values[1]) / 2e-5
    assert (gradient * way).sum().item() == pytest.approx(expected, rel=1e-4)
