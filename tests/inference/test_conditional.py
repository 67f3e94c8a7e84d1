"""Samples of p(z | y) against their law, integrated numerically; Langevin's against its chain's.

With one attribute, t = <z, w> / |w| has the density N(t; 0, 1) sigmoid(|w| t + b) and is a Markov
chain of its own under Langevin; all that is across w stays as it was.
"""

import math

import pytest
import torch
from latent_models import (
    HEADS,
    SIGMAS,
    assert_of_law,
    assert_share,
    hats,
    pointing,
    probed_model,
    rng,
)
from torch import Tensor
from torch.nn import functional as F

from pgvae.errors import InputError
from pgvae.inference import Directions
from pgvae.inference.conditional import Conditional, langevin, reject

WEIGHT, LENGTH, BIAS = [1.2, -0.9, 0.0, 2.0], 2.5, -1.0
LINE = torch.linspace(-8, 8, 4001, dtype=torch.float64)
BELL = torch.exp(-LINE.square() / 2)


def answer(t: Tensor, yes: bool, length: float = LENGTH, bias: float = BIAS) -> Tensor:
    """p(y | t)."""
    logits = length * t + bias
    return torch.sigmoid(logits if yes else -logits)


def is_right(t: Tensor, yes: bool, length: float = LENGTH, bias: float = BIAS) -> Tensor:
    return ((length * t + bias > 0) == yes).double()


def along(latents: Tensor, weight: list[float]) -> Tensor:
    w = torch.tensor(weight)
    return latents @ (w / w.norm())


def across(latents: Tensor, weight: list[float]) -> Tensor:
    """The coordinates [N, d - 1] in a basis of what is perpendicular to the weight."""
    return latents @ torch.linalg.svd(torch.tensor([weight]))[2][1:].T


def wanted(*yes: bool) -> Tensor:
    return torch.tensor(yes)


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("only_right", [True, False])
def test_rejection_samples_the_posterior(yes, only_right):
    directions = pointing(WEIGHT, bias=BIAS)
    kept = reject("gaussian", directions, wanted(yes), 20_000, rng(0), only_right=only_right)
    law = BELL / BELL.sum() * answer(LINE, yes) * (is_right(LINE, yes) if only_right else 1)
    assert kept.latents.shape == (20_000, 4)
    found = along(kept.latents, WEIGHT)
    assert_of_law(found, LINE, law)
    assert_share(kept.accepted, law.sum(), 20_000 / float(law.sum()))
    right = (law * is_right(LINE, yes)).sum() / law.sum()
    assert_share(is_right(found, yes).mean(), right, 20_000)


def chain(yes: bool, steps: int, size: float) -> Tensor:
    """Density on LINE of the discrete chain of t after so many steps from N(0, 1).

    t <- t + a (s |w| sigmoid(-s (|w| t + b)) - t) + sqrt(2 a) noise, s = 1 or -1. Summing over a
    grid as fine as one deviation of the noise is exact to exp(-2 pi^2) = 3e-9 a step.
    """
    grid = torch.arange(-7, 7, math.sqrt(2 * size), dtype=torch.float64)
    sign = 1 if yes else -1
    centre = grid + size * (sign * LENGTH * answer(grid, not yes) - grid)

    def kernel(to: Tensor) -> Tensor:
        return torch.exp(-(to[None] - centre[:, None]).square() / (4 * size))

    step = kernel(grid)
    start = torch.exp(-grid.square() / 2)
    before = start @ torch.linalg.matrix_power(step / step.sum(dim=1, keepdim=True), steps - 1)
    law = before @ kernel(LINE)
    return law / law.sum()


@pytest.mark.parametrize(
    ("yes", "steps", "size", "count"),
    [
        (True, 1, 0.1, 20_000),
        (False, 1, 0.1, 20_000),
        (True, 20, 0.02, 20_000),
        (False, 20, 0.02, 20_000),
        (True, 600, 0.02, 6000),
        (False, 600, 0.02, 6000),
        (True, 5000, 2e-4, 1500),  # the paper's
    ],
)
def test_langevin_follows_its_chain(yes, steps, size, count):
    directions = pointing(WEIGHT, bias=BIAS)
    ends = langevin("gaussian", directions, wanted(yes), count, rng(1), steps, size)
    law = chain(yes, steps, size)
    right = law * is_right(LINE, yes)
    assert ends.latents.shape == (count, 4)
    assert is_right(along(ends.latents, WEIGHT), yes).all()
    assert_of_law(along(ends.latents, WEIGHT), LINE, right)
    assert_share(ends.accepted, right.sum(), count / float(right.sum()))


def test_a_long_chain_has_almost_the_posteriors_law():
    """Of a Gaussian of precision 1 to 1 + |w|^2 / 4 = 2.6 it has the variance up to 2.6 a / 2."""
    posterior = BELL * answer(LINE, True) * is_right(LINE, True)
    ends = langevin("gaussian", pointing(WEIGHT, bias=BIAS), wanted(True), 8000, rng(2), 600, 0.02)
    assert_of_law(along(ends.latents, WEIGHT), LINE, posterior, bias=0.026)


def sampled(
    method: str,
    head: str,
    directions: Directions,
    yes: Tensor,
    count: int = 4000,
    seed: int = 3,
    steps: int = 600,
    step_size: float = 0.01,
) -> Conditional:
    """By rejection, or by Langevin; its usual time of 6 leaves e^-6 of the start."""
    if method == "rejection":
        return reject(head, directions, yes, count, rng(seed))
    return langevin(head, directions, yes, count, rng(seed), steps, step_size)


METHODS = pytest.mark.parametrize("method", ["langevin", "rejection"])


@METHODS
def test_what_the_attribute_does_not_see_stays_normal(method):
    latents = sampled(method, "gaussian", pointing(WEIGHT, bias=BIAS), wanted(True)).latents
    rest = across(latents, WEIGHT)
    for one in rest.T:
        assert_of_law(one, LINE, BELL, bias=0.005)  # 1 / (1 - a / 2)
    correlations = torch.corrcoef(torch.cat([rest.T, along(latents, WEIGHT)[None]]))
    assert (correlations - torch.eye(4)).abs().max() < SIGMAS / math.sqrt(4000)


@METHODS
def test_both_methods_have_the_law_of_two_correlated_attributes(method):
    """One asked for and one not, integrated over the plane that they span."""
    directions = pointing([1.5, 0.0, 0.0], [0.9, 1.2, 0.0], bias=[0.5, -0.5])
    kept = sampled(method, "gaussian", directions, wanted(True, False))
    axis = torch.linspace(-7, 7, 701, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis)
    first, second = (plane @ directions.weight[:, :2].double().T + directions.bias.double()).T
    law = torch.exp(-plane.square().sum(dim=1) / 2)
    law *= torch.sigmoid(first) * torch.sigmoid(-second)
    right = law * (first > 0) * (second < 0)
    found = directions.logits(kept.latents)
    assert (found[:, 0] > 0).all()
    assert (found[:, 1] < 0).all()
    bias = 0.015 if method == "langevin" else 0.0
    assert_of_law(found[:, 0], first, right, bias)
    assert_of_law(found[:, 1], second, right, bias)
    assert_of_law(found.sum(dim=1), first + second, right, 2 * bias)
    if method == "langevin":
        share = right.sum() / law.sum()
    else:
        share = right.sum() * (axis[1] - axis[0]) ** 2 / (2 * math.pi)
    assert_share(kept.accepted, share, 4000 / float(share), bias / 2)


@METHODS
@pytest.mark.parametrize(("yes", "dim"), [(True, 3), (False, 8)])
def test_both_methods_have_the_law_on_the_sphere(yes, dim, method):
    """There t has the density (1 - t^2)^((d - 3) / 2) sigmoid(|w| t + b): uniform at d = 3."""
    weight, bias = [3.0, -4.0] + [0.0] * (dim - 2), -1.0
    kept = sampled(method, "sphere", pointing(weight, bias=bias), wanted(yes))
    t = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    law = (1 - t.square()) ** ((dim - 3) / 2) * answer(t, yes, 5.0, bias)
    right = law * is_right(t, yes, 5.0, bias)
    norms, found = kept.latents.norm(dim=1), along(kept.latents, weight)
    torch.testing.assert_close(norms, torch.ones(4000), rtol=0, atol=1e-6)
    assert is_right(found, yes, 5.0, bias).all()
    allowed = 0.01 if method == "langevin" else 0.0
    assert_of_law(found, t, right, allowed)
    for one in across(kept.latents, weight).T:  # by symmetry; 1 is beyond the variance of all
        assert abs(one.mean()) < SIGMAS / math.sqrt(4000 * dim)
    if method == "langevin":
        assert_share(kept.accepted, right.sum() / law.sum(), 4000, allowed)
    else:
        drawn = right.sum() / (1 - t.square()).pow((dim - 3) / 2).sum()
        assert_share(kept.accepted, drawn, 4000 / float(drawn))


@pytest.mark.parametrize("head", HEADS)
def test_langevin_climbs_the_gradient_of_its_energy(head):
    """Against a chain of log p(y | z) p(z) by automatic differentiation, at a coarse step."""
    directions = pointing([4.0, 0.0, 1.0], [-2.0, 3.0, 0.0], bias=[1.0, -1.0])
    signs, count, size, noise = torch.tensor([1.0, -1.0]), 40_000, 0.3, rng(9)
    z = torch.randn(count, 3, generator=noise)
    for _ in range(3):
        z.requires_grad_()
        margins = signs * directions.logits(F.normalize(z, dim=1) if head == "sphere" else z)
        energy = z.square().sum() / 2 - F.logsigmoid(margins).sum()
        [slope] = torch.autograd.grad(energy, z)
        z = z.detach() - size * slope + math.sqrt(2 * size) * torch.randn(z.shape, generator=noise)
    z = F.normalize(z, dim=1) if head == "sphere" else z
    expected = z[(signs * directions.logits(z) > 0).all(dim=1)]
    ends = langevin(head, directions, wanted(True, False), count, rng(10), steps=3, step_size=size)
    assert_share(ends.accepted, len(expected) / count, count / 2)  # both are drawn
    for power in (1, 2):
        one, other = ends.latents.double() ** power, expected.double() ** power
        error = (one.var(dim=0) / len(one) + other.var(dim=0) / len(other)).sqrt()
        assert ((one.mean(dim=0) - other.mean(dim=0)).abs() < SIGMAS * error).all()


@pytest.mark.parametrize(("steps", "variance"), [(1, 1.25), (2, 1.3125), (3, 1.328125)])
def test_without_a_say_langevin_is_the_discrete_ornstein_uhlenbeck_process(steps, variance):
    """v <- (1 - a)^2 v + 2 a from v = 1, a = 1/2."""
    ends = langevin(
        "gaussian", pointing([0.0] * 4, bias=-3.0), wanted(False), 20_000, rng(5), steps, 0.5
    )
    assert ends.accepted == 1
    assert_of_law(ends.latents.flatten(), LINE, torch.exp(-LINE.square() / (2 * variance)))


FEW = {"steps": 3, "step_size": 0.1}


@METHODS
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("count", [1, 17, 9000])
def test_as_many_as_asked_for_come_and_none_twice(count, head, method):
    kept = sampled(method, head, pointing(WEIGHT, bias=BIAS), wanted(True), count, **FEW)
    assert kept.latents.shape == (count, 4)
    assert kept.latents.dtype == torch.float32
    assert len(kept.latents.unique(dim=0)) == count
    assert 0 < kept.accepted <= 1


@METHODS
@pytest.mark.parametrize("head", HEADS)
def test_samples_repeat_by_seed(head, method):
    first, again, other = (
        sampled(method, head, pointing(WEIGHT, bias=BIAS), wanted(True), 300, seed, **FEW)
        for seed in (6, 6, 7)
    )
    assert torch.equal(first.latents, again.latents)
    assert first.accepted == again.accepted
    assert (first.latents != other.latents).any(dim=1).all()


@METHODS
@pytest.mark.parametrize("head", HEADS)
def test_what_never_occurs_is_refused(head, method):
    with pytest.raises(InputError):
        sampled(method, head, pointing([0.0] * 4, bias=-60.0), wanted(True), 10, **FEW)


@METHODS
def test_what_a_check_refuses_is_left_out(method):
    """Half of all, by a coordinate that the attribute does not see."""
    given = ("gaussian", pointing(WEIGHT, bias=BIAS), wanted(True), 5000)
    act, more = (reject, {}) if method == "rejection" else (langevin, {"steps": 1})
    kept = act(*given, rng(0), check=lambda latents: latents[:, 2] > 0, **more)
    assert (kept.latents[:, 2] > 0).all()
    free = act(*given, rng(1), **more)
    assert abs(kept.accepted - free.accepted / 2) < 0.02
    with pytest.raises(InputError):
        act(*given, rng(0), check=lambda latents: latents[:, 2] > 99, **more)


@METHODS
@pytest.mark.parametrize("head", HEADS)
def test_a_model_samples_by_the_names_of_its_attributes(head, method, tmp_path):
    model, asked = probed_model(tmp_path, head), {"glasses": 0, "hat": 1}
    how = {"steps": 40, "method": method, "step_size": 0.02, "sure": None}
    found = model.conditional_latents(50, asked, **how, seed=1)
    assert ((model.directions.logits(found.latents) > 0) == wanted(True, False)).all()
    given = (head, hats(), wanted(True, False), 50, rng(1))
    expected = langevin(*given, 40, 0.02) if method == "langevin" else reject(*given)
    assert found.accepted == expected.accepted < 1
    torch.testing.assert_close(found.latents, expected.latents)
    images = model.sample_conditional(50, asked, **how, seed=1)
    torch.testing.assert_close(images, model.decode(found.latents))
    other = model.conditional_latents(50, asked, **how, seed=2)
    assert not torch.equal(found.latents, other.latents)
