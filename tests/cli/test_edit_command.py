"""`pgvae generate edit`, as a user meets it."""

import math
from pathlib import Path

import numpy as np
import pytest
from commands import contents
from generated import BOTH, GLASSES, as_images, as_pixels, cells, names_in, near, pixels

from pgvae.data import Store
from pgvae.inference import load


def test_an_edit_is_three_pictures_side_by_side(desk, generate, capsys):
    assert generate("edit", "a.png", *GLASSES, "--delta", "20") == 0
    assert names_in(desk / "o") == ["a-edit.png", "edits.png"]
    triplet = pixels(desk / "o" / "a-edit.png")
    assert triplet.shape == (8, 3 * 8, 3)
    original, again, edited = (triplet[None, :, i : i + 8] for i in (0, 8, 16))
    model = load(desk / "v.safetensors")
    image = as_images(original)
    assert near(again, as_pixels(model.reconstruct(image)))
    assert near(edited, as_pixels(model.edit(image, "glasses", 20.0)))
    assert abs(edited - again).max() > 5
    grid = cells(pixels(desk / "o" / "edits.png"))
    assert np.array_equal(grid[:, 0], np.concatenate([original, again, edited]))

    images = image, model.edit(image, "glasses", 20.0)
    was, now = (1 / (1 + math.exp(-model.classify(x)[0, 0])) for x in images)
    assert capsys.readouterr().out.splitlines() == [
        f"a.png: glasses {was:.0%} -> {now:.0%}",
        str(Path("o") / "edits.png"),
    ]


def test_edits_of_many_are_rows_of_originals_reconstructions_and_edits(
    desk, generate, pictures, capsys
):
    assert generate("edit", pictures, *GLASSES, "--count", "19") == 0
    assert capsys.readouterr().out == "o/edits.png\n"  # no line each above 16
    assert len(list((desk / "o").glob("picture-*-edit.png"))) == 19
    grid = cells(pixels(desk / "o" / "edits.png"))
    assert grid.shape[:2] == (9, 8)
    triplets = [pixels(desk / "o" / f"picture-{i:03d}-edit.png") for i in range(19)]
    for place, triplet in enumerate(triplets):
        row, column = 3 * (place // 8), place % 8
        for part in range(3):
            assert np.array_equal(grid[row + part, column], triplet[:, 8 * part : 8 * part + 8])
    assert (grid[6:, 3:] == 255).all()


def test_sixteen_images_are_each_told_of(generate, pictures, capsys):
    assert generate("edit", pictures, *BOTH, "--count", "16") == 0
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert len(lines) == 16
    assert all(line.startswith("picture-") and ": glasses " in line for line in lines)
    assert all(", hat " in line and line.count(" -> ") == 2 for line in lines)


def test_taking_away_is_adding_a_negative_amount(desk, generate):
    assert generate("edit", "a.png", "b.png", *GLASSES, "--delta", "4", "--remove", out="r") == 0
    assert generate("edit", "a.png", "b.png", *GLASSES, "--delta", "-4", out="n") == 0
    assert generate("edit", "a.png", "b.png", *GLASSES, "--delta", "4", out="p") == 0
    assert contents(desk / "r") == contents(desk / "n")
    assert contents(desk / "r") != contents(desk / "p")


def test_the_usual_amount_is_three(desk, generate):
    assert generate("edit", "a.png", *GLASSES, out="usual") == 0
    assert generate("edit", "a.png", *GLASSES, "--delta", "3", out="three") == 0
    assert contents(desk / "usual") == contents(desk / "three")


def test_one_amount_is_for_all_attributes_or_there_is_one_for_each(desk, generate):
    for name, deltas in (("one", [5]), ("each", [5, 5]), ("other", [5, -5])):
        words = [word for delta in deltas for word in ("--delta", delta)]
        assert generate("edit", "a.png", *BOTH, *words, out=name) == 0
    assert contents(desk / "one") == contents(desk / "each")
    assert contents(desk / "one") != contents(desk / "other")
    triplet = pixels(desk / "other" / "a-edit.png")[None]
    model, image = load(desk / "v.safetensors"), as_images(triplet[:, :, :8])
    expected = model.edit(image, ["glasses", "hat"], [5.0, -5.0])
    assert near(triplet[:, :, 16:], as_pixels(expected))


@pytest.mark.parametrize(("more", "certainty"), [([], 0.9), (["--remove"], 0.1)])
def test_images_are_moved_until_the_classifier_is_so_sure(more, certainty, desk, generate):
    assert generate("edit", "a.png", "b.png", *GLASSES, "--to", "0.9", *more) == 0
    model = load(desk / "v.safetensors")
    for name in ("a-edit.png", "b-edit.png"):
        triplet = pixels(desk / "o" / name)[None]
        image = as_images(triplet[:, :, :8])
        moved = model.move(model.encode(image), "glasses", to=certainty)
        assert near(triplet[:, :, 16:], as_pixels(model.decode(moved)))


def test_a_strip_goes_from_without_to_with(desk, generate, capsys):
    words = ("edit", "a.png", "b.png", *GLASSES, "--delta")
    assert generate(*words, "6", "--strip", "5") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["o/edits.png", "o/strip.png"]
    assert generate(*words, "-6", out="without") == 0
    strip = cells(pixels(desk / "o" / "strip.png"))
    assert strip.shape[:2] == (2, 6)  # the original, then 5 steps
    for row, name in zip(strip, ("a-edit.png", "b-edit.png"), strict=True):
        triplet, opposite = (pixels(desk / out / name) for out in ("o", "without"))
        original, again, edited = (triplet[:, i : i + 8] for i in (0, 8, 16))
        assert np.array_equal(row[0], original)
        assert near(row[1], opposite[:, 16:])
        assert near(row[3], again)
        assert near(row[5], edited)


def test_of_a_prepared_set_the_unseen_images_are_edited(desk, generate, faces):
    assert generate("edit", faces, *GLASSES) == 0
    unseen = Store(faces).split("val")
    assert names_in(desk / "o") == sorted(
        [*(f"faces-{index}-edit.png" for index in unseen), "edits.png"]
    )
