"""`pgvae generate neighbours`, as a user meets it."""

import numpy as np
import pytest
import torch
from generated import as_pixels, cells, names_in, near, pixels

from pgvae.data import fade_images
from pgvae.inference import load

TINY = ("--dataset", "tiny")


def test_in_each_row_is_a_sample_and_the_training_images_nearest_to_it(
    desk, generate, store, capsys
):
    words = ("--seed", "2", "neighbours", *TINY, "--count", "5", "--nearest", "2")
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
    prior, *lines = capsys.readouterr().out.splitlines()
    assert prior == "samples from the fitted prior"
    best = ", ".join(f"{distance:.3g}" for distance in distances.min(axis=1))
    assert lines[0] == f"l1, nearest of 20 training images: {best}"
    assert lines[1] == "o/neighbours-l1.png"
    assert lines[2].startswith("ssim, nearest of 20 training images: ")
    assert lines[3] == "o/neighbours-ssim.png"
    other = cells(pixels(desk / "o" / "neighbours-ssim.png"))
    assert np.array_equal(other[:, 0], grid[:, 0])


def test_all_training_images_can_be_asked_for(desk, generate, store):
    assert generate("neighbours", *TINY, "--count", "1", "--nearest", "20") == 0
    [row] = cells(pixels(desk / "o" / "neighbours-l1.png"))
    training = store.get_many(store.split("train"), 8).transpose(0, 2, 3, 1)
    assert {cell.tobytes() for cell in row[1:]} == {x.tobytes() for x in training.astype(int)}


def test_the_most_similar_by_features_are_said_to_be_of_their_network(desk, generate, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    assert generate("neighbours", *TINY, "--count", "2", "--by", "features") == 0
    assert names_in(desk / "o") == ["neighbours-features.png"]
    assert pixels(desk / "o" / "neighbours-features.png").shape == (2 * 64, 4 * 64, 3)
    assert "\nEfficientNet-Lite0, nearest of 20 training" in capsys.readouterr().out


def test_a_folder_of_images_is_prepared_to_look_for_neighbours(desk, generate, pictures, capsys):
    words = ("neighbours", "--dataset", pictures, "--data-root", "made", "--count", "1")
    assert generate(*words) == 0
    assert "preparing " in capsys.readouterr().out
    assert len(list((desk / "made").glob("pictures-*"))) == 1
    assert generate(*words) == 0
    assert "preparing " not in capsys.readouterr().out
