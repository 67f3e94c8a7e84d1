"""`pgvae train`, as a user meets it: a run from end to end, stopped, resumed, grown further."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from commands import BASE, contents, train

from pgvae.cli import main
from pgvae.inference import load

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
    assert "no run to resume in runs: starting a new one" in capsys.readouterr().out
    assert [p.name for p in (workplace / "runs").iterdir()] == ["00000-tiny-pioneer-8px"]


def test_resuming_goes_on_to_the_same_bytes(finished, workplace):
    assert train("--total-kimg", "0.040") == 0
    assert train("--resume") == 0
    [run] = (workplace / "runs").iterdir()
    name = "checkpoint-000000096/state.safetensors"
    assert (run / name).read_bytes() == (finished / name).read_bytes()
    assert json.loads((run / "config.json").read_text())["schedule"]["total_kimg"] == 0.096


def test_another_run_gets_the_next_number(workplace):
    assert train("--total-kimg", "0.008") == 0
    assert train("--total-kimg", "0.008") == 0
    assert sorted(p.name[:5] for p in (workplace / "runs").iterdir()) == ["00000", "00001"]


def test_a_snapshot_can_be_grown_further(finished, workplace):
    snapshot = finished / "snapshot-000000096.safetensors"
    assert train("--init-from", snapshot, "--resolution", "16", "--total-kimg", "0.1") == 0
    [run] = (workplace / "runs").iterdir()
    config = json.loads((run / "config.json").read_text())
    assert config["init_from"] == snapshot.name
    assert config["schedule"]["resolutions"] == [8, 16]
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
    for outdir in ("stopped", "whole"):
        again = ["--total-kimg", "0.3", "--kimg-per-stage", "0.2", "--outdir", outdir]
        assert train(*again, "--resume") == 0
    [whole] = (workplace / "whole").iterdir()
    name = "checkpoint-000000300/state.safetensors"
    assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((stopped / "status.json").read_text())["status"] == "done"


def test_the_package_runs_the_same_command_as_the_script():
    words = [sys.executable, "-m", "pgvae.cli", "train", "--batch", "2"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr == "error: Missing option '--dataset'.\n"


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
