"""`pgvae evaluate`, as a user meets it."""

import json
import re
from collections.abc import Callable

import pytest

from pgvae.evaluation import evaluate
from pgvae.inference import load
from pgvae.metrics.table import DEFAULT_METRICS

NAMES = "psnr,rmse,mse,ssim,msssim,latents"
LABELS = {
    "PSNR, dB": "psnr",
    "RMSE, of 255": "rmse",
    "MSE, of 1": "mse",
    "SSIM": "ssim",
    "MS-SSIM of pairs of samples": "msssim",
}


@pytest.fixture
def told(run_pgvae, capsys) -> Callable[..., list[str]]:
    """Evaluate a snapshot of the desk; -> the lines it prints, progress apart."""

    def run(*arguments: object, snapshot: object = "s.safetensors") -> list[str]:
        capsys.readouterr()
        assert run_pgvae("evaluate", "--snapshot", snapshot, "--dataset", "tiny", *arguments) == 0
        captured = capsys.readouterr()
        progress = re.compile(r"  [\d,]+ of [\d,]+ images$")
        assert all(progress.match(line) for line in captured.err.splitlines())
        return captured.out.splitlines()

    return run


def figures_in(lines: list[str]) -> dict[str, tuple[float, float | None]]:
    """Value and floor of each row of the table, by label."""
    assert lines[0].split() == ["model", "floor"]
    rows = [re.split(r"  +", line.strip()) for line in lines[1:]]
    return {row[0]: (float(row[1]), float(row[2]) if len(row) > 2 else None) for row in rows}


def test_a_table_tells_each_figure_beside_its_floor(told, desk, store):
    header, *table = told("--metrics", NAMES, "--seed", "3")
    assert header == (
        "s.safetensors at 8 px, tiny: 4 images of split val and as many samples from the fitted "
        "prior, seed 3 (2,000 asked for); floor: 4 other images, of split train"
    )
    found = figures_in(table)
    expected = evaluate(load(desk / "s.safetensors"), store, NAMES.split(","), seed=3).figures
    assert [figure.label for figure in expected.values()] == list(found)
    for figure in expected.values():
        value, floor = found[figure.label]
        assert value == pytest.approx(figure.value, rel=1e-3)
        assert floor == (figure.floor and pytest.approx(figure.floor, rel=1e-3))
    wishes = {label: line.split()[-3:] for label in LABELS for line in table if label in line}
    assert wishes["PSNR, dB"] == ["higher", "is", "better"]
    assert wishes["RMSE, of 255"] == ["lower", "is", "better"]
    assert not any("better" in line for line in table if line.startswith("latents"))


def test_the_same_figures_are_written_as_json(told, desk, store, data_root):
    (desk / "e.json").write_text('{\n  "snapshot": "older.safetensors"\n}\n')
    lines = told("--metrics", NAMES, "--json", "e.json", "--split", "train", "--count", "7")
    assert lines[0].endswith(
        "7 images of split train and as many samples from the fitted prior, seed 0; floor: 7 "
        "other images, of split train"
    )
    assert lines[-1] == "e.json"
    values = json.loads((desk / "e.json").read_text())
    metrics = values.pop("metrics")
    assert values == {
        "snapshot": "s.safetensors",
        "images_seen": 96,
        "objective": "pioneer",
        "dataset": "tiny",
        "dataset_digest": store.digest,
        "resolution": 8,
        "split": "train",
        "count": 7,
        "seed": 0,
        "prior": "fitted",
    }
    model = load(desk / "s.safetensors")
    found = evaluate(model, store, NAMES.split(","), split="train", count=7)
    assert metrics == json.loads(json.dumps(found.to_dict()["metrics"]))


def test_a_run_directory_means_its_newest_snapshot(told, finished):
    run, file = (told("--metrics", "psnr", snapshot=path) for path in (finished, "s.safetensors"))
    assert run[0].startswith("snapshot-000000096.safetensors at 8 px")
    assert run[1:] == file[1:]


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_without_metrics_named_all_that_need_no_network_are_taken(resolution, told, desk, sketch):
    """But for SWD, which small images do not have."""
    sketch(desk / "random.safetensors", resolution=resolution)
    labels = set(figures_in(told(snapshot="random.safetensors")[1:]))
    expected = {*LABELS, "SWD x 1000"} if resolution == 16 else {*LABELS}
    assert expected < labels
    assert all(label.startswith("latents: ") for label in labels - expected)
    assert set(LABELS.values()) | {"swd", "latents"} == set(DEFAULT_METRICS)


def test_a_folder_of_images_is_prepared_to_measure_with(run_pgvae, desk, pictures, capsys):
    words = ("--dataset", pictures, "--data-root", "made", "--metrics", "psnr", "--split", "train")
    assert run_pgvae("evaluate", "--snapshot", "s.safetensors", *words) == 0
    out = capsys.readouterr().out
    assert "preparing " in out
    assert " 11 images of split train" in out  # half of 23; one of 24 is held out
    assert "PSNR, dB" in out


def test_a_set_without_unseen_images_is_refused_unless_its_training_images_are_asked_for(
    rejected, run_pgvae, small
):
    words = ("evaluate", "--snapshot", "s.safetensors", "--dataset", small, "--metrics", "psnr")
    message = rejected(*words)
    assert "tiny has 0 images in its split 'val': too few to measure with" in message
    assert "--split" in message
    assert run_pgvae(*words, "--split", "train") == 0
