"""The loop: what a run leaves behind, and how it stops."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import CPU, StopAfter, run_to, state_after, state_bytes, tiny_config, with_stages

from pgvae.data import Store
from pgvae.errors import Preempted, ResourceError
from pgvae.inference import load
from pgvae.schedule import Stage
from pgvae.snapshot import Snapshot, load_snapshot
from pgvae.training import engine
from pgvae.training.engine import stop_signals, train
from pgvae.training.rundir import RunDirectory


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_root) -> Path:
    """A finished run, made as the command makes it."""
    store = Store(data_root / "tiny")
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), tiny_config(store))
    try:
        train(tiny_config(store), store, run, CPU)
    finally:
        run.close()
        store.close()
    return run.path


def status_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "status.json").read_text())


def test_every_file_of_a_run_directory_is_there(whole):
    names = {path.name for path in whole.iterdir()}
    ends = (48, 104, 160)  # the end of each stage
    shown = {f"{what}-{n:09d}.png" for what in ("fakes", "reconstructions") for n in ends}
    snapshots = {f"snapshot-{n:09d}.safetensors" for n in ends}
    checkpoints = {f"checkpoint-{n:09d}" for n in ends[1:]}  # the newest two
    files = {
        "config.json",
        "request.json",
        "log.txt",
        "stats.jsonl",
        "status.json",
        "reals.png",
        ".lock",
    }
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names == files | shown | snapshots | checkpoints | events


def test_a_finished_run_says_so(whole):
    assert status_of(whole) == {
        "status": "done",
        "exit_code": 0,
        "images_seen": 160,
        "message": "",
    }


def test_the_figures_of_a_run_are_ordered_by_images(whole):
    records = [json.loads(line) for line in (whole / "stats.jsonl").read_text().splitlines()]
    images = [record["images"] for record in records]
    assert images == sorted(images)
    assert images[-1] == 160
    assert [r["images"] for r in records if "val/psnr" in r] == [48, 104, 160]
    skipped = [r["skipped_steps"] for r in records if "encoder/kl_real" in r]
    assert skipped
    assert not any(skipped)


def test_each_snapshot_is_of_its_stage(whole):
    models = [load(path) for path in sorted(whole.glob("snapshot-*"))]
    assert [model.resolution for model in models] == [4, 8, 16]
    assert [model.images_seen for model in models] == [48, 104, 160]
    assert [model.alpha for model in models] == [1.0, 1.0, 1.0]


def test_the_last_snapshot_holds_the_weights_of_the_last_checkpoint(whole):
    from safetensors.torch import load_file

    state = load_file(whole / "checkpoint-000000160" / "state.safetensors")
    snapshot = load_file(whole / "snapshot-000000160.safetensors")
    assert snapshot.pop("mean_image").shape == (3, 16, 16)
    assert all(torch.equal(tensor, state[name]) for name, tensor in snapshot.items())


@pytest.mark.parametrize("objective", ["vac", "introvac"])
def test_a_run_with_a_classifier_tells_its_accuracy_on_unseen_images(objective, faces, tmp_path):
    store = Store(faces)
    run_to(tiny_config(store, objective), store, tmp_path, 0.056)  # 2 steps into the fade of 8 px
    store.close()
    records = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    shown = [r for r in records if "val/psnr" in r]
    assert [r["images"] for r in shown] == [48, 56]
    log = (tmp_path / "log.txt").read_text()
    for name in ("glasses", "hat"):
        figures = [r[f"val/accuracy {name}"] for r in shown]
        assert all(0 <= figure <= 1 for figure in figures)
        assert all(f"accuracy {name} {figure:.1%}" in log for figure in figures)
    model = load(tmp_path / "snapshot-000000056.safetensors")
    assert (model.attributes, model.classifies) == (("glasses", "hat"), True)
    assert model.classify(model.sample(3)).shape == (3, 2)


def test_pretraining_and_the_game_are_both_in_the_figures(store, tmp_path):
    run_to(tiny_config(store, "introvae", pretrain_kimg=0.012), store, tmp_path, 0.024)
    records = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    of_phase = {
        phase: [r["images"] for r in records if f"{phase}/rec" in r]
        for phase in ("pretrain", "encoder", "generator")
    }
    game = [16, 20, 24]
    assert of_phase == {"pretrain": [4, 8, 12], "encoder": game, "generator": game}


def test_a_finished_run_that_goes_on_has_nothing_to_do(store, tmp_path):
    run_to(tiny_config(store), store, tmp_path, 0.060)
    before = state_bytes(tmp_path, 60), (tmp_path / "stats.jsonl").read_bytes()
    run_to(tiny_config(store), store, tmp_path, 0.060)
    assert (state_bytes(tmp_path, 60), (tmp_path / "stats.jsonl").read_bytes()) == before
    assert status_of(tmp_path)["status"] == "done"


def test_snapshots_come_at_their_interval(store, tmp_path):
    run_to(tiny_config(store, snapshot_kimg=0.020), store, tmp_path, 0.048)
    images = sorted(int(p.stem.split("-")[1]) for p in tmp_path.glob("snapshot-*"))
    assert images == [20, 40, 48]


def test_a_checkpoint_comes_after_some_minutes_too(store, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    run_to(tiny_config(store), store, tmp_path, 0.024)
    assert {p.name for p in tmp_path.glob("checkpoint-*")} == {
        "checkpoint-000000020",
        "checkpoint-000000024",
    }
    assert [p.name for p in tmp_path.glob("snapshot-*")] == ["snapshot-000000024.safetensors"]


def test_a_new_run_can_start_from_the_weights_of_a_snapshot(whole, store, tmp_path):
    initial = load_snapshot(whole / "snapshot-000000104.safetensors")
    config = tiny_config(store)
    stages = (Stage(8, 4, 1e-9, stable_kimg=1), Stage(16, 4, 1e-9))
    later = dataclasses.replace(config.schedule, stages=stages, total_kimg=0.004)
    run = RunDirectory.create(tmp_path, dataclasses.replace(config, schedule=later))
    train(dataclasses.replace(config, schedule=later), store, run, CPU, initial=initial)
    run.close()
    again = load_snapshot(run.path / "snapshot-000000004.safetensors")
    old, new = initial.nets.encoder.state_dict(), again.nets.encoder.state_dict()
    weights = [name for name in old if name.endswith("weight")]
    assert weights
    for name in weights:
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=1e-6)


def test_a_snapshot_in_mid_fade_starts_a_run_too(store, tmp_path):
    state = state_after(64)
    assert state.nets.generator.fading
    config = tiny_config(store)
    mean = torch.zeros(3, 8, 8)
    initial = Snapshot(state.nets, config.model, 0.5, 64, {"name": "pioneer"}, (), "tiny", mean)
    later = dataclasses.replace(config.schedule, stages=(Stage(8, 4, 1e-3),), total_kimg=0.004)
    run = RunDirectory.create(tmp_path, dataclasses.replace(config, schedule=later))
    train(dataclasses.replace(config, schedule=later), store, run, CPU, initial=initial)
    run.close()
    assert load(run.path / "snapshot-000000004.safetensors").resolution == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_within_a_step_and_the_run_goes_on_to_the_same_bytes(
    number, whole, store, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(engine, "train_step", StopAfter(17, number))
        with pytest.raises(Preempted, match=r"stopped at 68 images and saved.*--resume") as caught:
            run_to(tiny_config(store), store, tmp_path, 0.160)
    assert caught.value.exit_code == 75
    status = status_of(tmp_path)
    assert (status["status"], status["exit_code"], status["images_seen"]) == ("preempted", 75, 68)
    assert (tmp_path / "checkpoint-000000068").is_dir()
    run_to(tiny_config(store), store, tmp_path, 0.160)
    assert state_bytes(tmp_path, 160) == state_bytes(whole, 160)
    assert status_of(tmp_path)["status"] == "done"


def test_a_second_signal_stops_at_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def two_signals() -> None:
        with stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal did not stop it")

    with pytest.raises(KeyboardInterrupt):
        two_signals()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


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
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == -signal.SIGTERM
            assert time.monotonic() - started < 10
        finally:
            process.kill()
    assert list((tmp_path / "run").glob("checkpoint-*")) == []


def test_numbers_that_stay_not_finite_end_the_run_with_a_status(store, tmp_path):
    config = tiny_config(store, "vae")
    with pytest.raises(ResourceError, match="in a row were not finite"):
        run_to(with_stages(config, lr=1e30), store, tmp_path, 0.160)
    status = status_of(tmp_path)
    assert (status["status"], status["exit_code"]) == ("failed", 4)
    assert "not finite" in status["message"]


def test_a_fault_that_no_one_expected_is_in_the_status_too(store, tmp_path, monkeypatch):
    def fault(*_):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(engine, "train_step", fault)
    with pytest.raises(ZeroDivisionError):
        run_to(tiny_config(store), store, tmp_path, 0.160)
    status = status_of(tmp_path)
    assert (status["status"], status["exit_code"]) == ("failed", 1)
    assert status["message"] == "a fault"
