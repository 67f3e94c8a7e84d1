"""A model that holds its weights, for one picture at a time: it gives and writes the same."""

import copy

import pytest
import torch
from snapshots import make

from pgvae.inference import Model, load

NORMS = {"encoder_norm": "spectral", "generator_norm": "pixel"}
OTHERS = {"encoder_norm": "equalized", "generator_norm": "spectral"}


def results(model: Model) -> list[torch.Tensor]:
    images = model.sample(3, seed=1)
    return [images, model.encode(images), model.reconstruct(images)]


@pytest.mark.parametrize("norms", [NORMS, OTHERS, {"arch": "residual"}], ids=str)
def test_a_model_that_holds_its_weights_gives_and_writes_the_same(norms, tmp_path):
    snapshot = make(**norms)
    plain, held = Model(snapshot), Model(snapshot).hold()
    again = [held, copy.deepcopy(held), copy.deepcopy(held).to("cpu")]
    for model in again:
        for one, other in zip(results(plain), results(model), strict=True):
            assert torch.equal(one, other)
    held.save_pretrained(tmp_path / "a")
    for one, other in zip(results(plain), results(load(tmp_path / "a")), strict=True):
        assert torch.equal(one, other)


def test_holding_makes_each_weight_once():
    model, calls = Model(make()).hold(), []
    layers = [m for m in model.generator.modules() if hasattr(m, "made")]
    for layer in layers:
        layer.made = lambda: calls.append(1)  # type: ignore[method-assign]
    model.sample(2)
    assert layers
    assert not calls


def test_a_pure_gan_that_holds_its_weights_finds_latents():
    plain, held = (Model(make(encoder=False, discriminator="image")) for _ in range(2))
    images = plain.sample(2, seed=1)
    held.hold().sample(1)
    assert torch.equal(held.reconstruct(images, steps=2), plain.reconstruct(images, steps=2))
