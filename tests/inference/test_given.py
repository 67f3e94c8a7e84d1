"""Pictures and arrays in the place of tensors."""

import numpy as np
import pytest
import torch
from latent_models import rng
from PIL import Image
from snapshots import make

from pgvae.data import fade_images, load_images
from pgvae.inference import Model
from pgvae.inference.given import take

PICTURE = Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 50).convert("RGB")


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(make())


def test_a_picture_is_fitted_as_a_file_of_it_is(model, tmp_path):
    PICTURE.save(tmp_path / "a.png")
    raw, _ = load_images([tmp_path / "a.png"], model.resolution)
    of_file = torch.from_numpy(raw).float() / 127.5 - 1
    assert torch.equal(model.encode(PICTURE), model.encode(of_file))
    again = model.reconstruct(PICTURE)
    assert again.size == (model.resolution,) * 2
    expected = model.pictures(model.reconstruct(of_file))[0]
    assert (np.asarray(again) == np.asarray(expected)).all()


def test_a_result_is_of_the_kind_that_was_given(model):
    array, side = np.asarray(PICTURE), model.resolution
    assert [picture.size for picture in model.reconstruct([PICTURE] * 2)] == [(side, side)] * 2
    assert model.reconstruct(array).shape == (side, side, 3)
    assert model.reconstruct(array[None]).shape == (1, side, side, 3)
    assert (model.reconstruct(array) == np.asarray(model.reconstruct(PICTURE))).all()
    tensor = torch.rand(2, 3, side, side, generator=rng(0)) * 2 - 1
    assert model.reconstruct(tensor).shape == tensor.shape
    assert len(model.interpolate([PICTURE, PICTURE], steps=3)) == 3
    assert model.interpolate(np.stack([array] * 4), steps=2).shape == (4, side, side, 3)


def test_a_grey_picture_and_a_turned_one_are_what_they_show():
    tensor, back = take(Image.linear_gradient("L"), 8, 1)
    assert tensor.shape == (1, 1, 8, 8)
    assert back(tensor).mode == "L"
    turned = PICTURE.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    assert torch.equal(take(turned, 8, 3)[0], take(PICTURE, 8, 3)[0])


def test_in_a_fade_pictures_are_faded_as_training_images_are():
    whole, _ = take(PICTURE, 8, 3)
    faded, _ = take(PICTURE, 8, 3, alpha=0.25)
    assert torch.equal(faded, fade_images(whole, 0.25))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((8, 8, 3)), r"uint8 \[H, W, C\], \[H, W\] or \[N, H, W, C\]: got float64"),
        (np.zeros((0, 8, 8, 3), np.uint8), "got uint8"),
        (np.zeros((8, 8, 5), np.uint8), r"1, 3 or 4 channels, the last axis: got \[8, 8, 5\]"),
        ("a.png", "images must be a tensor"),
        ([], "images must be a tensor"),
        ([PICTURE, "a.png"], "got list"),
        (None, "got NoneType"),
    ],
)
def test_other_things_are_refused(images, words, model):
    with pytest.raises(ValueError, match=words):
        model.reconstruct(images)


def test_one_picture_is_not_enough_to_interpolate(model):
    with pytest.raises(ValueError, match="2 or 4 images"):
        model.interpolate(PICTURE)
