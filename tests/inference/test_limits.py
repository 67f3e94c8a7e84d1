"""Where moves and conditional samples come to their limits."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from snapshots import make
from torch.nn import functional as F

from pgvae.errors import CorruptFileError, InputError
from pgvae.files import sha256_of
from pgvae.inference import Model
from pgvae.inference.conditional import langevin, reject
from pgvae.inference.directions import (
    Directions,
    load_directions,
    move,
    move_to,
    save_directions,
)


def along_first(d: int, length: float, bias: float = 0.0) -> Directions:
    weight = torch.zeros(1, d)
    weight[0, 0] = length
    return Directions(("glasses",), weight, torch.tensor([bias]))


@pytest.mark.parametrize("pole", [1.0, -1.0])
@pytest.mark.parametrize("certainty", [0.9, 0.6, 0.3])
def test_a_move_from_a_pole_reaches_its_level_on_the_sphere(pole, certainty):
    start = torch.zeros(2, 3)
    start[:, 0] = pole
    start[1] = F.normalize(start[1] + torch.tensor([0.0, 1e-7, -1e-7]), dim=0)
    moved = move_to("sphere", start, along_first(3, 5.0), certainty)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(2))
    found = torch.sigmoid(5 * moved[:, 0])
    sure_already = (found - certainty) * (1 if certainty >= 0.5 else -1) > 0
    wanted = torch.full((2,), certainty)
    torch.testing.assert_close(torch.where(sure_already, wanted, found), wanted)
    if (pole > 0) == (certainty >= 0.5):
        assert torch.equal(moved, start)


def test_back_from_the_surest_point_there_is():
    rng = torch.Generator().manual_seed(0)
    latents = F.normalize(torch.randn(50, 8, generator=rng), dim=1)
    directions = Directions(("hat",), torch.randn(1, 8, generator=rng), torch.zeros(1))
    directions = Directions(("hat",), 5 * F.normalize(directions.weight), torch.zeros(1))
    surest = move_to("sphere", latents, directions, 0.99999)
    back = move_to("sphere", surest, directions, 0.3)
    torch.testing.assert_close(back.norm(dim=1), torch.ones(50))
    level = torch.full((50,), math.log(0.3 / 0.7))
    torch.testing.assert_close(directions.logits(back)[:, 0], level, atol=1e-4, rtol=0)


def test_an_attribute_without_a_direction_is_refused():
    with pytest.raises(InputError, match="one of glasses has no direction"):
        move_to("gaussian", torch.zeros(1, 3), along_first(3, 0.0), 0.9)


@pytest.mark.parametrize("head", ["sphere", "gaussian"])
@pytest.mark.parametrize("delta", [math.nan, math.inf, -math.inf])
def test_a_move_by_what_is_no_finite_number_is_refused(head, delta):
    directions = along_first(3, 5.0).joined(Directions(("hat",), torch.ones(1, 3), torch.ones(1)))
    with pytest.raises(InputError, match=rf"deltas are \[1\.0, {delta}\]: use finite numbers"):
        move(head, torch.zeros(1, 3), directions, [1.0, delta])


def test_many_latents_are_drawn_even_where_few_candidates_are_kept():
    directions = along_first(2, 1e-3, bias=-4.0)  # one in 55
    rng = torch.Generator().manual_seed(0)
    found = reject("gaussian", directions, torch.tensor([True]), 15_000, rng, only_right=False)
    assert len(found.latents) == 15_000
    assert found.accepted == pytest.approx(1 / (1 + math.exp(4)), rel=0.05)


def test_chains_that_never_arrive_are_given_up_soon():
    tried = []

    def check(latents: torch.Tensor) -> torch.Tensor:
        tried.append(len(latents))
        return torch.zeros(len(latents), dtype=torch.bool)

    rng = torch.Generator().manual_seed(0)
    with pytest.raises(InputError, match=r"only 0 of .* have what is asked for"):
        langevin("gaussian", along_first(2, 1.0), torch.tensor([True]), 16, rng, 2, check=check)
    assert sum(tried) < 1000


def file_of(folder: Path, **changes: object) -> tuple[Path, Path]:
    """A file of directions with changed metadata, and its snapshot."""
    snapshot, path = folder / "s.safetensors", folder / "directions-s.safetensors"
    snapshot.write_bytes(b"snapshot")
    directions = Directions(("a", "b"), torch.ones(2, 3), torch.zeros(2))
    save_directions(path, directions, snapshot)
    about = {
        "format": 1,
        "names": ["a", "b"],
        "snapshot": sha256_of(snapshot),
        "about": {},
        **changes,
    }
    about = {name: value for name, value in about.items() if value is not ...}
    tensors = {"weight": directions.weight, "bias": directions.bias}
    save_file(tensors, path, metadata={"pgvae": json.dumps(about)})
    return path, snapshot


@pytest.mark.parametrize(
    "changes",
    [
        {"about": ...},
        {"about": [1]},
        {"names": "ab"},
        {"names": [1, 2]},
        {"names": ["a", "a"]},
        {"names": ...},
        {"format": ...},
    ],
    ids=str,
)
def test_a_file_of_directions_with_wrong_metadata_is_damaged(changes, tmp_path):
    path, snapshot = file_of(tmp_path, **changes)
    with pytest.raises(CorruptFileError, match="is damaged or holds no directions"):
        load_directions(path, snapshot, 3)


def test_metadata_nested_too_deeply_is_damage(tmp_path):
    path, snapshot = file_of(tmp_path)
    tensors = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    save_file(tensors, path, metadata={"pgvae": "[" * 100_000})
    with pytest.raises(CorruptFileError, match="is damaged"):
        load_directions(path, snapshot, 3)


def test_a_newer_format_is_told_from_damage(tmp_path):
    path, snapshot = file_of(tmp_path, format=2, names=..., about=...)
    with pytest.raises(InputError, match="has format 2, this version reads 1: upgrade pgvae"):
        load_directions(path, snapshot, 3)


def test_directions_of_other_numbers_than_float32_are_damaged(tmp_path):
    path, snapshot = file_of(tmp_path)
    directions = Directions(("a",), torch.ones(1, 3).double(), torch.zeros(1).double())
    save_directions(path, directions, snapshot)
    with pytest.raises(CorruptFileError, match="is damaged"):
        load_directions(path, snapshot, 3)


def test_directions_may_be_a_view(tmp_path):
    path, snapshot = file_of(tmp_path)
    directions = Directions(("a",), torch.arange(3.0)[:, None].t(), torch.zeros(2)[::2])
    save_directions(path, directions, snapshot)
    assert torch.equal(load_directions(path, snapshot, 3).weight, directions.weight)


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
    model = Model(make(head="gaussian", classes=2))
    with pytest.raises(InputError, match=message):
        model.conditional_latents(count, {"glasses": value}, steps=1, **options)
