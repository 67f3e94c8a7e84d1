"""`pgvae train --metrics`, as a user meets it."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import train, train_alone

from pgvae.evaluation import evaluate
from pgvae.inference import load


@pytest.fixture
def measured(workplace, capsys) -> Callable[..., Path]:
    """Train with metrics; -> the run directory."""

    def run(*arguments: object) -> Path:
        assert train("--metrics", "psnr,rmse", *arguments) == 0
        return sorted((workplace / "runs").iterdir())[-1]

    return run


def metrics_in(run_dir: Path) -> dict[int, dict[str, float]]:
    """The lines of stats.jsonl that have metrics, by images seen."""
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    return {line["images"]: line for line in lines if "metric/psnr" in line}


def test_a_run_is_measured_as_often_as_asked(measured, store, finished, capsys):
    run = measured("--metric-kimg", "0.024")
    assert list(metrics_in(run)) == [24, 48, 72, 96]
    best = json.loads((run / "best.json").read_text())
    assert (best["metric"], best["images_seen"]) == ("psnr", 96)  # it ends in a fade
    assert "4 val images: PSNR, dB " in capsys.readouterr().out
    figure = evaluate(load(run / "best.safetensors"), store, ("psnr",)).figures["psnr"]
    line = metrics_in(run)[96]
    assert (line["metric/psnr"], line["metric/psnr floor"]) == (figure.value, figure.floor)
    name = "snapshot-000000096.safetensors"
    assert (run / "best.safetensors").read_bytes() == (run / name).read_bytes()
    assert (run / name).read_bytes() == (finished / name).read_bytes()  # as without metrics


def test_a_run_is_measured_as_often_as_it_is_saved_unless_told(measured):
    run = measured("--snapshot-kimg", "0.040", "--total-kimg", "0.044")
    assert list(metrics_in(run)) == [40, 44]
    config = json.loads((run / "config.json").read_text())
    assert (config["metrics"], config["metric_kimg"]) == (["psnr", "rmse"], 0.04)


def test_a_run_goes_on_with_other_metrics(measured, workplace, finished):
    run = measured("--metric-kimg", "0.008", "--total-kimg", "0.016")
    options = ("--resume", "--metrics", "mse", "--metric-kimg", "0.04", "--total-kimg", "0.096")
    assert train(*options) == 0
    assert [run] == list((workplace / "runs").iterdir())
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines if "metric/mse" in line] == [40, 80, 96]
    assert [line["images"] for line in lines if "metric/psnr" in line] == [8, 16]
    assert json.loads((run / "best.json").read_text())["metric"] == "mse"
    name = "checkpoint-000000096/state.safetensors"
    assert (run / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--metrics psnrr", ["unknown metric 'psnrr'", "did you mean 'psnr'?"]),
        ("--metrics psnr,zzz", ["unknown metric 'zzz'", "known: fid, kid"]),
        ("--metrics ,", ["--metrics", "','"]),
        ("--metrics psnr --metric-kimg 0", ["--metric-kimg 0.0: use a positive number"]),
        ("--metrics psnr --metric-kimg nan", ["--metric-kimg nan: use a finite number"]),
        ("--metrics psnr,swd", ["swd needs 16 px or more: these images have 8"]),
        ("--metrics psnr,swd --dry-run", ["swd needs 16 px or more: these images have 8"]),
        (
            "--metrics psnr,fid --inception-weights no.pth",
            ["no.pth: no such file", "pt_inception-2015-12-05-6726825d.pth"],
        ),
        ("--metrics fid --inception-weights w.pth", ["w.pth: SHA-256 is "]),
        ("--metric-kimg 1", ["--metric-kimg is of --metrics, and none are measured"]),
        ("--metrics none --inception-weights no.pth", ["--inception-weights is of --metrics"]),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_run_is_made(
    options, words, refused, workplace
):
    (workplace / "w.pth").write_bytes(b"other weights")
    message = refused(*options.split())
    for word in words:
        assert word in message
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize("also", ["", "--dry-run"])
def test_a_set_too_small_to_measure_is_refused_before_a_run_is_made(
    also, refused, workplace, pictures
):
    (workplace / "few").mkdir()
    for picture in sorted(pictures.iterdir())[:3]:
        shutil.copy(picture, workplace / "few")
    words = ("--dataset", "few", "--metrics", "psnr", *also.split())
    assert train("--dataset", "few", "--dry-run") == 0  # prepared
    assert (
        " has 1 images held out and 2 to train with, too few to measure with: "
        "prepare more, or give --metrics none"
    ) in refused(*words)
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize("resume", [(), ("BASE",)], ids=["alone", "with its options"])
def test_a_run_goes_on_without_metrics(resume, measured, capsys):
    run = measured("--total-kimg", "0.016")
    going_on = ("--resume", run, "--metrics", "none", "--total-kimg", "0.024")
    assert (train(*going_on) if resume else train_alone(*going_on)) == 0
    assert 24 not in metrics_in(run)
    assert json.loads((run / "config.json").read_text())["metrics"] == []
    assert "going on with --metrics none (before: psnr,rmse)" in capsys.readouterr().out
    assert train_alone("--resume", run, "--total-kimg", "0.032") == 0
    assert 32 not in metrics_in(run)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("msssim", "pytorch_msssim", "pytorch-msssim"),
        ("kid", "torchmetrics.image.kid", "torchmetrics"),
        ("fid", "efficientnet_lite_pytorch", "efficientnet-lite-pytorch"),
    ],
)
def test_without_a_metrics_package_no_run_is_made(name, module, package, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    message = refused("--metrics", name)
    assert f"needs the package {package}: pip install 'pgvae[eval]'" in message


def test_swd_may_be_asked_for_where_the_last_images_are_large_enough(workplace):
    assert train("--metrics", "psnr,swd", "--resolution", "16", "--dry-run") == 0
