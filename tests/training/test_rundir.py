"""Run directories are numbered, locked and found again."""

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import NO_STORE, tiny_config

from pgvae.config import RunConfig
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES
from pgvae.training.rundir import RunDirectory, find_run, with_shares_of


@pytest.fixture
def config() -> RunConfig:
    return tiny_config(NO_STORE)


def make(outdir: Path, config: RunConfig) -> Path:
    run = RunDirectory.create(outdir, config)
    run.close()
    return run.path


def test_runs_are_numbered_and_named_after_what_they_train(tmp_path, config):
    vae = tiny_config(NO_STORE, "vae")
    names = [make(tmp_path / "runs", c).name for c in (config, vae, config)]
    assert names == ["00000-tiny-pioneer-16px", "00001-tiny-vae-16px", "00002-tiny-pioneer-16px"]


def test_the_next_number_is_one_above_the_highest(tmp_path, config):
    for name in ("00007-old", "notes", "123-short", "00003-older"):
        (tmp_path / name).mkdir()
    assert make(tmp_path, config).name.startswith("00008-")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_new_run_holds_its_config(tmp_path, objective):
    config = tiny_config(NO_STORE, objective)
    text = (make(tmp_path, config) / "config.json").read_text()
    assert RunConfig.from_dict(json.loads(text)) == config


def test_a_file_in_place_of_the_output_directory_is_refused(tmp_path, config):
    (tmp_path / "file").write_text("mine")
    for outdir in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(InputError, match=r"cannot write to output directory .*--outdir"):
            RunDirectory.create(outdir, config)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot write to run directory"):
        RunDirectory(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path, config):
    run = RunDirectory.create(tmp_path, config)
    attempt = (
        "import sys; from pathlib import Path; from pgvae.training.rundir import RunDirectory\n"
        "from pgvae.errors import InputError\n"
        "try: RunDirectory(Path(sys.argv[1]))\n"
        "except InputError as error: sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", attempt, str(run.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert refused.returncode == 1
    assert f"in use by process {os.getpid()}" in refused.stderr
    run.close()


def test_the_lock_is_free_again_after_close(tmp_path, config):
    path = make(tmp_path, config)
    run = RunDirectory(path)
    with (path / ".lock").open("a+") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    run.close()
    RunDirectory(path).close()


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path, config):
    path = make(tmp_path, config)
    (path / ".checkpoint-000000064.tmp").mkdir()
    (path / ".checkpoint-000000064.tmp" / "state.safetensors").write_bytes(b"half")
    (path / ".snapshot-000000064.safetensors.tmp").write_bytes(b"half")
    RunDirectory(path).close()
    assert {p.name for p in path.iterdir()} == {".lock", "config.json"}


def test_a_process_that_is_refused_clears_nothing_away(tmp_path, config):
    run = RunDirectory.create(tmp_path, config)
    (run.path / ".checkpoint-000000064.tmp").mkdir()
    with pytest.raises(InputError, match="in use"):
        RunDirectory(run.path)
    run.close()
    assert (run.path / ".checkpoint-000000064.tmp").is_dir()


def test_the_status_says_how_the_run_stands(tmp_path, config):
    run = RunDirectory.create(tmp_path, config)
    run.write_status("preempted", 75, 64, "stopped")
    run.close()
    assert json.loads((run.path / "status.json").read_text()) == {
        "status": "preempted",
        "exit_code": 75,
        "images_seen": 64,
        "message": "stopped",
    }


def test_nothing_to_find_is_none(tmp_path, config):
    assert find_run(tmp_path / "nowhere", config) is None
    assert find_run(tmp_path, config) is None


def test_the_run_with_the_same_config_is_found_among_others(tmp_path, config):
    other = dataclasses.replace(config, seed=1)
    paths = [make(tmp_path, c) for c in (other, config, other)]
    assert find_run(tmp_path, config) == paths[1]


def test_of_several_that_fit_the_newest_is_found(tmp_path, config):
    paths = [make(tmp_path, config) for _ in range(3)]
    assert find_run(tmp_path, config) == paths[2]


def test_a_run_directory_itself_is_found(tmp_path, config):
    path = make(tmp_path, config)
    assert find_run(path, config) == path


def test_the_length_of_the_run_and_its_snapshots_may_differ(tmp_path, config):
    path = make(tmp_path, config)
    longer = dataclasses.replace(config.schedule, total_kimg=99.0)
    assert find_run(tmp_path, dataclasses.replace(config, schedule=longer)) == path
    assert find_run(tmp_path, dataclasses.replace(config, snapshot_kimg=0.5)) == path


def test_what_is_a_share_of_the_length_may_differ_with_it(tmp_path, config):
    path = make(tmp_path, config)
    shares = {"total_kimg": 0.2, "pretrain_kimg": 0.1, "milestones_kimg": (0.1, 0.15)}
    schedule = dataclasses.replace(config.schedule, **shares)
    assert find_run(tmp_path, dataclasses.replace(config, schedule=schedule)) == path
    other = dataclasses.replace(config.schedule, milestone_factor=0.1)
    with pytest.raises(InputError, match=r"schedule\.milestone_factor: 0\.5 there, 0\.1 here"):
        find_run(tmp_path, dataclasses.replace(config, schedule=other))


def test_other_settings_of_a_stage_are_refused(tmp_path, config):
    make(tmp_path, config)
    schedule = dataclasses.replace(config.schedule, settings=({}, {}, {}, {}, {"lambda_x": 20.0}))
    with pytest.raises(InputError, match=r"schedule\.settings: .*15\.0.* there, .*20\.0.* here"):
        find_run(tmp_path, dataclasses.replace(config, schedule=schedule))


def test_other_labels_are_refused(tmp_path):
    config = tiny_config(NO_STORE, "vac")
    path = make(tmp_path, config)
    assert find_run(tmp_path, config) == path
    labels = dataclasses.replace(config.labels, balance=("hat",), yes_above=0.75)
    with pytest.raises(InputError) as caught:
        find_run(tmp_path, dataclasses.replace(config, labels=labels))
    assert "labels.balance: [] there, ['hat'] here" in str(caught.value)
    assert "labels.yes_above: 0.5 there, 0.75 here" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, ["seed: 0 there, 3 here"]),
        ({"mirror": False, "seed": 3}, ["mirror: True there, False here", "seed: 0 there, 3 here"]),
        ({"ema_kimg": 5.0}, ["ema_kimg: 10.0 there, 5.0 here"]),
        ({"init_from": "a.safetensors"}, ["init_from: None there, a.safetensors here"]),
        ({"objective": {"name": "age"}}, ["objective.name: pioneer there, age here"]),
    ],
)
def test_the_fields_that_differ_are_named(tmp_path, config, changes, words):
    path = make(tmp_path, config)
    with pytest.raises(InputError) as caught:
        find_run(tmp_path, dataclasses.replace(config, **changes))
    for word in [*words, path.name, "--resume"]:
        assert word in str(caught.value)


def test_data_that_changed_since_is_refused(tmp_path, config):
    make(tmp_path, config)
    with pytest.raises(InputError, match=r"dataset_digest: 0+ there, f+ here"):
        find_run(tmp_path, dataclasses.replace(config, dataset_digest="f" * 64))


def test_other_networks_and_schedules_are_refused(tmp_path, config):
    make(tmp_path, config)
    model = dataclasses.replace(config.model, latent_dim=16)
    schedule = dataclasses.replace(config.schedule, batch_sizes=(4, 4, 8))
    with pytest.raises(InputError, match=r"model\.latent_dim: 8 there, 16 here"):
        find_run(tmp_path, dataclasses.replace(config, model=model))
    with pytest.raises(InputError, match=r"schedule\.batch_sizes"):
        find_run(tmp_path, dataclasses.replace(config, schedule=schedule))


def test_where_none_fits_it_is_the_newest_that_is_compared(tmp_path, config):
    make(tmp_path, dataclasses.replace(config, seed=1))
    newest = make(tmp_path, dataclasses.replace(config, mirror=False))
    with pytest.raises(InputError) as caught:
        find_run(tmp_path, config)
    assert newest.name in str(caught.value)
    assert "mirror" in str(caught.value)
    assert "seed" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "7", "\xff\xfe"])
def test_a_run_with_an_unreadable_config_is_passed_over(tmp_path, config, text):
    good = make(tmp_path, config)
    bad = make(tmp_path, config)
    (bad / "config.json").write_bytes(text.encode("latin-1"))
    assert find_run(tmp_path, config) == good
    with pytest.raises(InputError, match=good.name):
        find_run(tmp_path, dataclasses.replace(config, seed=1))


def test_a_run_that_is_made_longer_keeps_what_were_shares_of_its_length(tmp_path):
    short = tiny_config(NO_STORE, "as_introvae", pretrain_kimg=0.02)
    schedule = dataclasses.replace(short.schedule, anneal_kimg=0.16, milestones_kimg=(0.05, 0.1))
    path = make(tmp_path, dataclasses.replace(short, schedule=schedule))
    longer = dataclasses.replace(
        schedule, total_kimg=1.6, pretrain_kimg=0.2, anneal_kimg=1.6, milestones_kimg=(0.5, 1.0)
    )
    wanted = dataclasses.replace(short, schedule=longer)
    kept = with_shares_of(find_run(tmp_path, wanted), wanted).schedule
    assert kept == dataclasses.replace(schedule, total_kimg=1.6)
    assert kept.at(160).progress == 1.0
    asked = with_shares_of(path, wanted, given=("milestones_kimg",)).schedule
    assert asked.milestones_kimg == (0.5, 1.0)
    assert asked.pretrain_kimg == 0.02


def test_a_run_from_before_a_setting_existed_is_found(tmp_path, config):
    path = make(tmp_path, config)
    values = json.loads((path / "config.json").read_text())
    del values["metrics"], values["metric_kimg"], values["model"]["last_activation"]
    (path / "config.json").write_text(json.dumps(values))
    assert find_run(tmp_path, config) == path
