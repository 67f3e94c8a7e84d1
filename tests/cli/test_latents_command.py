"""`pgvae generate encode | decode`, as a user meets them."""

import numpy as np
import pytest
from generated import as_pixels, names_in, near, pixels

from pgvae.inference import load


@pytest.mark.parametrize("ending", ["npz", "npy"])
def test_what_is_encoded_comes_back_as_the_reconstruction(ending, desk, generate, capsys):
    assert generate("encode", "a.png", "b.png", "--name", f"two.{ending}") == 0
    assert capsys.readouterr().out == f"o/two.{ending}: latents [2, 8]\n"
    assert generate("decode", f"o/two.{ending}", out="d") == 0
    assert generate("reconstruct", "a.png", "b.png", out="r") == 0
    named = ending == "npz"
    for index, name in enumerate("ab"):
        file = f"{name}-decoded.png" if named else f"decoded-{index:04d}.png"
        again = pixels(desk / "r" / f"{name}-reconstruction.png")
        assert near(pixels(desk / "d" / file), again)
    assert (desk / "d" / "decoded.png").is_file()
    assert len(names_in(desk / "d")) == 3


def test_latents_are_numbers_that_numpy_reads(desk, generate):
    assert generate("encode", "a.png", "tiny") == 0
    with np.load(desk / "o" / "latents.npz") as found:
        assert found["latents"].shape == (5, 8)
        assert found["latents"].dtype == np.float32
        first, second = found["names"].tolist()[:2]
    assert first == "a.png"
    assert second.startswith("tiny-")


def test_latents_of_a_sphere_are_taken_to_it(desk, generate, capsys):
    model = load(desk / "s.safetensors")
    latents = model.sample_latents(3, seed=1)
    np.save(desk / "long.npy", latents.numpy() * np.array([[1], [2], [3]]))
    assert generate("decode", "long.npy", snapshot="s.safetensors") == 0
    assert "2 of 3 latents were taken to the sphere\n" in capsys.readouterr().out
    images = as_pixels(model.decode(latents))
    for index in range(3):
        assert near(pixels(desk / "o" / f"decoded-{index:04d}.png"), images[index])
