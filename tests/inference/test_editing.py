"""Attributes added and taken away: the moves themselves, and what a model does with them."""

import math

import numpy as np
import pytest
import torch
from latent_models import (
    HEADS,
    beside,
    certainties,
    hats,
    images_of,
    logit,
    model_of,
    pointing,
    prior,
    probed_model,
    random_directions,
    rng,
    saved,
)
from torch import Tensor
from torch.nn import functional as F

import pgvae
from pgvae.errors import CorruptFileError, InputError
from pgvae.inference import Model, directions_path
from pgvae.inference.directions import move, move_to

D = 8  # of the models


def test_a_move_is_along_unit_vectors():
    directions, z = pointing([3.0, 4.0, 0.0], [0.0, 0.0, 2.0]), prior("gaussian", 5, 3)
    shift = torch.tensor([0.6 * 1.5, 0.8 * 1.5, -2.0])
    torch.testing.assert_close(move("gaussian", z, directions, [1.5, -2.0]), z + shift)


def test_a_move_raises_the_logit_by_the_length_of_the_weight():
    directions, z = random_directions(1, 6), prior("gaussian", 20, 6)
    moved = move("gaussian", z, directions, [2.5])
    growth = directions.logits(moved) - directions.logits(z)
    expected = 2.5 * directions.weight.norm()
    torch.testing.assert_close(growth, expected.expand(20, 1), rtol=1e-5, atol=1e-5)


def test_the_opposite_move_undoes_a_move():
    directions, z = random_directions(3, 6), prior("gaussian", 20, 6)
    there = move("gaussian", z, directions, [4.0, -1.0, 2.0])
    back = move("gaussian", there, directions, [-4.0, 1.0, -2.0])
    assert (there - z).norm(dim=1).min() > 1
    torch.testing.assert_close(back, z, rtol=0, atol=1e-5)


def test_a_move_on_the_sphere_is_in_units_of_its_deviation():
    directions, z = pointing([0.0, 0.0, 5.0, 0.0]), torch.eye(4)[:1]
    moved = move("sphere", z, directions, [2.0])  # 2 / sqrt(4) = 1: half way to the attribute
    torch.testing.assert_close(moved, torch.tensor([[0.5, 0.0, 0.5, 0.0]]).sqrt())
    many = move("sphere", prior("sphere", 50, 4), random_directions(2, 4), [3.0, -5.0])
    torch.testing.assert_close(many.norm(dim=1), torch.ones(50))


def as_sure(chances: Tensor, certainty: float) -> Tensor:
    """Whether probabilities are beyond what is asked for, or within rounding of it."""
    return chances >= certainty - 1e-4 if certainty >= 0.5 else chances <= certainty + 1e-4


CERTAINTIES = pytest.mark.parametrize("certainty", [0.02, 0.4, 0.5, 0.9, 0.999])


@CERTAINTIES
def test_the_least_move_is_the_projection_on_a_half_space(certainty):
    """z + max(0, logit(p) - w . z - b) w / |w|^2."""
    directions, z = random_directions(1, 6), 4 * prior("gaussian", 200, 6)
    moved = move_to("gaussian", z, directions, certainty)
    [weight], [bias] = directions.weight.double(), directions.bias.double()
    sign = 1 if certainty >= 0.5 else -1
    lacking = (sign * (logit(certainty) - z.double() @ weight - bias)).clamp(min=0)
    expected = z + sign * lacking[:, None] * weight / weight.square().sum()
    torch.testing.assert_close(moved.double(), expected, rtol=1e-5, atol=1e-5)
    chances = certainties(directions, moved)
    assert as_sure(chances, certainty).all()
    short = lacking > 0
    assert 0 < short.sum() < 200
    assert (chances[short] - certainty).abs().max() < 1e-5


@CERTAINTIES
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("count", [1, 2])
def test_latents_that_are_sure_stay_as_they_are(count, head, certainty):
    directions = pointing(*[[16.0, 0.0, 4.0], [12.0, -12.0, 0.0]][:count])
    z = prior(head, 400, 3)
    chances = certainties(directions, z)
    sure = (chances >= certainty) if certainty >= 0.5 else (chances <= certainty)
    sure = sure.all(dim=1)
    assert 0 < sure.sum() < 400
    moved = move_to(head, z, directions, certainty)
    assert torch.equal(moved[sure], z[sure])
    assert (moved[~sure] != z[~sure]).any(dim=1).all()


@CERTAINTIES
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("second", [[15.0, 26.0, 0.0, 0.0], [-18.0, 24.0, 0.0, 0.0]])
def test_attributes_that_pull_together_or_apart_all_hold(second, head, certainty):
    """Of cosine 0.5 and -0.6 to the first."""
    directions = pointing([30.0, 0.0, 0.0, 0.0], second, bias=[-1.0, 0.5])
    z = prior(head, 200, 4)
    moved = move_to(head, z, directions, certainty)
    assert as_sure(certainties(directions, moved), certainty).all()
    if head == "sphere":
        torch.testing.assert_close(moved.norm(dim=1), torch.ones(200))


@pytest.mark.parametrize("head", HEADS)
def test_attributes_that_exclude_each_other_leave_the_latents_finite(head):
    both = pointing([4.0, 1.0, 0.0], [-4.0, -1.0, 0.0])
    moved = move_to(head, prior(head, 20, 3), both, 0.9)
    assert moved.isfinite().all()


@pytest.mark.parametrize("certainty", [0.03, 0.3, 0.7, 0.97])
def test_on_the_sphere_the_nearest_point_is_taken(certainty):
    """Against many points of the circle w . z + b = logit(p)."""
    directions, z = pointing([3.0, 0.0, 4.0], bias=0.5), prior("sphere", 60, 3)
    chances = certainties(directions, z)[:, 0]
    short = chances < certainty if certainty >= 0.5 else chances > certainty
    moved = move_to("sphere", z, directions, certainty)[short]
    assert len(moved) > 5
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(len(moved)))
    reached = certainties(directions, moved)[:, 0]
    torch.testing.assert_close(reached, torch.full_like(reached, certainty), rtol=0, atol=1e-5)
    height = (logit(certainty) - 0.5) / 5
    angles = 2 * math.pi * torch.rand(5000, 1, generator=rng(0))
    plane = torch.tensor([[0.0, 1.0, 0.0], [0.8, 0.0, -0.6]])
    ring = torch.cat([angles.cos(), angles.sin()], dim=1) @ plane
    circle = height * torch.tensor([0.6, 0.0, 0.8]) + math.sqrt(1 - height**2) * ring
    least = torch.cdist(z[short].double(), circle.double()).min(dim=1).values
    distance = (moved - z[short]).norm(dim=1)
    assert (distance <= least + 1e-5).all()


@pytest.mark.parametrize(("certainty", "pole"), [(0.99, 1.0), (0.01, -1.0)])
def test_a_certainty_that_no_point_has_gives_the_surest_one(certainty, pole):
    """|w| = 2 gives 0.88 at most, and 0.12 at least."""
    moved = move_to("sphere", prior("sphere", 30, 3), pointing([0.0, 1.2, -1.6]), certainty)
    expected = pole * torch.tensor([0.0, 0.6, -0.8])
    torch.testing.assert_close(moved, expected.expand(30, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("certainty", [0.0, 1.0, -0.5, 2.0, math.nan, math.inf])
def test_what_is_no_certainty_is_refused(certainty):
    with pytest.raises(InputError, match="certainty"):
        move_to("gaussian", prior("gaussian", 2, 3), pointing([1.0, 0.0, 0.0]), certainty)


@pytest.fixture
def vac() -> Model:
    return model_of("gaussian", classes=2)


@pytest.fixture(params=HEADS)
def probed(request, tmp_path) -> Model:
    """A model without a classifier, its directions in a file."""
    return probed_model(tmp_path, request.param)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_classifiers_rows_are_the_directions(classes):
    """Introvac's third, of an attribute that there is not, is "fake"."""
    model = model_of("gaussian", classes)
    found = model.directions
    assert found.names == ("glasses", "Bärte")
    assert torch.equal(found.weight, model.encoder.classifier.weight[:2])
    assert torch.equal(found.bias, torch.zeros(2))
    with pytest.raises(InputError, match="fake"):
        model.edit(images_of(1), "fake")
    codes = model.encode(images_of(4))
    torch.testing.assert_close(found.logits(codes), model.classify(images_of(4)))


@pytest.mark.parametrize("head", HEADS)
def test_a_model_without_directions_says_how_to_estimate_them(head, tmp_path):
    for model in (model_of(head), pgvae.load(saved(tmp_path / "s.safetensors", head))):
        with pytest.raises(InputError, match="pgvae directions"):
            _ = model.directions
        with pytest.raises(InputError, match="pgvae directions"):
            model.edit(images_of(1), "glasses")
        with pytest.raises(InputError, match="pgvae directions"):
            model.sample_conditional(1, {"glasses": 1})


def test_directions_are_the_classifiers_then_those_of_the_file_beside(probed, tmp_path):
    assert probed.directions.names == ("hat", "glasses")
    assert torch.equal(probed.directions.weight, hats().weight)
    assert torch.equal(probed.directions.bias, hats().bias)
    model = pgvae.load(beside(saved(tmp_path / "s.safetensors", classes=2), hats()))
    assert model.directions.names == ("glasses", "Bärte", "hat")
    expected = torch.cat([model.encoder.classifier.weight, hats().weight[:1]])
    assert torch.equal(model.directions.weight, expected)


def test_a_file_of_another_snapshot_or_a_damaged_one_is_refused(tmp_path):
    path = beside(saved(tmp_path / "s.safetensors"), hats())
    saved(path, "sphere")
    with pytest.raises(InputError, match="another snapshot"):
        _ = pgvae.load(path).directions
    directions_path(path).write_bytes(b"none of this")
    with pytest.raises(CorruptFileError, match=directions_path(path).name):
        _ = pgvae.load(path).directions


def test_an_edit_moves_the_posteriors_mean_and_decodes(vac):
    """By z + delta w / |w|, 3 if nothing is said."""
    images, [weight, _] = images_of(3), vac.encoder.classifier.weight
    for given, delta in (([], 3.0), ([1.5], 1.5), ([-2], -2.0), ([[2.0]], 2.0)):
        edited = vac.edit(images, "glasses", *given)
        expected = vac.decode(vac.encode(images) + delta * weight / weight.norm())
        torch.testing.assert_close(edited, expected)
        assert not torch.equal(edited, vac.reconstruct(images))
        assert edited.shape == (3, 3, 8, 8)
        assert edited.abs().max() <= 1
        assert not edited.requires_grad


def test_each_attribute_has_its_delta_or_all_have_one(vac):
    z = prior("gaussian", 4, D)
    units = F.normalize(vac.encoder.classifier.weight, dim=1)
    names = ["Bärte", "glasses"]
    torch.testing.assert_close(vac.move(z, names, [2.0, -1]), z + 2 * units[1] - units[0])
    torch.testing.assert_close(vac.move(z, tuple(names), 1.5), z + 1.5 * units.sum(dim=0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_latents_of_any_floats_move_as_those_of_float32(dtype, vac):
    latents = vac.encode(vac.sample(2)).to(dtype)
    for asked in ({"delta": 2.0}, {"to": 0.9}):
        moved = vac.move(latents, vac.attributes[0], **asked)
        assert torch.equal(moved, vac.move(latents.float(), vac.attributes[0], **asked))


@pytest.mark.parametrize("to", [None, 0.05, 0.9])
def test_a_probed_model_moves_as_its_head_does_or_until_it_is_as_sure(to, probed):
    images, names = images_of(6), ["glasses", "hat"]
    deltas = [2.0, -1.0] if to is None else None
    codes = probed.encode(images)
    moved = probed.move(codes, names, deltas, to=to)
    if to is None:
        torch.testing.assert_close(moved, move(probed.config.head, codes, hats(), [-1.0, 2.0]))
    else:
        assert as_sure(certainties(probed.directions, moved), to).all()
    torch.testing.assert_close(probed.edit(images, names, deltas, to=to), probed.decode(moved))


@pytest.mark.parametrize("deltas", [[], [1.0], [1.0, 2.0, 3.0]])
def test_deltas_of_another_number_than_attributes_are_refused(deltas, vac):
    with pytest.raises(ValueError, match="delta"):
        vac.edit(images_of(1), ["glasses", "Bärte"], deltas)


def test_both_a_way_and_a_certainty_are_refused(vac):
    with pytest.raises(ValueError, match="give one of them"):
        vac.edit(vac.sample(1), vac.attributes[0], delta=1.0, to=0.9)


def test_an_attribute_that_the_model_does_not_know_is_refused(vac, probed):
    for model in (vac, probed):
        with pytest.raises(InputError, match=r"glases.*glasses"):
            model.edit(images_of(1), ["glasses", "glases"])
        with pytest.raises(InputError, match=r"glases.*glasses"):
            model.sample_conditional(1, {"glases": 1})


@pytest.mark.parametrize("method", ["langevin", "rejection"])
def test_images_sampled_by_attribute_are_classified_once_more(method, probed, monkeypatch):
    monkeypatch.setattr(probed, "decode", lambda latents: latents)
    monkeypatch.setattr(probed, "encode", lambda images: images.roll(1, dims=1))
    asked, how = {"glasses": 0, "hat": 1}, {"steps": 40, "method": method, "step_size": 0.02}
    for more, sure in (({}, 0.5), ({"sure": 0.7}, 0.7)):
        images = probed.sample_conditional(20, asked, **how, **more)
        assert len(images) == 20
        hat, glasses = certainties(hats(), probed.encode(images)).T
        assert (hat > sure).all()
        assert (glasses < 1 - sure).all()
    with pytest.raises(InputError, match="sure"):
        probed.sample_conditional(1, asked, **how, sure=1.5)


@pytest.mark.parametrize(
    "delta", [np.int64(2), np.float32(2), np.array(2.0), torch.tensor(2), [np.int64(2)]]
)
def test_a_delta_may_be_a_number_of_numpy_or_torch(delta, vac):
    latents = vac.encode(images_of(2))
    assert torch.equal(vac.move(latents, "glasses", delta), vac.move(latents, "glasses", 2.0))


@pytest.mark.parametrize("delta", ["far", {}, [None]])
def test_a_delta_that_is_no_number_is_refused_in_one_line(delta, vac):
    with pytest.raises(InputError, match=r"delta is .*: give a number, or one for each"):
        vac.edit(images_of(1), "glasses", delta)
