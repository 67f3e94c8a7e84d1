"""`pgvae generate conditional`, as a user meets it."""

import json

import numpy as np
import pytest
import torch
from commands import contents
from generated import RIGHT, as_images, as_pixels, cells, names_in, near, pixels
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pgvae.inference import load


def test_conditional_samples_are_one_file_each_and_a_grid(desk, generate, capsys):
    assert generate("--seed", "4", *RIGHT, "--count", "5") == 0
    names = [*(f"conditional-{i:04d}.png" for i in range(5)), "conditional.png"]
    assert names_in(desk / "o") == sorted(names)
    model = load(desk / "v.safetensors")
    wanted = {"glasses": 1, "hat": 0}
    found = model.conditional_latents(5, wanted, method="rejection", sure=0.1, seed=4)
    logits = model.directions.logits(found.latents)
    assert (logits[:, 0] > 0).all()
    assert (logits[:, 1] < 0).all()
    written = np.stack([pixels(desk / "o" / name) for name in names[:-1]])
    assert near(written, as_pixels(model.decode(found.latents)))
    grid = cells(pixels(desk / "o" / "conditional.png"))
    assert np.array_equal(grid.reshape(6, 8, 8, 3)[:5], written)
    share, path = capsys.readouterr().out.splitlines()
    assert share == f"rejection: kept {found.accepted:.1%} of the draws from the fitted prior"
    assert path == "o/conditional.png"


def test_langevin_samples_take_their_steps(desk, generate, capsys):
    words = ("conditional", "--with", " hat = 1 ", "--count", "3", "--step-size", "0.01")
    words = (*words, "--sure", "0.1", "--steps")
    assert generate(*words, "7") == 0
    model = load(desk / "v.safetensors")
    found = model.conditional_latents(3, {"hat": 1}, 7, step_size=0.01, sure=0.1, seed=0)
    written = np.stack([pixels(desk / "o" / f"conditional-{i:04d}.png") for i in range(3)])
    assert near(written, as_pixels(model.decode(found.latents)))
    told = f"langevin: kept {found.accepted:.1%} of the chains from the training prior"
    assert told in capsys.readouterr().out.splitlines()
    assert generate(*words, "8", out="more") == 0
    assert contents(desk / "more") != contents(desk / "o")


def test_images_that_do_not_look_as_asked_are_left_out(desk, generate):
    """What is kept is, encoded again, as sure as asked."""
    model = load(desk / "v.safetensors")
    logits = model.classify(model.sample(512, seed=1))[:, 0]
    high = torch.sigmoid(logits.quantile(0.8)).item()  # a fifth of all images are so sure
    words = ("conditional", "--with", "glasses=1", "--count", "6", "--method", "rejection")
    sure = {}
    for out, level in (("picky", high), ("any", 0.01)):
        assert generate(*words, "--sure", level, out=out) == 0
        written = np.stack([pixels(path) for path in sorted((desk / out).glob("conditional-*"))])
        sure[out] = torch.sigmoid(model.classify(as_images(written))[:, 0])
    assert (sure["picky"] > high - 0.002).all()  # as their pixels are rounded
    assert (sure["any"] < high - 0.002).any()


@pytest.mark.parametrize("method", ["rejection", "langevin"])
def test_what_hardly_occurs_is_refused(method, rejected, desk):
    """Yes to the one attribute is no to the other."""
    path = desk / "v.safetensors"
    tensors = load_file(path)
    rows = tensors["ema_encoder/classifier.weight"]
    tensors["ema_encoder/classifier.weight"] = torch.stack([rows[0], -rows[0]])
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["pgvae"])
    del about["sha256"]  # of other tensors
    save_file(tensors, path, metadata={"pgvae": json.dumps(about)})
    words = f"--snapshot {path} --with glasses=1,hat=1 --method {method} --count 3"
    words += " --steps 2" if method == "langevin" else ""
    assert "only 0 of " in rejected("generate", "conditional", *words.split())
