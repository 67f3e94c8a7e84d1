"""What `pgvae generate edit | conditional | walk | neighbours` have in common."""

import pytest
from commands import contents
from generated import GLASSES, RIGHT


@pytest.mark.parametrize(
    "words",
    [
        RIGHT,
        ("conditional", "--with", "glasses=1", "--steps", "3", "--sure", "0.1"),
        ("walk", "--count", "3", "--steps", "2"),
        ("walk", "--count", "3", "--steps", "2", "--format", "png"),
        ("neighbours",),
    ],
    ids=lambda words: " ".join(words),
)
def test_the_seed_repeats_pictures_byte_for_byte(words, desk, generate, data_root):
    more = {
        "conditional": ["--count", "4"],
        "walk": [],
        "neighbours": ["--dataset", data_root / "tiny"],
    }[words[0]]
    for out, seed in (("first", 7), ("again", 7), ("other", 8)):
        assert generate("--seed", seed, *words, *more, out=out) == 0
    first, again, other = (contents(desk / out) for out in ("first", "again", "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize("objective", ["vae", "age"])
def test_a_model_that_knows_no_attributes_says_how_to_find_them(
    objective, ungenerated, desk, sketch
):
    head = "gaussian" if objective == "vae" else "sphere"
    sketch(desk / "plain.safetensors", objective=objective, head=head)
    for words in (("edit", "a.png", *GLASSES), RIGHT):
        message = ungenerated(*words, snapshot="plain.safetensors")
        assert f"objective {objective} knows no attributes" in message
        assert "`pgvae directions --snapshot plain.safetensors --dataset NAME`" in message


@pytest.mark.parametrize("out", ["a.png", "a.png/out"])
@pytest.mark.parametrize(
    "words",
    [
        ("edit", "b.png", *GLASSES),
        (*RIGHT, "--count", "2"),
        ("walk", "b.png", "c.png", "--steps", "1"),
        ("neighbours",),
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_cannot_be_made_is_refused(out, words, rejected, data_root):
    more = ["--dataset", data_root / "tiny"] if words == ("neighbours",) else []
    message = rejected("generate", "--snapshot", "v.safetensors", "--out", out, *words, *more)
    assert f"cannot write to {out}" in message
    assert "use another --out" in message
