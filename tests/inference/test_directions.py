"""Directions of attributes: estimated from labels, asked for by name, kept in a file."""

import json
import pickle
import random
from pathlib import Path

import pytest
import torch
from damage import damaged_copies
from latent_models import (
    HEADS,
    certainties,
    labelled,
    minimised,
    pointing,
    prior,
    random_directions,
    rng,
    saved,
)
from snapshots import Trap, join, split
from torch import Tensor
from torch.nn import functional as F

from pgvae.errors import CorruptFileError, InputError
from pgvae.inference import Directions, directions_path, estimate, save_directions
from pgvae.inference.directions import load_directions

D = 8
METHODS = ("probe", "difference")
TRUTH = pointing([1.5, -1.0, 0.5, 0.0, 0.0, 1.0, 0.0, -0.2], bias=-0.7)


def ordinary() -> tuple[Tensor, Tensor]:
    return labelled(random_directions(1, D), 300)


def on_the_sphere() -> tuple[Tensor, Tensor]:
    return labelled(pointing([4.0, -2.0, 0.0, 1.0, 0.0, 3.0, 0.0, 0.0], bias=-0.5), 300, "sphere")


def off_centre() -> tuple[Tensor, Tensor]:
    latents, said = ordinary()
    return latents + 5, said


def separable() -> tuple[Tensor, Tensor]:
    latents = prior("gaussian", 200, D)
    return latents, (latents[:, :1] > 0.3).float()


def one_yes() -> tuple[Tensor, Tensor]:
    latents = prior("gaussian", 500, D)
    return latents, (torch.arange(500) == 7).float()[:, None]


def outlier() -> tuple[Tensor, Tensor]:
    """Newton's method without a line search does not converge on these."""
    latents = torch.tensor([1.0] * 100 + [-1.0, -30.0])[:, None]
    return latents, (latents > 0).float()


def few() -> tuple[Tensor, Tensor]:
    return prior("gaussian", 4, D), torch.tensor([[0.0], [1.0], [1.0], [0.0]])


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize(
    "data", [ordinary, on_the_sphere, off_centre, separable, one_yes, outlier, few]
)
def test_a_probe_has_the_least_penalised_loss(data, ridge):
    latents, said = data()
    found = estimate(latents, said, ["a"], "probe", ridge)
    weight, bias = minimised(latents, said[:, 0], ridge)
    assert (found.weight[0] - weight).norm() < 5e-3 * weight.norm()
    assert abs(found.bias[0] - bias) < 5e-3 * (1 + abs(bias))


@pytest.mark.parametrize("method", METHODS)
def test_attributes_are_estimated_one_by_one(method):
    latents, said = labelled(random_directions(3, D), 300)
    together = estimate(latents, said, ["a", "b", "c"], method)
    assert together.names == ("a", "b", "c")
    assert (together.weight.shape, together.bias.shape) == ((3, D), (3,))
    assert together.weight.dtype == together.bias.dtype == torch.float32
    for k, name in enumerate("abc"):
        alone = estimate(latents, said[:, [k]], [name], method)
        torch.testing.assert_close(alone.weight[0], together.weight[k])
        torch.testing.assert_close(alone.bias[0], together.bias[k])


@pytest.mark.parametrize("method", METHODS)
def test_unknown_labels_are_left_out(method):
    """The unknown ones are the others mirrored, so that the scale is the same with or without."""
    latents, said = labelled(random_directions(2, D), 200)
    nothing = torch.full_like(said, torch.nan)
    found = estimate(torch.cat([latents, -latents]), torch.cat([said, nothing]), ["a", "b"], method)
    expected = estimate(latents, said, ["a", "b"], method)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.bias, expected.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gap", [0.0, 100.0])
def test_separable_data_gives_a_finite_direction_that_separates(method, gap):
    yes = (torch.arange(200) % 2).float()
    latents = prior("gaussian", 200, D)
    latents[:, 0] = latents[:, 0].abs() * (2 * yes - 1) * (1 + gap) + (2 * yes - 1)
    found = estimate(latents, yes[:, None], ["a"], method)
    assert found.weight.isfinite().all()
    assert found.bias.isfinite().all()
    assert ((found.logits(latents)[:, 0] > 0) == (yes > 0)).float().mean() > 0.97


def test_the_difference_is_that_of_the_mean_latents():
    latents, said = labelled(random_directions(1, D), 300)
    yes = said[:, 0] > 0
    expected = latents[yes].mean(dim=0) - latents[~yes].mean(dim=0)
    found = estimate(latents, said, ["a"], "difference").weight
    torch.testing.assert_close(F.normalize(found, dim=1)[0], F.normalize(expected, dim=0))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_a_planted_direction_is_found_with_its_probability(method, head):
    """E[z sigmoid(w . z + b)] is along w by symmetry, so that the difference finds it as well."""
    found = estimate(*labelled(TRUTH, 20_000, head), ["a"], method)
    assert F.cosine_similarity(found.weight, TRUTH.weight) > 0.97
    fresh = prior(head, 5000, D, seed=9)
    error = certainties(found, fresh) - certainties(TRUTH, fresh)
    assert error.abs().mean() < 0.02


def test_a_probe_errs_as_much_as_its_fisher_information_says():
    """e^T I e is chi-squared with d + 1 = 9 degrees of freedom: 40 has a chance of 8e-6."""
    latents, said = labelled(TRUTH, 20_000)
    found = estimate(latents, said, ["a"])
    chance = certainties(TRUTH, latents)
    x = torch.cat([latents, torch.ones(20_000, 1)], dim=1).double()
    information = x.T @ (chance * (1 - chance) * x)
    error = torch.cat([found.weight[0] - TRUTH.weight[0], found.bias - TRUTH.bias]).double()
    assert 0.5 < error @ information @ error < 40  # 0.5 or less: 3e-5


@pytest.mark.parametrize("factor", [1e-3, 0.1, 100.0])
@pytest.mark.parametrize("method", METHODS)
def test_latents_of_another_size_get_the_same_answers(method, factor):
    latents, said = labelled(random_directions(1, D), 300)
    answers = estimate(latents, said, ["a"], method).logits(latents)
    scaled = estimate(factor * latents, said, ["a"], method).logits(factor * latents)
    torch.testing.assert_close(scaled, answers, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1.0, torch.nan])
def test_a_label_that_says_but_one_thing_is_refused(method, value):
    latents, said = labelled(random_directions(2, D), 50)
    said[:, 1] = value
    said[3, 1] = torch.nan
    with pytest.raises(InputError, match="hat"):
        estimate(latents, said, ["glasses", "hat"], method)


def named(*names: str, seed: int = 0) -> Directions:
    draw = torch.randn(len(names), D + 1, generator=rng(seed))
    about = {"method": "probe", "accuracy": {"hat": 0.75}}
    return Directions(names, draw[:, :D].contiguous(), draw[:, D].contiguous(), about)


def test_attributes_come_in_the_order_asked_for():
    directions = named("glasses", "hat", "beard")
    chosen = directions.of(["beard", "glasses"])
    assert chosen.names == ("beard", "glasses")
    assert torch.equal(chosen.weight, directions.weight[[2, 0]])
    assert torch.equal(chosen.bias, directions.bias[[2, 0]])
    chances = torch.sigmoid(chosen.logits(prior("gaussian", 20, D))).double()
    expected = certainties(chosen, prior("gaussian", 20, D))
    torch.testing.assert_close(chances, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_attribute_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"(?s)glases.*glasses") as refusal:
        named("hat", "glasses", "beard").of(["hat", "glases"])
    assert str(refusal.value).isprintable()


def test_directions_join_those_of_other_names():
    ours, theirs = named("glasses", "hat"), named("beard", "hat", "smile", seed=1)
    joined = ours.joined(theirs)
    assert joined.names == ("glasses", "hat", "beard", "smile")
    assert torch.equal(joined.weight, torch.cat([ours.weight, theirs.weight[[0, 2]]]))
    assert torch.equal(joined.bias, torch.cat([ours.bias, theirs.bias[[0, 2]]]))


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Path]:
    """A snapshot, and the directions beside it."""
    snapshot = saved(tmp_path / "snapshot-000001000.safetensors")
    path = directions_path(snapshot)
    save_directions(path, named("hat", "Bärte"), snapshot)
    return path, snapshot


def test_what_is_saved_is_loaded(kept):
    path, snapshot = kept
    assert path.name == "directions-snapshot-000001000.safetensors"
    assert {file.name for file in path.parent.iterdir()} == {path.name, snapshot.name}
    found, content = load_directions(path, snapshot, D), named("hat", "Bärte")
    assert (found.names, dict(found.about)) == (content.names, content.about)
    assert torch.equal(found.weight, content.weight)
    assert torch.equal(found.bias, content.bias)


def test_directions_of_another_snapshot_or_length_are_refused(kept):
    path, snapshot = kept
    with pytest.raises(CorruptFileError):
        load_directions(path, snapshot, D + 1)
    saved(snapshot, "sphere")
    with pytest.raises(InputError, match="made for another snapshot"):
        load_directions(path, snapshot, D)


def test_a_truncated_file_and_noise_are_refused(kept):
    path, snapshot = kept
    whole = path.read_bytes()
    noise = [torch.randint(256, (400,), generator=rng(seed)).tolist() for seed in range(9)]
    lengths = [0, 1, 7, 8, 9, 40, *range(64, len(whole), 23), len(whole) - 1]
    for damaged in [whole[:length] for length in lengths] + [bytes(row) for row in noise]:
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=path.name):
            load_directions(path, snapshot, D)


def test_a_file_with_a_byte_flipped_is_refused_or_has_the_same_tensors(kept):
    path, snapshot = kept
    whole, before = path.read_bytes(), load_directions(path, snapshot, D)
    for damaged in damaged_copies(whole, random.Random(0)):
        path.write_bytes(damaged)
        try:
            found = load_directions(path, snapshot, D)
        except (CorruptFileError, InputError):
            continue
        assert torch.equal(found.weight, before.weight)
        assert torch.equal(found.bias, before.bias)


def test_a_changed_bit_is_refused_and_a_file_without_a_digest_is_taken(kept):
    path, snapshot = kept
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptFileError, match="its SHA-256 is not the one"):
        load_directions(path, snapshot, D)
    described(path, sha256=None)
    load_directions(path, snapshot, D)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_not_run(write, kept, tmp_path):
    path, snapshot = kept
    with path.open("wb") as file:
        write({"weight": Trap(tmp_path / "sprung")}, file)
    with pytest.raises(CorruptFileError, match=path.name):
        load_directions(path, snapshot, D)
    assert not (tmp_path / "sprung").exists()


def described(path: Path, **changes: object) -> None:
    """Change entries of the description in a file's header; None takes one away.

    The digest goes too, as if the description had been written so.
    """
    header, data = split(path)
    about = json.loads(header["__metadata__"]["pgvae"]) | changes | {"sha256": None}
    about = {name: value for name, value in about.items() if value is not None}
    join(path, header | {"__metadata__": {"pgvae": json.dumps(about)}}, data)


def test_a_newer_format_is_told_from_damage(kept):
    path, snapshot = kept
    described(path, format=2, names=None, about=None)
    with pytest.raises(InputError, match="has format 2, this version reads 1: upgrade pgvae"):
        load_directions(path, snapshot, D)


@pytest.mark.parametrize(
    "changes",
    [{"about": value} for value in (None, [1])]
    + [{"names": v} for v in ("ab", 3, [1, 2], ["a", "a"], ["hat"], ["a", "b", "c"], None)]
    + [{"format": None}],
    ids=str,
)
def test_a_wrong_description_is_damage(changes, kept):
    path, snapshot = kept
    described(path, **changes)
    with pytest.raises(CorruptFileError, match=f"{path.name} is damaged or holds no directions"):
        load_directions(path, snapshot, D)


@pytest.mark.parametrize("text", [None, "[]", "{", "{}", "[" * 100_000], ids=lambda t: str(t)[:9])
def test_a_file_without_its_description_is_refused(text, kept):
    path, snapshot = kept
    header, data = split(path)
    join(path, header | {"__metadata__": {} if text is None else {"pgvae": text}}, data)
    with pytest.raises(CorruptFileError, match=path.name):
        load_directions(path, snapshot, D)


def test_directions_may_be_a_view(kept):
    path, snapshot = kept
    weight, bias = torch.arange(16.0).reshape(D, 2).t(), torch.arange(4.0)[::2]
    save_directions(path, Directions(("a", "b"), weight, bias), snapshot)
    found = load_directions(path, snapshot, D)
    assert torch.equal(found.weight, weight)
    assert torch.equal(found.bias, bias)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": torch.zeros(16)},
        {"weight": torch.zeros(2, 8).double()},
        {"bias": torch.zeros(2).double()},
        {"weight": torch.zeros(3, 8)},
        {"weight": torch.full((2, 8), torch.nan)},
        {"weight": torch.eye(8)[:2] / 0},
        {"bias": torch.zeros(3)},
        {"bias": torch.zeros(2, 1)},
        {"bias": torch.tensor([0.0, torch.nan])},
    ],
)
def test_tensors_of_another_shape_or_not_finite_are_refused(changes, kept):
    path, snapshot = kept
    content = named("hat", "Bärte")
    tensors = {"weight": content.weight, "bias": content.bias} | changes
    save_directions(path, Directions(content.names, **tensors), snapshot)
    with pytest.raises(CorruptFileError, match=path.name):
        load_directions(path, snapshot, D)
