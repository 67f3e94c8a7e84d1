"""Resolutions, and the ratio of the sides."""

import math

import pytest

from pgvae.errors import InputError
from pgvae.sizes import BASES, check_resolution, parse_size, resolutions_between, size_at


def test_powers_of_two_from_4_to_1024_are_resolutions() -> None:
    every = resolutions_between(4, 1024)
    assert every == (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert tuple(map(check_resolution, every)) == every
    assert resolutions_between(64, 64) == (64,)


@pytest.mark.parametrize(
    ("resolution", "hint"),
    [(100, "64 or 128"), (5, "4 or 8")]
    + [(value, "a power of two from 4 to 1024") for value in (0, -8, 2, 3, 1025, 2048, math.nan)],
)
def test_another_resolution_is_refused_with_what_to_use(resolution, hint) -> None:
    with pytest.raises(InputError, match=f"^--resolution {resolution} is .*: use {hint}"):
        check_resolution(resolution, "--resolution")


def test_every_size_of_every_base_is_found_again() -> None:
    for base in BASES:
        for resolution in resolutions_between(4, 1024):
            height, width = size_at(base, resolution)
            assert (max(height, width), min(height, width) * 2 >= resolution) == (resolution, True)
            assert parse_size(f"{width}x{height}") == (resolution, base)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("250x192", "the nearest are 256x192 and"),
        ("192x250", "the nearest are 192x256 and"),
        ("256x100", "the nearest are 256x128 and"),
        ("2048x1024", "the nearest are 1024x512 and"),
        ("1920x1080", "the nearest are 1024x512 and"),
        ("2x2", "the nearest are 4x4 and"),
        ("0x0", "cannot be"),
        ("256", "no size: give WIDTHxHEIGHT"),
        ("256x", "no size"),
        ("256*192", "no size"),
        ("-4x4", "no size"),
        ("9999999x4", "no size"),
    ],
)
def test_an_impossible_size_names_the_nearest_ones(text, words) -> None:
    with pytest.raises(InputError) as caught:
        parse_size(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
