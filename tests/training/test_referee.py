"""Metrics while a run trains, and the best snapshot by the first of them."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import NO_STORE, StopAfter, run_to, state_bytes, tiny_config

from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.errors import Preempted
from pgvae.evaluation import evaluate
from pgvae.inference import load
from pgvae.training import engine

BEST, ABOUT = "best.safetensors", "best.json"
EVERY = 8  # images between measurements: 48 at 4 px, 56 at 8 px (32 fading), 56 at 16 px
NAMES = ("psnr", "rmse")


def config_of(store: Store, names: tuple[str, ...] = NAMES, **changes) -> RunConfig:
    return tiny_config(store, metrics=names, metric_kimg=EVERY / 1000, **changes)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, data_root) -> Path:
    """A finished run, measured every 8 images."""
    return finished(tmp_path_factory.mktemp("measured"), data_root, NAMES)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, data_root) -> Path:
    """The same run without metrics."""
    return finished(tmp_path_factory.mktemp("plain"), data_root, ())


def finished(place: Path, data_root: Path, names: tuple[str, ...], kimg: float = 0.160) -> Path:
    store = Store(data_root / "tiny")
    run_to(config_of(store, names), store, place, kimg)
    store.close()
    return place


def about(run_dir: Path) -> dict:
    return json.loads((run_dir / ABOUT).read_text())


def metrics_in(run_dir: Path) -> dict[int, dict[str, float]]:
    """What stats.jsonl says of metrics, by images seen; every moment once."""
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    found = [
        (line["images"], {k: v for k, v in line.items() if k.startswith("metric/")})
        for line in lines
    ]
    measured = [(images, values) for images, values in found if values]
    assert len({images for images, _ in measured}) == len(measured)
    return dict(measured)


def stage_before(store: Store | SimpleNamespace, images: int) -> tuple[int, float]:
    """Resolution and fade of the step that ended at so many images."""
    stage = config_of(store).schedule.at(images - 4)
    return stage.resolution, stage.alpha


# What a run leaves


def test_each_metric_and_its_floor_are_in_the_figures_at_the_interval_and_at_the_end(measured):
    found = metrics_in(measured)
    assert list(found) == list(range(EVERY, 161, EVERY))
    names = {"metric/psnr", "metric/rmse", "metric/psnr floor", "metric/rmse floor"}
    assert all(set(values) == names for values in found.values())


def test_the_end_is_measured_whatever_the_interval(store, tmp_path):
    config = dataclasses.replace(config_of(store), metric_kimg=0.017)
    run_to(config, store, tmp_path, 0.044)
    assert list(metrics_in(tmp_path)) == [20, 36, 44]  # the first after 17 and 34, and the end


def test_the_floor_does_not_depend_on_the_model(measured):
    """All moments of one resolution have the same floor, but in a fade, where images change."""
    found = metrics_in(measured)
    floors = {found[images]["metric/psnr floor"] for images in range(EVERY, 49, EVERY)}
    assert len(floors) == 1
    assert found[56]["metric/psnr floor"] != found[104]["metric/psnr floor"]


def test_the_best_is_what_the_rule_says_of_the_figures(measured):
    """Higher resolution first, then how far it is faded in, then the first metric."""
    ranks = {
        images: (*stage_before(NO_STORE, images), values["metric/psnr"])
        for images, values in metrics_in(measured).items()
    }
    best = max(ranks, key=ranks.get)
    assert best >= 140  # of the last stage, faded in
    resolution, alpha, value = ranks[best]
    assert about(measured) == {
        "metric": "psnr",
        "value": value,
        "resolution": resolution,
        "alpha": alpha,
        "images_seen": best,
    }


def test_the_best_snapshot_loads_and_has_the_figure_that_is_told(measured, store):
    model, told = load(measured / BEST), about(measured)
    assert (model.resolution, model.alpha) == (told["resolution"], told["alpha"])
    assert model.images_seen == told["images_seen"]
    again = evaluate(model, store, NAMES).figures
    assert again["psnr"].value == pytest.approx(told["value"], rel=1e-6)
    line = metrics_in(measured)[told["images_seen"]]
    for name in NAMES:
        assert again[name].value == pytest.approx(line[f"metric/{name}"], rel=1e-6)
        assert again[name].floor == pytest.approx(line[f"metric/{name} floor"], rel=1e-6)


def test_the_best_snapshot_has_the_weights_of_its_moment(store, tmp_path):
    """The file is as the one that the run itself writes then."""
    config = dataclasses.replace(config_of(store), snapshot_kimg=EVERY / 1000)
    run_to(config, store, tmp_path, 0.048)
    best = about(tmp_path)["images_seen"]
    assert (tmp_path / BEST).read_bytes() == (
        tmp_path / f"snapshot-{best:09d}.safetensors"
    ).read_bytes()


def test_the_log_tells_figures_and_which_is_the_best(measured):
    lines = (measured / "log.txt").read_text().splitlines()
    told = [line for line in lines if "4 val images: PSNR, dB " in line]
    assert len(told) == len(metrics_in(measured))
    kept = [line for line in told if line.endswith(f"the best so far: {BEST}")]
    assert 2 < len(kept) < len(told)
    assert f"PSNR, dB {about(measured)['value']:.4g}, RMSE, of 255 " in kept[-1]


def test_without_metrics_nothing_is_measured_or_kept(plain):
    assert metrics_in(plain) == {}
    assert not list(plain.glob("best*"))


def test_measuring_changes_no_byte_of_what_is_trained(measured, plain):
    assert state_bytes(measured, 160) == state_bytes(plain, 160)
    snapshots = sorted(path.name for path in plain.glob("snapshot-*"))
    assert len(snapshots) == 3
    for name in snapshots:
        assert (measured / name).read_bytes() == (plain / name).read_bytes()


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


@pytest.mark.parametrize(("names", "first"), [(("swd", "psnr"), 112), (("psnr", "swd"), EVERY)])
def test_what_small_images_do_not_have_is_left_out_there(names, first, store, tmp_path):
    """SWD starts at 16 px; as the first metric it decides only from there on."""
    config = config_of(store, names)
    run_to(config, store, tmp_path, 0.048)
    assert (tmp_path / BEST).exists() == (first == EVERY)
    run_to(config, store, tmp_path, 0.112)
    found = metrics_in(tmp_path)
    small = {images for images, values in found.items() if "metric/swd" not in values}
    assert small == set(range(EVERY, 105, EVERY))
    assert all("metric/psnr" in values for values in found.values())
    assert set(found[112]) == {f"metric/{n}{end}" for n in names for end in ("", " floor")}
    assert about(tmp_path)["metric"] == names[0]
    assert about(tmp_path)["resolution"] == 16


def test_what_is_better_neither_way_leaves_the_best_to_the_next(store, tmp_path):
    run_to(config_of(store, ("latents", "psnr")), store, tmp_path, 0.016)
    found = metrics_in(tmp_path)
    assert list(found) == [8, 16]
    names = {"metric/latent_mean_norm", "metric/psnr"}
    assert all(names < set(values) for values in found.values())
    assert about(tmp_path)["metric"] == "psnr"


def test_without_a_better_and_a_worse_there_is_no_best(store, tmp_path):
    run_to(config_of(store, ("latents", "msssim")), store, tmp_path, 0.016)
    assert len(metrics_in(tmp_path)) == 2
    assert not list(tmp_path.glob("best*"))
    assert "the best so far" not in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("names", [("rmse", "psnr"), ("psnr", "rmse")])
def test_the_first_metric_decides(names, store, tmp_path):
    run_to(config_of(store, names), store, tmp_path, 0.016)
    assert about(tmp_path)["metric"] == names[0]


# Stopped runs


def files_of(run_dir: Path) -> tuple[bytes, bytes]:
    return (run_dir / ABOUT).read_bytes(), (run_dir / BEST).read_bytes()


# After 8 images (a measurement), within the first fade, at the end of a stage; 12, and late.
@pytest.mark.parametrize(
    "steps", [2, 17, 26, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 37))]
)
def test_a_stopped_run_ends_with_the_same_best_as_one_in_one_go(
    steps, measured, store, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(engine, "train_step", StopAfter(steps))
        with pytest.raises(Preempted):
            run_to(config_of(store), store, tmp_path, 0.160)
    run_to(config_of(store), store, tmp_path, 0.160)
    assert files_of(tmp_path) == files_of(measured)
    assert metrics_in(tmp_path) == metrics_in(measured)
    assert state_bytes(tmp_path, 160) == state_bytes(measured, 160)


def test_a_killed_run_that_goes_on_from_an_older_checkpoint_ends_the_same(
    measured, store, tmp_path
):
    """Its best snapshot is of a later moment than the checkpoint."""
    run = shutil.copytree(measured, tmp_path / "run")
    shutil.rmtree(run / "checkpoint-000000160")
    assert about(run)["images_seen"] > 104
    run_to(config_of(store), store, run, 0.160)
    assert files_of(run) == files_of(measured)
    assert metrics_in(run) == metrics_in(measured)


def test_a_best_snapshot_without_its_note_is_no_best(measured, store, tmp_path):
    """As after a kill between both files: what is measured from there on decides."""
    run = shutil.copytree(measured, tmp_path / "run")
    shutil.rmtree(run / "checkpoint-000000160")
    (run / ABOUT).unlink()
    run_to(config_of(store), store, run, 0.160)
    assert about(run)["images_seen"] == 160
    assert (run / BEST).read_bytes() == (run / "snapshot-000000160.safetensors").read_bytes()


@pytest.fixture(scope="module")
def nearly_done(tmp_path_factory, data_root) -> Path:
    """A run of 144 images, at 16 px and faded in."""
    run = finished(tmp_path_factory.mktemp("nearly"), data_root, NAMES, 0.144)
    assert (about(run)["resolution"], about(run)["alpha"]) == (16, 1.0)
    return run


@pytest.fixture
def stopped(nearly_done, tmp_path) -> Path:
    """The same, to go on with."""
    return shutil.copytree(nearly_done, tmp_path / "run")


@pytest.mark.parametrize(("value", "stays"), [(1e9, True), (-1e9, False)])
def test_a_resumed_run_compares_with_the_best_of_before(value, stays, stopped, store):
    (stopped / ABOUT).write_text(json.dumps({**about(stopped), "value": value}))
    before = files_of(stopped)
    run_to(config_of(store), store, stopped, 0.160)
    assert (files_of(stopped) == before) == stays


@pytest.mark.parametrize("text", ["{", '{"metric": "psnr", "value": null}'])
def test_a_damaged_note_of_the_best_does_not_stop_a_run(text, stopped, store):
    (stopped / ABOUT).write_text(text)
    run_to(config_of(store), store, stopped, 0.148)
    assert about(stopped)["images_seen"] == 148
    assert load(stopped / BEST).images_seen == 148


def test_other_metrics_may_be_asked_for_when_a_run_goes_on(stopped, store):
    """What another metric found best says nothing of the new one."""
    (stopped / ABOUT).write_text(json.dumps({**about(stopped), "value": -1e9}))
    run_to(config_of(store, ("rmse", "mse")), store, stopped, 0.160)
    found = metrics_in(stopped)
    assert "metric/psnr" in found[144]
    assert set(found[152]) == {f"metric/{n}{e}" for n in ("rmse", "mse") for e in ("", " floor")}
    told = about(stopped)
    values = {images: found[images]["metric/rmse"] for images in (152, 160)}
    best = min(values, key=values.get)
    assert (told["metric"], told["images_seen"], told["value"]) == ("rmse", best, values[best])
