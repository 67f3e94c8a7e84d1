"""The FID Inception: the published file's names, a plain computation, and what is refused."""

import hashlib

import numpy as np
import plain_inception
import pytest
import torch
from made import noise

from pgvae.errors import InputError
from pgvae.metrics import inception as module
from pgvae.metrics.features import extractor
from pgvae.metrics.inception import Inception, load_inception, resize_as_tensorflow1


@pytest.fixture(scope="module")
def network() -> Inception:
    """Random weights and statistics, scaled so that signals keep their size through the depth."""
    rng = torch.Generator().manual_seed(0)
    made = Inception().eval()
    for name, value in made.state_dict().items():
        if name.endswith("conv.weight"):
            fan_in = value[0].numel()
            value.copy_(torch.randn(value.shape, generator=rng) * (2 / fan_in) ** 0.5)
        elif value.is_floating_point():
            low = {"running_mean": -0.2, "bias": 0.0}.get(name.split(".")[-1], 0.8)
            value.copy_(torch.rand(value.shape, generator=rng) * 0.4 + low)
    return made


def test_there_are_as_many_parameters_as_published():
    """torchvision's Inception v3 has 27,161,264, of which 3,326,696 are of AuxLogits."""
    count = sum(value.numel() for value in Inception().parameters())
    classes = (1008 - 1000) * (2048 + 1)
    assert count == 27_161_264 - 3_326_696 + classes


def test_the_file_has_an_entry_for_each_part_of_94_convolutions_and_the_classifier():
    state = Inception().state_dict()
    assert len(state) == 94 * 6 + 2
    convolutions = [name.removesuffix(".conv.weight") for name in state if ".conv." in name]
    assert len(convolutions) == 94
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"{name}.bn.{part}" for name in convolutions for part in parts}
    expected |= {f"{name}.conv.weight" for name in convolutions} | {"fc.weight", "fc.bias"}
    assert set(state) == expected
    assert tuple(state["fc.weight"].shape) == (1008, 2048)
    # Of its 95,628,359 bytes the rest are names and padding: about 150 an entry.
    size = sum(value.numel() * value.element_size() for value in state.values())
    assert 100 < (95_628_359 - size) / len(state) < 250


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Conv2d_1a_3x3", (32, 3, 3, 3)),
        ("Conv2d_4a_3x3", (192, 80, 3, 3)),
        ("Mixed_5b.branch_pool", (32, 192, 1, 1)),
        ("Mixed_5d.branch5x5_2", (64, 48, 5, 5)),
        ("Mixed_6a.branch3x3", (384, 288, 3, 3)),
        ("Mixed_6b.branch7x7_2", (128, 128, 1, 7)),
        ("Mixed_6d.branch7x7dbl_4", (160, 160, 7, 1)),
        ("Mixed_7a.branch7x7x3_4", (192, 192, 3, 3)),
        ("Mixed_7b.branch3x3_2a", (384, 384, 1, 3)),
        ("Mixed_7c.branch3x3dbl_1", (448, 2048, 1, 1)),
        ("Mixed_7c.branch3x3dbl_3b", (384, 384, 3, 1)),
    ],
)
def test_convolutions_have_the_published_names_and_shapes(name, shape):
    state = Inception().state_dict()
    assert tuple(state[f"{name}.conv.weight"].shape) == shape
    assert tuple(state[f"{name}.bn.running_var"].shape) == shape[:1]


@pytest.mark.parametrize("name", plain_inception.BLOCKS)
@torch.no_grad()
def test_a_block_is_its_plain_computation(network, name):
    block = network.get_submodule(name)
    state = {f"{name}.{key}": value for key, value in block.state_dict().items()}
    first = next(value for key, value in state.items() if key.endswith("_1.conv.weight"))
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(2, first.shape[1], 7, 7, generator=rng)
    expected = plain_inception.BLOCKS[name](x, state, name)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_features_are_those_of_the_plain_network(network):
    x = noise(2, 91, 0)
    expected = plain_inception.features(x, network.state_dict())
    assert expected.shape == (2, 2048)
    assert expected.std() > 0.1
    torch.testing.assert_close(network.features(x), expected, rtol=1e-3, atol=1e-3)


def resized_in_loops(image: np.ndarray, side: int) -> np.ndarray:
    """TensorFlow 1's resize_bilinear of one [H, W], align_corners off, pixel by pixel."""
    result = np.empty((side, side))
    for i in range(side):
        for j in range(side):
            y, x = i * image.shape[0] / side, j * image.shape[1] / side
            top, left = int(y), int(x)
            bottom, right = min(top + 1, len(image) - 1), min(left + 1, image.shape[1] - 1)
            above = image[top, left] + (image[top, right] - image[top, left]) * (x - left)
            below = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * (x - left)
            result[i, j] = above + (below - above) * (y - top)
    return result


@pytest.mark.parametrize(("height", "width"), [(4, 4), (32, 32), (37, 37), (64, 64), (7, 40)])
def test_resizing_is_that_of_loops(height, width):
    rng = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (1, 2, height, width), generator=rng).float()
    found = resize_as_tensorflow1(levels, 37)
    for channel in range(2):
        expected = resized_in_loops(levels[0, channel].double().numpy(), 37)
        np.testing.assert_allclose(found[0, channel], expected, atol=1e-3)


def test_resizing_doubles_by_repeating_the_last_row():
    row = torch.tensor([0.0, 10.0]).view(1, 1, 1, 2).expand(1, 1, 2, 2)
    assert resize_as_tensorflow1(row, 4)[0, 0].tolist() == [[0, 5, 10, 10]] * 4


@torch.no_grad()
def test_inputs_are_centred_at_level_128(network):
    levels = torch.full((1, 3, 8, 8), 128.0)
    expected = network.features(torch.zeros(1, 3, 299, 299))
    torch.testing.assert_close(network(levels), expected)
    levels[:, :, :4] = 64.0
    assert not torch.allclose(network(levels), expected)


@pytest.fixture
def weights(network, tmp_path, monkeypatch):
    """A file of random weights, which is taken for the published one."""
    path = tmp_path / "random.pth"
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_the_right_file_gives_an_extractor(network, weights):
    extract = extractor(weights)
    assert (extract.name, extract.dim) == ("Inception", 2048)
    images = noise(3, 16, 0)
    levels = ((images + 1) * 127.5).round()
    with torch.no_grad():
        expected = network(levels)
    torch.testing.assert_close(extract(images), expected, rtol=1e-4, atol=1e-4)


def check_refusal(raised: pytest.ExceptionInfo, path, *parts: str) -> None:
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    published = (
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "releases of pytorch-fid or torch-fidelity",
    )
    for part in (str(path), *published, *parts):
        assert part in message


def test_another_file_is_refused_before_it_is_read(network, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    path.write_bytes(b"not these")
    with pytest.raises(InputError) as raised:
        load_inception(path)
    check_refusal(raised, path, hashlib.sha256(b"not these").hexdigest())


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError) as raised:
            extractor(path)
        check_refusal(raised, path, "no such file")
