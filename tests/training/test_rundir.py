"""Run directories are numbered, locked and found again."""

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import pytest
from damage import damaged_copies
from runs import NO_STORE, tiny_config

from pgvae import files
from pgvae.config import RunConfig
from pgvae.errors import CorruptFileError, InputError, ResourceError
from pgvae.objectives import OBJECTIVES
from pgvae.request import Request
from pgvae.training.resume import Kept
from pgvae.training.rundir import RunDirectory, read_status


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


def test_the_next_number_is_one_above_the_highest_and_passes_a_reserved_one_over(tmp_path, config):
    for name in ("00007-old", "notes", "123-short", "00003-older", ".00008"):
        (tmp_path / name).mkdir()
    assert make(tmp_path, config).name.startswith("00009-")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_new_run_holds_its_config_and_request_and_then_how_it_stands(tmp_path, objective):
    config, asked = tiny_config(NO_STORE, objective), Request(dataset="tiny", init_from="a")
    run = RunDirectory.create(tmp_path, config, asked)
    assert read_status(run.path) == {"images_seen": 0}
    run.write_status("preempted", 75, 64, "stopped")
    run.close()
    assert RunConfig.from_dict(json.loads((run.path / "config.json").read_text())) == config
    kept = dataclasses.replace(asked, init_from=str(Path("a").absolute()))
    assert Request.read(run.path / "request.json") == kept
    status = {"status": "preempted", "exit_code": 75, "images_seen": 64, "message": "stopped"}
    assert json.loads((run.path / "status.json").read_text()) == status == read_status(run.path)


def test_a_file_in_place_of_the_output_directory_is_refused(tmp_path, config):
    (tmp_path / "file").write_text("mine")
    for outdir in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(InputError, match=r"cannot write to output directory .*--outdir"):
            RunDirectory.create(outdir, config)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InputError, match="cannot write to run directory"):
        RunDirectory(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_second_one_is_refused_and_after_close_what_is_half_written_goes(tmp_path, config):
    run = RunDirectory.create(tmp_path, config)
    (run.path / ".checkpoint-000000064.tmp").mkdir()
    halves = (".checkpoint-000000064.tmp/state.safetensors", ".snapshot-64.safetensors.tmp")
    for half in (*halves, ".tmpAb3xYz"):  # the last one is as safetensors calls them
        (run.path / half).write_bytes(b"half")
    with pytest.raises(InputError, match=f"in use by process {os.getpid()}"):
        RunDirectory(run.path)
    assert len(list(run.path.glob(".*tmp*"))) == 3
    run.close()
    RunDirectory(run.path).close()
    files = {".lock", "SHA256SUMS", "config.json", "request.json"}
    assert {p.name for p in run.path.iterdir()} == files


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


def test_a_number_that_another_process_has_just_taken_is_passed_over(tmp_path, config, monkeypatch):
    seen = iter([set(), {0}, {0}])
    monkeypatch.setattr(files, "_numbers", lambda _: next(seen))
    assert make(tmp_path, config).name.startswith("00001-")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_drive_without_locks_has_runs_too(number, tmp_path, config, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    run = RunDirectory.create(tmp_path, config)
    assert not run.is_guarded
    run.close()


def test_a_system_without_fcntl_has_runs_too(tmp_path, config, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    run = RunDirectory.create(tmp_path, config)
    assert not run.is_guarded
    run.close()


@pytest.mark.parametrize("name", ["config.json", "request.json"])
def test_a_plan_with_a_byte_flipped_or_cut_off_is_refused(name, tmp_path, config):
    """One byte at 100 offsets, and the file cut at 20 lengths."""
    path = make(tmp_path, config)
    whole, rng = (path / name).read_bytes(), random.Random(0)
    for damaged in damaged_copies(whole, rng):
        (path / name).write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=f"{name} is not as it was written"):
            Kept.read(path)
    (path / name).write_bytes(whole)
    assert Kept.read(path).config == config


def test_a_plan_that_was_changed_by_hand_is_taken_once_its_sums_are_gone(tmp_path, config):
    path = make(tmp_path, config)
    (path / "request.json").write_text('{"workers": 3}')
    with pytest.raises(CorruptFileError, match="remove SHA256SUMS"):
        Kept.read(path)
    (path / "SHA256SUMS").unlink()  # as of runs of before
    assert Kept.read(path).request.workers == 3


@pytest.mark.parametrize("written", range(5))
def test_a_plan_is_never_taken_for_a_damaged_one_because_a_process_died_between_its_files(
    written, tmp_path, config, monkeypatch
):
    path = make(tmp_path, config)
    run, write, calls = RunDirectory(path), RunDirectory._write, itertools.count()

    def dying(run: RunDirectory, name: str, text: str) -> None:
        if next(calls) == written:
            raise KeyboardInterrupt
        write(run, name, text)

    monkeypatch.setattr(RunDirectory, "_write", dying)
    with contextlib.suppress(KeyboardInterrupt):
        run.write_plan(dataclasses.replace(config, seed=7), Request(workers=7))
    kept = Kept.read(path)
    assert (kept.config.seed == 7, kept.request.workers == 7) == (written > 1, written > 2)
    (path / "config.json").write_text("{}")  # and there is no moment without sums
    with pytest.raises(CorruptFileError, match="SHA256SUMS"):
        Kept.read(path)
    run.close()


def test_a_full_disk_is_said_where_there_is_no_status_yet(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    (tmp_path / "status.json").unlink(missing_ok=True)

    def full(*_):
        raise ResourceError("disk full while writing")

    monkeypatch.setattr(run, "_write", full)
    with pytest.raises(ResourceError, match="disk full"):
        run.write_status("running", 0, 0)
    run.close()
