"""Metrics while a run trains, and the best snapshot by the first of them."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from runs import NO_STORE, run_to, state_bytes, stop_after, tiny_config

from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.evaluation import evaluate
from pgvae.inference import load

BEST, ABOUT = "best.safetensors", "best.json"
EVERY = 8  # images between measurements: 48 at 4 px, 56 at 8 px (32 fading), 56 at 16 px
NAMES = ("psnr", "rmse")


def config_of(store: Store, names: tuple[str, ...] = NAMES, **changes) -> RunConfig:
    return tiny_config(store, metrics=names, metric_kimg=EVERY / 1000, **changes)


def finished(place: Path, data_root: Path, kimg: float) -> Path:
    """A run with every moment in a snapshot file."""
    store = Store(data_root / "tiny")
    run_to(config_of(store, snapshot_kimg=EVERY / 1000), store, place, kimg)
    store.close()
    return place


@pytest.fixture(scope="module")
def measured(tmp_path_factory, data_root) -> Path:
    """A finished run, measured every 8 images."""
    return finished(tmp_path_factory.mktemp("measured"), data_root, 0.160)


def about(run_dir: Path) -> dict:
    return json.loads((run_dir / ABOUT).read_text())


def metrics_in(run_dir: Path) -> dict[int, dict[str, float]]:
    """What stats.jsonl says of metrics, by images seen; every moment once."""
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    measured = [line for line in lines if any(name.startswith("metric/") for name in line)]
    found = {
        line["images"]: {k: v for k, v in line.items() if k.startswith("metric/")}
        for line in measured
    }
    assert len(found) == len(measured)
    return found


def named(*names: str) -> set[str]:
    return {f"metric/{name}{end}" for name in names for end in ("", " floor")}


# What a run leaves


def test_figures_and_floors_are_told_at_the_interval_and_at_the_end(measured):
    found = metrics_in(measured)
    assert list(found) == list(range(EVERY, 161, EVERY))
    assert all(set(values) == named(*NAMES) for values in found.values())
    # A floor is of the images: the same at one resolution, but in a fade, where images change.
    assert len({found[images]["metric/psnr floor"] for images in range(EVERY, 49, EVERY)}) == 1
    assert found[56]["metric/psnr floor"] != found[104]["metric/psnr floor"]
    lines = (measured / "log.txt").read_text().splitlines()
    told = [line for line in lines if "4 val images: PSNR, dB " in line]
    assert len(told) == len(found)
    kept = [line for line in told if line.endswith(f"the best so far: {BEST}")]
    assert 2 < len(kept) < len(told)
    assert f"PSNR, dB {about(measured)['value']:.4g}, RMSE, of 255 " in kept[-1]


def test_the_end_is_measured_whatever_the_interval(store, tmp_path):
    config = dataclasses.replace(config_of(store), metric_kimg=0.017)
    run_to(config, store, tmp_path, 0.044)
    assert list(metrics_in(tmp_path)) == [20, 36, 44]  # the first after 17 and 34, and the end


def test_a_stage_that_has_ended_is_measured_as_what_it_was(measured, store, tmp_path):
    for names, kimg in (((), 0.048), (NAMES, 0.056)):
        run_to(config_of(store, names), store, tmp_path, kimg)
    found, every = metrics_in(tmp_path), metrics_in(measured)
    assert list(found) == [48, 56]
    assert found[48] == every[48]
    assert found[56] == every[56]


def test_the_best_is_what_the_rule_says_of_the_figures(measured, store):
    """Higher resolution first, then how far it is faded in, then the first metric."""
    ranks = {}
    for images, values in metrics_in(measured).items():
        stage = config_of(NO_STORE).schedule.at(images - 4)  # of the step that ended there
        ranks[images] = (stage.resolution, stage.alpha, values["metric/psnr"])
    best = max(ranks, key=ranks.get)
    assert best >= 140  # of the last stage, faded in
    told = dict(zip(("resolution", "alpha", "value"), ranks[best], strict=True))
    assert about(measured) == {"metric": "psnr", "images_seen": best, **told}
    # The file is as the one that the run itself writes then, and has the figures that are told.
    snapshot = measured / f"snapshot-{best:09d}.safetensors"
    assert (measured / BEST).read_bytes() == snapshot.read_bytes()
    model, line = load(measured / BEST), metrics_in(measured)[best]
    assert (model.resolution, model.alpha, model.images_seen) == (*ranks[best][:2], best)
    again = evaluate(model, store, NAMES).figures
    for name in NAMES:
        assert again[name].value == pytest.approx(line[f"metric/{name}"], rel=1e-6)
        assert again[name].floor == pytest.approx(line[f"metric/{name} floor"], rel=1e-6)


def test_measuring_changes_no_byte_of_what_is_trained(measured, whole):
    assert metrics_in(whole) == {}
    assert not list(whole.glob("best*"))
    assert state_bytes(measured, 160) == state_bytes(whole, 160)
    for path in whole.glob("snapshot-*"):
        assert (measured / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("objective", "names"),
    [("vac", ("msssim", "latents", "ssim")), ("introvae", ("mse", "swd"))],
)
def test_other_metrics_and_objectives_are_undisturbed_too(objective, names, faces, tmp_path):
    store = Store(faces)
    for name, metrics in (("plain", ()), ("measured", names)):
        run_to(config_of(store, metrics, objective=objective), store, tmp_path / name, 0.056)
    store.close()
    assert metrics_in(tmp_path / "measured")
    assert state_bytes(tmp_path / "measured", 56) == state_bytes(tmp_path / "plain", 56)


# Stopped runs


def files_of(run_dir: Path) -> tuple[bytes, bytes]:
    return (run_dir / ABOUT).read_bytes(), (run_dir / BEST).read_bytes()


# After 8 images (a measurement), within the first fade, at the end of a stage; 12, and late.
@pytest.mark.parametrize(
    "steps", [2, 17, 26, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 37))]
)
def test_a_stopped_run_ends_with_the_same_best_as_one_in_one_go(steps, measured, store, tmp_path):
    stop_after(steps, config_of(store), store, tmp_path)
    run_to(config_of(store), store, tmp_path, 0.160)
    assert files_of(tmp_path) == files_of(measured)
    assert metrics_in(tmp_path) == metrics_in(measured)
    assert state_bytes(tmp_path, 160) == state_bytes(measured, 160)


@pytest.fixture
def killed(measured, tmp_path) -> Path:
    """The finished run before its last checkpoint; its best snapshot is of a later moment."""
    run = shutil.copytree(measured, tmp_path / "run")
    shutil.rmtree(run / "checkpoint-000000160")
    return run


@pytest.mark.parametrize(
    ("note", "stays"), [({}, True), ({"value": 1e9}, True), ({"value": -1e9}, False), (None, False)]
)
def test_a_killed_run_goes_on_with_the_best_of_before(note, stays, measured, killed, store):
    """Without a note of it, as after a kill between both files, what comes then decides."""
    told = about(killed)
    (killed / ABOUT).unlink()
    if note is not None:
        (killed / ABOUT).write_text(json.dumps({**told, **note}) + "\n")
    before = files_of(killed) if stays else None
    run_to(config_of(store, snapshot_kimg=EVERY / 1000), store, killed, 0.160)
    assert metrics_in(killed) == metrics_in(measured)
    if stays:
        assert files_of(killed) == before
    else:
        assert about(killed)["images_seen"] == 160
        newest = killed / "snapshot-000000160.safetensors"
        assert (killed / BEST).read_bytes() == newest.read_bytes()


def test_other_metrics_may_be_asked_for_when_a_run_goes_on(killed, store):
    """What another metric found best says nothing of the new one."""
    (killed / ABOUT).write_text(json.dumps({**about(killed), "value": -1e9}))
    run_to(config_of(store, ("rmse", "mse")), store, killed, 0.160)
    found, told = metrics_in(killed), about(killed)
    assert set(found[152]) == named(*NAMES)
    assert set(found[160]) == named("rmse", "mse")
    assert (told["metric"], told["images_seen"]) == ("rmse", 160)
    assert told["value"] == found[160]["metric/rmse"]
