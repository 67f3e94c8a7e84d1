"""`pgvae train`, as a user meets it: a run from end to end, stopped, resumed, grown further."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from commands import BASE, SHORT, contents, train, train_alone

from pgvae.cli import main
from pgvae.files import sha256_of
from pgvae.inference import load
from pgvae.request import Request
from pgvae.training import engine
from pgvae.training.start import train as train_from_python

pytestmark = pytest.mark.usefixtures("workplace")


def test_a_dry_run_prints_the_plan_and_makes_nothing(workplace, capsys):
    before = contents(workplace)
    assert train("--dry-run") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = [line.split() for line in captured.out.splitlines()]
    assert [row[0] for row in rows[-2:]] == ["4", "8"]
    assert "0.096 kimg in 2 stages" in captured.out
    assert contents(workplace) == before


def test_a_run_from_end_to_end_leaves_what_it_promises(finished):
    assert finished.name == "00000-tiny-pioneer-8px"
    assert json.loads((finished / "status.json").read_text())["status"] == "done"
    assert (finished / "checkpoint-000000096").is_dir()
    model = load(finished / "snapshot-000000096.safetensors")
    assert (model.resolution, model.latent_dim) == (8, 8)
    assert (finished / "fakes-000000096.png").is_file()


def test_resuming_where_there_is_nothing_starts_a_run(workplace, capsys):
    assert train("--resume", "--total-kimg", "0.008") == 0
    assert "no run of these options in runs: starting a new one" in capsys.readouterr().out
    assert [p.name for p in (workplace / "runs").iterdir()] == ["00000-tiny-pioneer-8px"]


def test_resuming_goes_on_to_the_same_bytes(finished, workplace):
    assert train("--total-kimg", "0.040") == 0
    assert train("--resume", "--total-kimg", "0.096") == 0
    [run] = (workplace / "runs").iterdir()
    name = "checkpoint-000000096/state.safetensors"
    assert (run / name).read_bytes() == (finished / name).read_bytes()
    assert json.loads((run / "config.json").read_text())["schedule"]["total_kimg"] == 0.096


def test_a_run_that_is_named_needs_no_other_option(workplace, capsys):
    assert train("--total-kimg", "0.008") == 0
    [run] = (workplace / "runs").iterdir()
    assert train_alone("--resume", run, "--total-kimg", "0.016", "--lr", "0.01") == 0
    assert load(run).images_seen == 16
    said = capsys.readouterr().out
    assert "is of new runs" not in said
    for where, told in (("runs", False), ("elsewhere", True)):
        assert train_alone("--resume", run, "--outdir", where) == 0
        assert (f"--outdir {where} is of new runs" in capsys.readouterr().out) == told
    assert "going on with --lr 0.01 (before: the default)" in said
    assert "going on with --total-kimg 0.016 (before: 0.008)" in said
    log = (run / "log.txt").read_text()
    assert "done: 0.016 kimg" in log
    assert json.loads((run / "request.json").read_text())["lr"] == 0.01


def test_a_run_that_was_made_longer_is_not_cut_by_the_command_of_before(workplace, capsys):
    assert train("--total-kimg", "0.008") == 0
    assert train("--resume", "--total-kimg", "0.016") == 0
    [run] = (workplace / "runs").iterdir()
    before = contents(run)
    capsys.readouterr()
    assert train_alone(*BASE[: -len(SHORT)], "--kimg-per-stage", "0.064", "--resume") == 0
    assert "is done already, at 0.016 of 0.016 kimg: --total-kimg K" in capsys.readouterr().out
    assert contents(run) == before


def test_what_was_to_be_written_after_the_last_checkpoint_is_written_on_resume(workplace, capsys):
    """As where a kill, or a full disk, came between them."""
    assert train("--total-kimg", "0.016", "--metrics", "psnr", "--metric-kimg", "0.008") == 0
    [run] = (workplace / "runs").iterdir()
    whole = contents(run)
    lost = ["snapshot-000000016.safetensors", "fakes-000000016.png", "best.safetensors"]
    for name in lost:
        (run / name).unlink()
    lines = (run / "stats.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"metric/' not in line or '"images": 16' not in line]
    (run / "stats.jsonl").write_text("".join(kept))
    assert len(kept) == len(lines) - 1
    for status in ("running", "failed"):
        (run / "status.json").write_text(json.dumps({"status": status, "images_seen": 16}))
        assert train_alone("--resume", run) == 0
        assert "is done already" not in capsys.readouterr().out
        assert json.loads((run / "status.json").read_text())["status"] == "done"
        assert {name: whole[name] for name in lost} == {
            name: raw for name, raw in contents(run).items() if name in lost
        }
        measured = [
            line for line in (run / "stats.jsonl").read_text().splitlines() if "metric/" in line
        ]
        assert [json.loads(line)["images"] for line in measured] == [8, 16]
    assert train_alone("--resume", run) == 0
    assert "is done already" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["--outdir", "--data-root"])
def test_a_folder_that_is_no_utf8_is_refused_before_anything_is_done(where, refused, workplace):
    name = os.fsdecode(b"a-\xff")
    if where == "--data-root":
        shutil.copytree("data", name)
    assert "is no name in UTF-8" in refused(where, workplace / name)


def test_the_same_images_elsewhere_go_on(workplace, pictures, capsys):
    """In another folder, with other times and no prepared set: the digest is the same."""
    shutil.copytree(pictures, workplace / "a" / "photos")
    assert train("--dataset", "a/photos", "--total-kimg", "0.008") == 0
    shutil.move(workplace / "a" / "photos", workplace / "photos")
    shutil.rmtree(workplace / "data")
    for file in (workplace / "photos").iterdir():
        os.utime(file, (0, 0))
    [run] = (workplace / "runs").iterdir()
    moved = ("--dataset", "photos", "--total-kimg", "0.016")
    assert train(*moved, "--resume") == 0
    assert train_alone("--resume", run, "--dataset", "photos", "--total-kimg", "0.024") == 0
    assert load(run).images_seen == 24


def test_a_folder_that_has_grown_since_is_told_and_the_run_goes_on_with_what_it_had(
    workplace, pictures, refused
):
    shutil.copytree(pictures, workplace / "photos")
    assert train("--dataset", "photos", "--total-kimg", "0.008") == 0
    [run] = (workplace / "runs").iterdir()
    shutil.copy(workplace / "photos" / "picture-000.png", workplace / "photos" / "more.png")
    assert train("--dataset", "photos", "--total-kimg", "0.016", "--resume", "--dry-run") == 0
    before = len(list((workplace / "data").iterdir()))
    message = refused("--dataset", "photos", "--total-kimg", "0.016", "--resume")
    assert "photos have changed since" in message
    assert len(list((workplace / "data").iterdir())) == before
    shutil.rmtree(workplace / "photos")
    assert train_alone("--resume", run, "--total-kimg", "0.016") == 0
    assert load(run).images_seen == 16


def test_a_run_that_ends_before_it_has_grown_says_so_twice(workplace, capsys):
    assert train("--total-kimg", "0.008") == 0
    warning = "warning: 0.008 kimg end at 4 px: 8 px are never reached; use a smaller --kimg-per"
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(warning) for line in lines].count(True) == 2
    assert lines[-1].startswith(warning)


def test_runs_of_other_seeds_in_one_folder_each_go_on_with_their_own(workplace):
    """As jobs of one array do, that all pass --resume."""
    for total in ("0.008", "0.016"):
        for seed in ("0", "1"):
            assert train("--seed", seed, "--resume", "--total-kimg", total) == 0
    runs = sorted((workplace / "runs").iterdir())
    assert len(runs) == 2
    assert [load(run).images_seen for run in runs] == [16, 16]


def test_a_run_starts_from_a_run_a_snapshot_or_a_checkpoint(finished, workplace):
    """With the networks' options of those weights."""
    words = ["--dataset", "tiny", "--data-root", "data", "--device", "cpu", "--resolution", "8"]
    words += ["--batch", "4", "--total-kimg", "0.008", "--resume"]
    starts = [finished, finished / "snapshot-000000064.safetensors"]
    starts += sorted(finished.glob("checkpoint-*"))[:1]
    for count, start in enumerate(starts, start=1):
        assert train_alone(*words, "--init-from", start) == 0
        assert len(list((workplace / "runs").iterdir())) == count
    run = workplace / "runs" / "00000-tiny-pioneer-8px"
    assert load(run).latent_dim == 8


def test_a_run_that_started_from_a_run_goes_on_though_that_one_has_gone_on_too(finished, workplace):
    first = shutil.copytree(finished, workplace / "first")
    (first / "snapshot-000000096.safetensors").rename(workplace / "later.safetensors")
    words = ("--resume", "--init-from", "first", "--resolution", "16", "--total-kimg")
    assert train(*words, "0.008") == 0
    (workplace / "later.safetensors").rename(first / "snapshot-000000096.safetensors")
    assert train(*words, "0.016") == 0
    [run] = (workplace / "runs").iterdir()
    assert load(run).images_seen == 16


def test_weights_of_the_same_name_are_told_apart(finished, workplace):
    for folder, name in (("a", "000000064"), ("b", "000000096")):
        (workplace / folder).mkdir()
        shutil.copy(
            finished / f"snapshot-{name}.safetensors", workplace / folder / "best.safetensors"
        )
    tuned = ("--total-kimg", "0.008", "--resume", "--init-from")
    assert train(*tuned, "a/best.safetensors") == 0
    assert train(*tuned, "b/best.safetensors") == 0
    assert len(list((workplace / "runs").iterdir())) == 2
    shutil.rmtree(workplace / "a")  # not needed any more
    longer = ("--total-kimg", "0.016", "--resume", "--init-from", "a/best.safetensors")
    assert train(*longer) == 0
    runs = sorted((workplace / "runs").iterdir())
    assert [load(run).images_seen for run in runs] == [16, 8]


@pytest.mark.parametrize("full", [4, 8])  # at 4 px it fails before there is a checkpoint
def test_out_of_memory_is_told_in_a_line_and_a_smaller_batch_goes_on(
    full, workplace, capsys, monkeypatch
):
    enough = engine.train_step

    def full_at(state, objective, moment, batch, precision):
        if moment.resolution == full and state.images_seen and len(batch.images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return enough(state, objective, moment, batch, precision)

    monkeypatch.setattr(engine, "train_step", full_at)
    capsys.readouterr()
    assert train() == 4
    error = capsys.readouterr().err
    assert error.startswith(f"error: out of memory at {full} px with batch 4: go on with --resume")
    assert len(error.splitlines()) == 1
    assert train("--resume", "--batch", "2") == 0
    [run] = (workplace / "runs").iterdir()
    assert "--batch 2" in capsys.readouterr().out
    assert load(run).resolution == 8


def test_a_run_that_fails_before_its_first_checkpoint_begins_again_from_the_same_weights(
    finished, workplace, capsys, monkeypatch
):
    begun, enough = [], engine.train_step

    def full_once(state, *arguments):
        if state.images_seen == 0:
            weights = state.nets.generator.parameters()
            begun.append([weight.detach().clone() for weight in weights])
        if len(begun) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return enough(state, *arguments)

    monkeypatch.setattr(engine, "train_step", full_once)
    first, other = (finished / f"snapshot-0000000{name}.safetensors" for name in ("96", "64"))
    start = workplace / "start.safetensors"
    shutil.copy(first, start)
    assert train("--init-from", start, "--resolution", "16", "--total-kimg", "0.008") == 4
    [run] = (workplace / "runs").iterdir()
    shutil.copy(other, start)
    assert train_alone("--resume", run) == 2
    assert f"started from are no more in {start}: bring them back" in capsys.readouterr().err
    shutil.copy(first, start)
    assert train_alone("--resume", run) == 0
    assert all(map(torch.equal, *begun))


def test_a_run_can_be_started_and_gone_on_with_from_python(workplace, capsys):
    request = Request(
        dataset="tiny", data_root="data", resolution=8, latent_dim=8, fmap_max=8, batch=4,
        kimg_per_stage=0.064, total_kimg=0.008, device="cpu",
    )  # fmt: skip
    run = train_from_python(request)
    assert load(run).images_seen == 8
    assert train_from_python(Request(resume=run, total_kimg=0.016)) == run
    assert load(run).images_seen == 16
    assert Request.read(run / "request.json") == dataclasses.replace(
        request, total_kimg=0.016, data_root=str(workplace / "data")
    )


def test_another_run_gets_the_next_number(workplace):
    assert train("--total-kimg", "0.008") == 0
    assert train("--total-kimg", "0.008") == 0
    assert sorted(p.name[:5] for p in (workplace / "runs").iterdir()) == ["00000", "00001"]


def test_a_snapshot_can_be_grown_further(finished, workplace):
    snapshot = finished / "snapshot-000000096.safetensors"
    assert train("--init-from", snapshot, "--resolution", "16", "--total-kimg", "0.1") == 0
    [run] = (workplace / "runs").iterdir()
    config = json.loads((run / "config.json").read_text())
    assert config["init_from"] == sha256_of(snapshot)
    assert [stage["resolution"] for stage in config["schedule"]["stages"]] == [8, 16]
    [newest] = sorted(run.glob("snapshot-*"))[-1:]
    assert load(newest).resolution == 16


def test_a_folder_of_images_is_prepared_on_first_use(workplace, pictures, capsys):
    assert train("--dataset", pictures, "--total-kimg", "0.008") == 0
    assert "preparing" in capsys.readouterr().out
    assert train("--dataset", pictures, "--total-kimg", "0.008") == 0
    assert "preparing" not in capsys.readouterr().out
    assert len(list((workplace / "runs").iterdir())) == 2


def test_a_run_stopped_by_sigterm_goes_on_to_the_same_bytes(workplace, command_line):
    options = [*BASE, "--total-kimg", "0.3", "--kimg-per-stage", "0.2"]
    process = subprocess.Popen(
        command_line("train.py", *options, "--outdir", "stopped"),
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        try:
            for line in process.stdout:
                if "kimg  " in line:  # the first tick: training is on its way
                    break
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert time.monotonic() - started < 25
    assert process.returncode == 75, errors
    assert errors.startswith("stopped at ")
    assert len(errors.splitlines()) == 1
    [stopped] = (workplace / "stopped").iterdir()
    status = json.loads((stopped / "status.json").read_text())
    assert (status["status"], status["exit_code"]) == ("preempted", 75)
    assert 0 < status["images_seen"] < 300
    assert (stopped / f"checkpoint-{status['images_seen']:09d}").is_dir()
    assert load(stopped).images_seen == status["images_seen"]  # what generate.py takes
    assert (stopped / f"fakes-{status['images_seen']:09d}.png").is_file()
    assert train_alone("--resume", stopped) == 0
    again = ["--total-kimg", "0.3", "--kimg-per-stage", "0.2", "--outdir", "whole"]
    assert train(*again, "--resume") == 0
    [whole] = (workplace / "whole").iterdir()
    name = "checkpoint-000000300/state.safetensors"
    assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((stopped / "status.json").read_text())["status"] == "done"


def test_the_package_runs_the_same_command_as_the_script():
    words = [sys.executable, "-m", "pgvae", "train", "--batch", "2"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr.startswith("error: give --dataset NAME|PATH, or --resume RUN")


@pytest.mark.parametrize(("words", "verbs"), [([], ["train", "generate"]), (["data"], ["prepare"])])
def test_without_a_command_the_help_is_shown_line_by_line(words, verbs, capsys):
    with pytest.raises(SystemExit):
        main(words)
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).splitlines()
    assert lines[0].startswith("Usage: pgvae")
    assert all(any(line.split()[:1] == [verb] for line in lines) for verb in verbs)


def test_a_folder_large_enough_for_worker_processes_is_prepared_by_the_script(
    command, many_pictures
):
    result = command("train.py", "--dataset", many_pictures, "--dry-run")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("preparing ") == 1
    assert "G params" in result.stdout
