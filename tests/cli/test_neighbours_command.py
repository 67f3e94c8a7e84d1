"""`pgvae generate neighbours`, as a user meets it."""

import numpy as np
import pytest
import torch
from generated import as_pixels, cells, names_in, near, pixels

from pgvae.data import fade_images
from pgvae.inference import load


@pytest.fixture
def tiny(data_root) -> tuple[str, ...]:
    """The options for the prepared pictures."""
    return ("--dataset", "tiny", "--data-root", str(data_root))


def test_in_each_row_is_a_sample_and_the_training_images_nearest_to_it(
    desk, generate, tiny, store, capsys
):
    words = ("--seed", "2", "neighbours", *tiny, "--count", "5", "--nearest", "2")
    assert generate(*words, "--by", "l1", "--by", "ssim") == 0
    assert names_in(desk / "o") == ["neighbours-l1.png", "neighbours-ssim.png"]
    samples = load(desk / "v.safetensors").sample(5, seed=2)
    stored = store.get_many(store.split("train"), 8)
    training = stored.transpose(0, 2, 3, 1).astype(float)
    faded = fade_images(torch.from_numpy(stored).float(), load(desk / "v.safetensors").alpha)
    levels = (samples.permute(0, 2, 3, 1).double().numpy() + 1) * 127.5
    distances = abs(levels[:, None] - faded.permute(0, 2, 3, 1).numpy()).mean(axis=(2, 3, 4))
    order = distances.argsort(axis=1)[:, :2]
    grid = cells(pixels(desk / "o" / "neighbours-l1.png"))
    assert grid.shape[:2] == (5, 3)
    assert near(grid[:, 0], as_pixels(samples))
    assert np.array_equal(grid[:, 1:], training[order].astype(int))
    lines = capsys.readouterr().out.splitlines()
    best = ", ".join(f"{distance:.3g}" for distance in distances.min(axis=1))
    assert lines[0] == f"l1, nearest of 20 training images: {best}"
    assert lines[1] == "o/neighbours-l1.png"
    assert lines[2].startswith("ssim, nearest of 20 training images: ")
    assert lines[3] == "o/neighbours-ssim.png"
    other = cells(pixels(desk / "o" / "neighbours-ssim.png"))
    assert np.array_equal(other[:, 0], grid[:, 0])


def test_all_training_images_can_be_asked_for(desk, generate, tiny, store):
    assert generate("neighbours", *tiny, "--count", "1", "--nearest", "20") == 0
    [row] = cells(pixels(desk / "o" / "neighbours-l1.png"))
    training = store.get_many(store.split("train"), 8).transpose(0, 2, 3, 1)
    assert {cell.tobytes() for cell in row[1:]} == {x.tobytes() for x in training.astype(int)}


def test_the_most_similar_by_features_are_said_to_be_of_their_network(desk, generate, tiny, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    assert generate("neighbours", *tiny, "--count", "2", "--by", "features") == 0
    assert names_in(desk / "o") == ["neighbours-features.png"]
    assert pixels(desk / "o" / "neighbours-features.png").shape == (2 * 64, 4 * 64, 3)
    assert capsys.readouterr().out.startswith("EfficientNet-Lite0, nearest of 20 training")


def test_a_folder_of_images_is_prepared_to_look_for_neighbours(desk, generate, pictures, capsys):
    words = ("neighbours", "--dataset", pictures, "--data-root", "made", "--count", "1")
    assert generate(*words) == 0
    assert "preparing " in capsys.readouterr().out
    assert len(list((desk / "made").glob("pictures-*"))) == 1
    assert generate(*words) == 0
    assert "preparing " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ["Missing option '--dataset'"]),
        ("--dataset tinny", ["no data set 'tinny'", "did you mean 'tiny'?"]),
        ("--dataset tiny --count 0", ["--count", "0 is not in the range"]),
        ("--dataset tiny --nearest 0", ["--nearest", "0 is not in the range"]),
        (
            "--dataset tiny --nearest 21",
            ["--nearest 21: tiny has 20 training images", "ask for fewer"],
        ),
        ("--dataset tiny --by l2", ["--by", "'l2'", "l1", "ssim", "features"]),
        (
            "--dataset tiny --by features --inception-weights no.pth",
            ["no.pth", "no such file", "pt_inception-2015-12-05-6726825d.pth"],
        ),
    ],
)
def test_neighbours_that_cannot_be_found_are_refused(arguments, words, ungenerated, data_root):
    message = ungenerated("neighbours", "--data-root", data_root, *arguments.split())
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 8, "channels": 1}, "tiny has no 1-channel images at 8 px"),
        ({"resolution": 16}, "tiny has no 3-channel images at 16 px: it has 4, 8 px, 3 channels"),
    ],
)
def test_a_set_of_other_images_has_no_neighbours(settings, words, ungenerated, desk, sketch, small):
    sketch(desk / "other.safetensors", **settings)
    assert words in ungenerated("neighbours", "--dataset", small, snapshot="other.safetensors")
