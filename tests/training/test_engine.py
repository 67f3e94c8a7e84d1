"""The loop: what a run leaves behind, and how it stops."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from runs import CPU, run_to, state_after, state_bytes, stop_after, tiny_config, with_stages
from safetensors.torch import load_file

from pgvae.config import RunConfig
from pgvae.data import Store
from pgvae.errors import ResourceError
from pgvae.inference import load
from pgvae.schedule import Stage
from pgvae.snapshot import Snapshot, load_snapshot
from pgvae.training import engine, record
from pgvae.training.engine import train
from pgvae.training.ranks import Ranks
from pgvae.training.rundir import RunDirectory


def status_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "status.json").read_text())


def records_of(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


def images_of(run_dir: Path, what: str) -> list[int]:
    """Images seen of the snapshots or checkpoints."""
    return sorted(int(p.stem.split("-")[1]) for p in run_dir.glob(f"{what}-*"))


def test_every_file_of_a_finished_run_is_there(whole):
    names = {path.name for path in whole.iterdir()}
    ends = (48, 104, 160)  # the end of each stage
    shown = {f"{what}-{n:09d}.png" for what in ("fakes", "reconstructions") for n in ends}
    snapshots = {f"snapshot-{n:09d}.safetensors" for n in ends}
    checkpoints = {f"checkpoint-{n:09d}" for n in ends[1:]}  # the newest two
    files = {"config.json", "request.json", "SHA256SUMS", "status.json"}
    files |= {"log.txt", "stats.jsonl", "reals.png"}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names == files | {".lock"} | shown | snapshots | checkpoints | events
    done = {"status": "done", "exit_code": 0, "images_seen": 160, "message": ""}
    assert status_of(whole) == done


def test_a_snapshot_that_a_kill_left_out_is_made_when_the_run_goes_on(store, tmp_path):
    """The kill came after the checkpoint of that moment, be it the end of a stage or amidst."""
    config = tiny_config(store, snapshot_kimg=0.024)
    for stop, more in ((0.024, 0.048), (0.048, 0.064)):
        run_to(config, store, tmp_path, stop)
        lost = tmp_path / f"snapshot-{round(1000 * stop):09d}.safetensors"
        lost.unlink()
        run_to(config, store, tmp_path, more)
        assert load_snapshot(lost).images_seen == 1000 * stop
    assert images_of(tmp_path, "snapshot") == [24, 48, 64]


def shown_often(store: Store) -> RunConfig:
    return tiny_config(store, snapshot_kimg=0.024, metric_kimg=0.024, metrics=("psnr",))


@pytest.fixture(scope="module")
def seen(tmp_path_factory, data_root) -> Path:
    """A run of which there are many snapshots and figures."""
    path, store = tmp_path_factory.mktemp("seen"), Store(data_root / "tiny")
    run_to(shown_often(store), store, path, 0.160)
    store.close()
    return path


@pytest.mark.parametrize("images", [48, 72, 104, 120])  # ends of stages, and amidst fades
@pytest.mark.parametrize("lost", ["all", "grids"])
def test_what_a_kill_left_out_is_made_to_the_same_bytes(seen, store, tmp_path, images, lost):
    config = shown_often(store)
    stop_after(images // 4, config, store, tmp_path / "part")
    names = [f"{what}-{images:09d}.png" for what in ("fakes", "reconstructions")]
    names += [f"snapshot-{images:09d}.safetensors"] if lost == "all" else []
    for name in names:
        (tmp_path / "part" / name).unlink()
    stats = tmp_path / "part/stats.jsonl"
    lines = stats.read_text().splitlines(keepends=True)
    kept = [
        line
        for line in lines
        if json.loads(line)["images"] < images or not ("metric/" in line or "psnr_gain" in line)
    ]
    assert len(lines) - len(kept) >= 1
    stats.write_text("".join(kept))
    run_to(config, store, tmp_path / "part", 0.160)
    for name in names:
        assert (tmp_path / "part" / name).read_bytes() == (seen / name).read_bytes()
    figures = [
        sorted(
            (record["images"], key, value)
            for record in records_of(run)
            for key, value in record.items()
            if "/" in key  # of images, not of the clock
        )
        for run in (seen, tmp_path / "part")
    ]
    assert figures[0] == figures[1]


def test_the_figures_of_a_run_are_ordered_by_images(whole):
    records = records_of(whole)
    images = [record["images"] for record in records]
    assert images == sorted(images)
    assert images[-1] == 160
    assert [r["images"] for r in records if "val/psnr" in r] == [48, 104, 160]
    skipped = [r["skipped_steps"] for r in records if "encoder/kl_real" in r]
    assert skipped
    assert not any(skipped)


def test_each_snapshot_is_of_its_stage_and_has_the_weights_of_its_moment(whole):
    models = [load(path) for path in sorted(whole.glob("snapshot-*"))]
    found = [(model.resolution, model.images_seen, model.alpha) for model in models]
    assert found == [(4, 48, 1.0), (8, 104, 1.0), (16, 160, 1.0)]
    state = load_file(whole / "checkpoint-000000160" / "state.safetensors")
    snapshot = load_file(whole / "snapshot-000000160.safetensors")
    assert snapshot.pop("mean_image").shape == (3, 16, 16)
    weights = {name: t for name, t in snapshot.items() if not name.startswith("prior/")}
    assert all(torch.equal(tensor, state[name]) for name, tensor in weights.items())
    assert weights.keys() < snapshot.keys()


@pytest.mark.parametrize("objective", ["vac", "introvac"])
def test_a_run_with_a_classifier_tells_its_accuracy_on_unseen_images(objective, faces, tmp_path):
    store = Store(faces)
    run_to(tiny_config(store, objective), store, tmp_path, 0.056)  # 2 steps into the fade of 8 px
    store.close()
    shown = [r for r in records_of(tmp_path) if "val/psnr" in r]
    assert [r["images"] for r in shown] == [48, 56]
    log = (tmp_path / "log.txt").read_text()
    for name in ("glasses", "hat"):
        figures = [r[f"val/accuracy {name}"] for r in shown]
        assert all(0 <= figure <= 1 for figure in figures)
        assert all(f"accuracy {name} {figure:.1%}" in log for figure in figures)
    model = load(tmp_path / "snapshot-000000056.safetensors")
    assert (model.attributes, model.classifies) == (("glasses", "hat"), True)
    assert model.alpha == 0.125
    assert model.classify(model.sample(3)).shape == (3, 2)


def test_snapshots_come_at_their_interval_and_a_finished_run_has_nothing_more_to_do(
    store, tmp_path
):
    def files() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in tmp_path.glob("s*s*")}  # stats, status, snapshots

    config = tiny_config(store, snapshot_kimg=0.020)
    run_to(config, store, tmp_path, 0.048)
    assert images_of(tmp_path, "snapshot") == [20, 40, 48]
    before = state_bytes(tmp_path, 48), files()
    run_to(config, store, tmp_path, 0.048)
    assert (state_bytes(tmp_path, 48), files()) == before


def test_a_checkpoint_comes_first_and_a_snapshot_that_is_missing_is_made_then(
    whole, store, tmp_path, monkeypatch
):
    told = []
    with monkeypatch.context() as patch:
        patch.setattr(record, "save_snapshot", lambda *_: told.append(status_of(tmp_path)) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_to(tiny_config(store), store, tmp_path, 0.160)
    assert images_of(tmp_path, "checkpoint") == [48]
    assert [(status["status"], status["images_seen"]) for status in told] == [("running", 48)]
    run_to(tiny_config(store), store, tmp_path, 0.052)
    name = "snapshot-000000048.safetensors"
    assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_early_snapshots_and_a_checkpoint_after_some_minutes(store, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(engine, "_EARLY_IMAGES", (6, 20_000))
    run_to(tiny_config(store), store, tmp_path, 0.024)
    assert images_of(tmp_path, "checkpoint") == [20, 24]
    assert images_of(tmp_path, "snapshot") == [8, 24]


def test_a_run_that_ends_before_it_has_grown_is_warned_of_twice(store, tmp_path):
    run_to(tiny_config(store), store, tmp_path, 0.008)
    warning = "warning: 0.008 kimg end at 4 px: 8 and 16 px are never reached; use a smaller"
    assert (tmp_path / "log.txt").read_text().count(warning) == 2


def test_a_run_whose_stages_are_shorter_than_a_batch_is_warned(store, tmp_path):
    config, changed = tiny_config(store), dataclasses.replace
    first, *rest = config.schedule.stages
    short = [changed(stage, fade_kimg=0.0, stable_kimg=0.001) for stage in rest]
    schedule = changed(config.schedule, stages=(first, *short))
    run_to(changed(config, schedule=schedule), store, tmp_path, 0.05)
    words = "px are never reached; use a larger --kimg-per-stage or a smaller --batch"
    assert words in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("fading", [False, True])
def test_a_new_run_can_start_from_the_weights_of_a_snapshot(fading, store, tmp_path):
    """Of one in mid-fade too."""
    config, state = tiny_config(store), state_after(64 if fading else 104)
    assert state.nets.generator.fading == fading
    alpha, mean = 0.5 if fading else 1.0, torch.zeros(3, 8, 8)
    initial = Snapshot(state.nets, config.model, alpha, 64, {"name": "pioneer"}, (), "tiny", mean)
    old = {name: value.clone() for name, value in state.nets.encoder.state_dict().items()}
    stages = (Stage(8, 4, 1e-9, stable_kimg=1), Stage(16, 4, 1e-9))
    schedule = dataclasses.replace(config.schedule, stages=stages, total_kimg=0.004)
    config = dataclasses.replace(config, schedule=schedule)
    run = RunDirectory.create(tmp_path, config)
    train(config, store, run, CPU, initial=initial)
    run.close()
    again = load_snapshot(run.path / "snapshot-000000004.safetensors")
    assert load(run.path / "snapshot-000000004.safetensors").resolution == 8
    new = again.nets.encoder.state_dict()
    weights = [name for name in new if name.endswith("weight")]
    assert weights
    for name in weights:
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_saves_within_a_step_and_the_run_goes_on_to_the_same_bytes(
    number, whole, store, tmp_path
):
    error = stop_after(17, tiny_config(store), store, tmp_path, number)
    assert re.search(r"stopped at 68 images and saved.*--resume", str(error))
    assert error.exit_code == 75
    status = status_of(tmp_path)
    assert (status["status"], status["exit_code"], status["images_seen"]) == ("preempted", 75, 68)
    assert 68 in images_of(tmp_path, "checkpoint")
    assert 68 in images_of(tmp_path, "snapshot")
    run_to(tiny_config(store), store, tmp_path, 0.160)
    assert state_bytes(tmp_path, 160) == state_bytes(whole, 160)
    assert status_of(tmp_path)["status"] == "done"


SLOW_SAVE = """
import sys, time
from pathlib import Path
from runs import Store, run_to, tiny_config
from pgvae.training import record

def slow_save(run_dir, state):
    print("saving", flush=True)
    time.sleep(120)

record.save_checkpoint = slow_save
store = Store(sys.argv[1])
run_to(tiny_config(store), store, Path(sys.argv[2]), 0.160)
"""


def test_a_second_signal_stops_a_process_that_is_still_saving(data_root, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SAVE, str(data_root / "tiny"), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
    )
    with process:
        try:
            for line in process.stdout:
                if "kimg  " in line:  # the first tick: training is on its way
                    process.send_signal(signal.SIGTERM)
                if line == "saving\n":
                    break
            time.sleep(2.2)  # before, it would be taken for the first one's echo
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == -signal.SIGTERM
            assert time.monotonic() - started < 10
        finally:
            process.kill()
    assert list((tmp_path / "run").glob("checkpoint-*")) == []


@pytest.mark.parametrize(
    ("fault", "raised", "code", "words"),
    [
        (None, ResourceError, 4, "in a row were not finite"),  # of a learning rate
        (ZeroDivisionError("a fault"), ZeroDivisionError, 1, "a fault"),
        (MemoryError(), ResourceError, 4, "out of memory at 4 px with batch 4.* --batch-gpu 2"),
        (RuntimeError("CUDA out of memory."), ResourceError, 4, "out of memory at 4 px"),
    ],
    ids=repr,
)
def test_a_fault_is_in_the_status(fault, raised, code, words, store, tmp_path, monkeypatch):
    config = tiny_config(store, "vae")
    if fault:
        monkeypatch.setattr(engine, "train_step", Mock(side_effect=fault))
    with pytest.raises(raised, match=words):
        run_to(with_stages(config, lr=1e-3 if fault else 1e30), store, tmp_path, 40.0)
    status = status_of(tmp_path)
    assert status["images_seen"] == (0 if fault else 40)  # looked at after ten iterations
    assert (status["status"], status["exit_code"]) == ("failed", code)
    assert status["images_seen"] <= 4 * (3 + engine.CHECK_ITERATIONS)
    assert re.search(words, status["message"])


def test_a_process_hears_that_the_first_one_cannot_write_before_it_waits_for_more(store, tmp_path):
    asked = []

    class Second(Ranks):
        index, count = 1, 2

        def told(self, value):
            asked.append(value)
            return value

        def meet(self):
            raise ResourceError("another process of the run is gone")

    run = RunDirectory(tmp_path)
    with pytest.raises(ResourceError, match="another process of the run is gone"):
        train(tiny_config(store, "vae"), store, run, CPU, ranks=Second())
    run.close()
    assert asked == [0]  # the images seen
