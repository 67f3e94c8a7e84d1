"""Extractors of features, and EfficientNet-Lite0 as one."""

import pytest
import torch
from made import cut, noise, pictures
from torch import nn
from torch.nn import functional as F

from pgvae.metrics.features import Extractor, efficientnet, extractor


class _Spy(nn.Module):
    """A stand-in for a network that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(()))
        self.given: list[torch.Tensor] = []

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        self.given.append(levels.clone())
        return self.dropout(levels.mean(dim=(2, 3)) * self.scale)


def test_a_network_gets_8_bit_levels_in_small_batches():
    spy = _Spy()
    images = noise(50, 8, 0) * 1.2
    features = Extractor("spy", 3, spy)(cut(images, 40))
    assert max(len(levels) for levels in spy.given) <= 16
    expected = ((images + 1) * 255 / 2).round().clamp(0, 255)
    torch.testing.assert_close(torch.cat(spy.given), expected, atol=0, rtol=0)
    torch.testing.assert_close(features, expected.mean(dim=(2, 3)))


def test_features_have_no_gradient_and_no_dropout():
    extract = Extractor("spy", 3, _Spy())
    features = extract(noise(4, 8, 0).requires_grad_())
    assert not features.requires_grad
    assert torch.equal(features, extract(noise(4, 8, 0)))


def test_grey_images_are_those_in_rgb():
    extract = Extractor("spy", 3, _Spy())
    grey = noise(4, 8, 0, channels=1)
    assert torch.equal(extract(grey), extract(grey.repeat(1, 3, 1, 1)))


def test_no_images_have_no_features_and_those_of_two_channels_are_refused():
    extract, before = Extractor("spy", 3, _Spy()), torch.backends.cudnn.allow_tf32
    assert extract([]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"1 or 3 channels: got \[4, 2, 8, 8\]"):
        extract(noise(4, 8, 0, channels=2))
    extract(noise(1, 8, 0))
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.fixture(scope="module")
def lite0() -> Extractor:
    return efficientnet()


def test_efficientnet_gives_1280_finite_features_again_and_again(lite0):
    assert (lite0.name, lite0.dim) == ("EfficientNet-Lite0", 1280)
    images = pictures(3, 32, 0)
    features = lite0(images)
    assert features.shape == (3, 1280)
    assert (features.dtype, features.device.type) == (torch.float32, "cpu")
    assert features.isfinite().all()
    assert 0 <= features.min() < features.max() <= 6  # means of ReLU6
    assert torch.equal(lite0(images), features)
    assert torch.equal(extractor()(images), features)


def test_efficientnet_sees_224_pixels_of_levels_about_127(lite0):
    images = pictures(2, 32, 0)
    levels = ((images + 1) * 127.5).round()
    inputs = (F.interpolate(levels, (224, 224), mode="bilinear", align_corners=False) - 127) / 128
    with torch.no_grad():
        expected = lite0._network.network.extract_features(inputs).mean(dim=(2, 3))
    torch.testing.assert_close(lite0(images), expected, atol=1e-4, rtol=1e-4)


def test_large_images_are_smoothed_before_they_shrink(lite0):
    """Columns black, white, white, black are grey at a quarter; their middles alone are white."""
    columns = torch.tensor([-1.0, 1.0, 1.0, -1.0]).repeat(224).expand(1, 3, 896, 896)
    grey = torch.zeros(1, 3, 224, 224)
    white, middle, found = lite0(-grey + 1), lite0(grey), lite0(columns)
    assert (found - middle).norm() < 0.05 * (white - middle).norm()


def test_features_do_not_depend_on_the_batches(lite0):
    images = pictures(5, 32, 0)
    whole = lite0(images)
    for sizes in ((1,), (3, 2)):
        torch.testing.assert_close(lite0(cut(images, *sizes)), whole, atol=1e-4, rtol=1e-4)


def test_what_is_in_a_picture_moves_its_features(lite0):
    picture, other = pictures(2, 32, 0).split(1)
    small, large = (lite0(picture + step * (other - picture)) for step in (0.1, 0.6))
    here = lite0(picture)
    assert 0 < (small - here).norm() < (large - here).norm()
