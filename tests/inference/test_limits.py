"""Where moves and conditional samples come to their limits."""

import math
import re

import pytest
import torch
from latent_models import model_of, pointing, prior, rng
from torch.nn import functional as F

from pgvae.errors import InputError
from pgvae.inference import Directions
from pgvae.inference.conditional import langevin, reject
from pgvae.inference.directions import move, move_to


@pytest.mark.parametrize("pole", [1.0, -1.0])
@pytest.mark.parametrize("certainty", [0.9, 0.6, 0.3])
def test_a_move_from_a_pole_reaches_its_level_on_the_sphere(pole, certainty):
    start = torch.zeros(2, 3)
    start[:, 0] = pole
    start[1] = F.normalize(start[1] + torch.tensor([0.0, 1e-7, -1e-7]), dim=0)
    moved = move_to("sphere", start, pointing([5.0, 0.0, 0.0]), certainty)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(2))
    found = torch.sigmoid(5 * moved[:, 0])
    sure_already = (found - certainty) * (1 if certainty >= 0.5 else -1) > 0
    wanted = torch.full((2,), certainty)
    torch.testing.assert_close(torch.where(sure_already, wanted, found), wanted)
    if (pole > 0) == (certainty >= 0.5):
        assert torch.equal(moved, start)


def test_back_from_the_surest_point_there_is():
    latents, [weight] = prior("sphere", 50, 8), 5 * prior("sphere", 1, 8, seed=1)
    directions = pointing(weight.tolist())
    surest = move_to("sphere", latents, directions, 0.99999)
    back = move_to("sphere", surest, directions, 0.3)
    torch.testing.assert_close(back.norm(dim=1), torch.ones(50))
    level = torch.full((50,), math.log(0.3 / 0.7))
    torch.testing.assert_close(directions.logits(back)[:, 0], level, atol=1e-4, rtol=0)


def test_an_attribute_without_a_direction_is_refused():
    with pytest.raises(InputError, match="one of a has no direction"):
        move_to("gaussian", torch.zeros(1, 3), pointing([0.0] * 3), 0.9)


@pytest.mark.parametrize("head", ["sphere", "gaussian"])
@pytest.mark.parametrize("delta", [math.nan, math.inf, -math.inf, 1e39])
def test_a_move_by_what_is_no_finite_number_is_refused(head, delta):
    directions = pointing([5.0, 0.0, 0.0]).joined(
        Directions(("hat",), torch.ones(1, 3), torch.ones(1))
    )
    with pytest.raises(
        InputError, match=re.escape(f"deltas are [1.0, {delta}]: use finite numbers")
    ):
        move(head, torch.zeros(1, 3), directions, [1.0, delta])


@pytest.mark.parametrize(("bias", "count"), [(4.0, 15_000), (7.0, 100)])  # 1 in 56, in 1,098
def test_as_many_as_asked_for_are_drawn_even_where_few_candidates_are_kept(bias, count):
    directions, yes = pointing([1e-3, 0.0], bias=-bias), torch.tensor([True])
    found = reject("gaussian", directions, yes, count, rng(0), only_right=False)
    assert found.latents.shape == (count, 2)
    assert found.accepted == pytest.approx(1 / (1 + math.exp(bias)), rel=6 / math.sqrt(count))


def test_chains_that_never_arrive_are_given_up_soon():
    tried = []

    def check(latents: torch.Tensor) -> torch.Tensor:
        tried.append(len(latents))
        assert sum(tried) < 1000
        return torch.zeros(len(latents), dtype=torch.bool)

    given = ("gaussian", pointing([1.0, 0.0]), torch.tensor([True]), 16, rng(0), 2)
    with pytest.raises(InputError, match=r"only 0 of .* have what is asked for"):
        langevin(*given, check=check)
    assert tried


@pytest.mark.parametrize(
    ("count", "value", "options", "message"),
    [
        (0, 1, {}, "count is 0, steps 1: use 1 or more"),
        (2, -1, {}, "attribute glasses is -1: use 1"),
        (2, 2, {}, "attribute glasses is 2: use 1"),
        (2, 1, {"method": "rejektion"}, "method is 'rejektion': choose one of langevin, rejection"),
        (2, 1, {"sure": 1.0}, "sure is 1.0: use a probability"),
        (2, 1, {"step_size": 0.5}, "step_size is 0.5: use a number up to 0.1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(count, value, options, message):
    with pytest.raises(InputError, match=message):
        model_of("gaussian", classes=2).conditional_latents(
            count, {"glasses": value}, steps=1, **options
        )
