"""Pictures and arrays in the place of tensors."""

import numpy as np
import pytest
import torch
from latent_models import rng
from PIL import Image
from snapshots import make

from pgvae.data import fade_images, load_images
from pgvae.errors import InputError
from pgvae.inference import Model, load
from pgvae.inference.given import take
from pgvae.snapshot import save_snapshot

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


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((8, 8), 0.5, np.float32), "mode F has floating-point pixels"),
        (np.full((8, 8), 1 << 20, np.int32), "mode I has 32 bits a pixel"),
    ],
)
def test_pictures_of_which_nobody_knows_what_is_white_are_refused(pixels, words, model):
    with pytest.raises(InputError, match=words):
        model.encode(Image.fromarray(pixels))


@pytest.mark.parametrize("dtype", [np.int32, np.uint16])
def test_bytes_in_16_bits_are_taken_with_a_warning_and_16_bits_without(dtype, model, recwarn):
    ramp = np.arange(64).reshape(8, 8) * 4
    with pytest.warns(RuntimeWarning, match="uses the lower ones alone"):
        model.encode(Image.fromarray(ramp.astype(dtype)))
    deep = model.encode(Image.fromarray((ramp * 257).astype(dtype)))
    assert not recwarn.list
    assert torch.equal(deep, model.encode(Image.fromarray(ramp.astype(np.uint8))))


def test_a_picture_without_pixels_is_refused(model):
    with pytest.raises(InputError, match="a picture of 0x5 pixels shows nothing"):
        model.encode(Image.new("RGB", (0, 5)))


def test_one_picture_is_not_enough_to_interpolate(model):
    with pytest.raises(ValueError, match="2 or 4 images"):
        model.interpolate(PICTURE)


@pytest.mark.parametrize("use", ["encode", "reconstruct", "posterior", "interpolate", "pictures"])
@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (
            200,
            torch.uint8,
            r"images are of torch.uint8: give finite floats in ",
        ),
        (1, torch.bool, "images are of torch.bool"),
        (1, torch.complex64, "images are of torch.complex64"),
        (float("-inf"), torch.float16, "images go from -inf to -inf: give finite floats in"),
        (float("nan"), torch.float32, "images go from nan to nan"),
        (float("inf"), torch.float64, "images go from inf to inf"),
    ],
)
def test_a_tensor_of_other_numbers_is_no_image(use, value, dtype, words, model):
    images = torch.full((2, 3, model.resolution, model.resolution), value, dtype=dtype)
    with pytest.raises(InputError, match=words):
        getattr(model, use)(images)


@pytest.mark.parametrize("value", [200, -3])
def test_images_far_outside_of_their_range_are_refused(value, model):
    images = torch.full((2, 3, model.resolution, model.resolution), float(value))
    with pytest.raises(InputError, match=f"images go from {value} to {value}: give finite floats"):
        model.encode(images)


def test_images_a_little_outside_of_their_range_are_taken_as_they_are(model):
    images = 1.9 * model.sample(2).sign()
    assert torch.equal(model.encode(images.double()), model.encode(images))


@pytest.mark.parametrize("use", ["decode", "between", "walk"])
@pytest.mark.parametrize(
    ("latents", "words"),
    [
        (np.full((2, 8), np.nan), "latents go from nan to nan: give finite floats"),
        (np.full((2, 8), np.inf, np.float32), "latents go from inf to inf"),
        (np.ones((2, 8), np.int64), "latents are of torch.int64"),
        (["a", "b"], r"latents must be \[N, 8\]: got list"),
    ],
)
def test_what_are_no_latents_is_refused_in_a_line(use, latents, words, model):
    with pytest.raises(InputError, match=words):
        getattr(model, use)(latents)


def test_an_array_of_latents_is_as_good_as_a_tensor(model):
    latents = model.sample_latents(2)
    assert torch.equal(model.decode(latents.double().numpy()), model.decode(latents))
    assert torch.equal(model.walk(latents.numpy()), model.walk(latents))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_latents_of_any_floats_are_walked_between_and_decoded_as_those_of_float32(dtype, model):
    latents = model.encode(model.sample(2)).to(dtype)
    for use in (model.decode, model.between, model.walk):
        assert torch.equal(use(latents), use(latents.float()))


def test_what_are_no_images_of_the_model_are_no_pictures(model):
    images = model.sample(2)
    for given in (images[0], images.permute(0, 2, 3, 1)):
        with pytest.raises(ValueError, match="images must be"):
            model.pictures(given)


def test_an_array_of_latents_may_be_read_only_or_lie_backwards_or_be_big_endian(model):
    latents = model.sample_latents(3)
    array = latents.numpy().copy()
    array.setflags(write=False)
    assert torch.equal(model.decode(array), model.decode(latents))
    assert torch.equal(model.decode(array[::-1]), model.decode(latents.flip(0)))
    assert torch.equal(model.decode(array.astype(">f4")), model.decode(latents))


def test_counts_and_seeds_are_of_any_kind_of_integer(model):
    drawn = model.sample(np.int64(2), seed=np.uint8(3))
    assert torch.equal(drawn, model.sample(2, seed=3))
    assert torch.equal(torch.cat([*model.sample_batches(np.int32(2), seed=torch.tensor(3))]), drawn)


@pytest.mark.parametrize("value", [1.5, "2", None, -1, 2**63])
@pytest.mark.parametrize("name", ["count", "seed"])
@pytest.mark.parametrize("use", ["sample", "sample_latents", "sample_batches"])
def test_other_counts_and_seeds_are_refused_in_a_line(use, name, value, model):
    with pytest.raises(InputError, match=f"{name} is .*: use a whole number from 0 to"):
        getattr(model, use)(**{"count": 1, name: value})


@pytest.mark.parametrize("device", ["cuda:99", "mps", "tpu", "meta"])
def test_a_device_that_is_not_here_is_refused_in_a_line(device, model, tmp_path):
    save_snapshot(tmp_path / "a.safetensors", make())
    with pytest.raises(InputError, match="device"):
        load(tmp_path / "a.safetensors", device)
    with pytest.raises(InputError, match="device"):
        model.to(device)
    assert model.device.type == "cpu"
