"""Points as a browser sends them."""

import json
import math

import pytest

from pgvae.errors import InputError
from pgvae.explore.points import Point, number, read_point, read_points, whole

MOVED = {
    "unseen": 4,
    "prior": "training",
    "truncation": 0.5,
    "attributes": {"hat": -2, "glasses": 0.0},
    "components": {"11": 1.5},
}


def test_a_point_is_read_with_its_moves_and_without_those_that_move_nothing():
    expected = Point("unseen", 4, "training", 0.5, {"hat": -2.0}, {11: 1.5})
    assert read_point(MOVED) == expected


@pytest.mark.parametrize("value", [MOVED, {"seed": 0}, {"image": "0123456789abcdef"}])
def test_words_of_a_point_are_the_same_point(value):
    point = read_point(value)
    assert read_point(json.loads(point.words())) == point


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "point is None"),
        ([], "point is"),
        ({}, "one of seed, image, unseen"),
        ({"seed": 1, "unseen": 1}, "one of seed, image, unseen"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": True}, "seed is True"),
        ({"seed": 2**32}, "use a whole number"),
        ({"unseen": "3"}, "unseen is '3'"),
        ({"image": "../../etc/passwd"}, "no such image"),
        ({"image": "0123456789abcdef\n"}, "no such image"),
        ({"image": 7}, "image is 7"),
        ({"seed": 1, "prior": "other"}, "prior"),
        ({"seed": 1, "truncation": 1.5}, "truncation is 1.5"),
        ({"seed": 1, "truncation": math.nan}, "truncation is nan"),
        ({"seed": 1, "attributes": ["hat"]}, "attributes"),
        ({"seed": 1, "attributes": {"hat": 1e9}}, "hat is 1000000000.0"),
        ({"seed": 1, "attributes": {"hat": None}}, "hat is None"),
        ({"seed": 1, "components": {"first": 1}}, "components are numbers"),
        ({"seed": 1, "components": {"-1": 1}}, "components are numbers"),
        ({"seed": 1, "components": {"²": 1}}, "components are numbers"),
    ],
)
def test_what_is_no_point_is_refused_in_a_sentence(value, said):
    with pytest.raises(InputError, match=r"^[^\n]+$") as caught:
        read_point(value)
    assert said in str(caught.value)


def test_lists_of_points_and_numbers_have_bounds():
    assert len(read_points({"corners": [{"seed": 1}] * 4}, "corners", 2, 4)) == 4
    for count in (1, 5):
        with pytest.raises(InputError, match="corners: use 2 to 4 points"):
            read_points({"corners": [{"seed": 1}] * count}, "corners", 2, 4)
    with pytest.raises(InputError, match="fps is 'xxx"):
        whole({"fps": "x" * 1000}, "fps", 1, 50)
    with pytest.raises(InputError, match="size is inf"):
        number({"size": math.inf}, "size", 0, math.inf)
    with pytest.raises(InputError, match=r"^'.ud800' is 'x'"):  # which can be sent
        number({"\ud800": "x"}, "\ud800", 0, 1)
    with pytest.raises(InputError, match="size is 1000"):
        number({"size": 10**400}, "size", 0, 1)
    assert whole({}, "side", 8, 1024, 64) == 64
