"""Run directories are numbered, locked and found again."""

import errno
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import NO_STORE, tiny_config

from pgvae.config import RunConfig
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES
from pgvae.request import Request
from pgvae.training.rundir import RunDirectory


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
    assert {p.name for p in path.iterdir()} == {".lock", "config.json", "request.json"}


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


def test_a_new_run_holds_its_request(tmp_path, config):
    asked = Request(dataset="tiny", lr=1e-3)
    run = RunDirectory.create(tmp_path, config, asked)
    run.close()
    assert Request.read(run.path / "request.json") == asked


def make_at(moment: float, outdir: Path, config: RunConfig, names) -> None:
    """In a process of its own: make a run at a moment that others wait for too."""
    while time.time() < moment:
        pass
    try:
        names.put(make(outdir, config).name)
    except InputError as error:
        names.put(str(error))


def test_runs_made_together_get_numbers_of_their_own(tmp_path, config):
    """Also where their names differ: four processes, ten times."""
    context = multiprocessing.get_context("fork")
    configs = [config, tiny_config(NO_STORE, "vae")] * 2
    for attempt in range(10):
        names, moment = context.Queue(), time.time() + 0.05
        outdir = tmp_path / str(attempt)
        makers = [context.Process(target=make_at, args=(moment, outdir, c, names)) for c in configs]
        for maker in makers:
            maker.start()
        made = sorted(names.get(timeout=60)[:5] for _ in makers)
        for maker in makers:
            maker.join()
        assert made == ["00000", "00001", "00002", "00003"]
        assert len(list(outdir.iterdir())) == 4


def test_a_number_that_a_killed_process_had_reserved_is_passed_over(tmp_path, config):
    (tmp_path / ".00000").mkdir()
    assert make(tmp_path, config).name.startswith("00001-")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_drive_without_locks_has_runs_too(number, tmp_path, config, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert make(tmp_path, config).is_dir()
