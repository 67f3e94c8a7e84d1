"""`pgvae train`, as a user meets it: what it refuses, and a run from end to end."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pgvae.cli import main
from pgvae.inference import load
from pgvae.training.rundir import RunDirectory

# 4 -> 8 px in 24 steps of 4 images: 32 at 4 px, 32 fading, 32 stable
TINY = "--objective pioneer --latent-dim 8 --fmap-max 8 --batch 4 --resolution 8 --device cpu"
SHORT = ["--kimg-per-stage", "0.064", "--total-kimg", "0.096"]
BASE = ["--dataset", "tiny", "--data-root", "data", *TINY.split(), *SHORT]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch, data_root) -> Path:
    """A folder to work in, with the prepared set in it, and the allocator left alone."""
    shutil.copytree(data_root / "tiny", tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGVAE_CPU_TUNING", "0")
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_root) -> Path:
    """A finished run."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.raises(SystemExit) as caught:
        main([*BASE, "--data-root", str(data_root), "--outdir", str(place)], command="train")
    assert caught.value.code == 0
    [run] = place.iterdir()
    return run


def train(*arguments: object) -> int:
    """Run the command in this process; -> its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([*BASE, *map(str, arguments)], command="train")
    return caught.value.code


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b""
        for p in folder.rglob("*")
    }


@pytest.fixture
def refused(capsys, workplace) -> Callable[..., str]:
    """Run a command that must fail: one line, the right code, and nothing touched."""

    def run(*arguments: object, code: int = 2, alone: bool = False) -> str:
        before = contents(workplace)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([*([] if alone else BASE), *map(str, arguments)], command="train")
        captured = capsys.readouterr()
        assert caught.value.code == code, captured.err
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in captured.out + captured.err
        assert contents(workplace) == before
        return lines[0]

    return run


BAD_OPTIONS = [
    ("--objective pionear", ["'pionear'", "did you mean 'pioneer'?"]),
    ("--objective zzz", ["'zzz'", "pioneer", "vae"]),
    ("--resolution 100", ["100", "64 or 128"]),
    ("--resolution 2", ["2 is not a power of two", "4 to 1024"]),
    ("--resolution 2048", ["2048", "4 to 1024"]),
    ("--resolution 64", ["64 is above the data's 32", "use 32"]),
    ("--resolution abc", ["--resolution", "abc"]),
    ("--batch 0", ["--batch", "0 is not in the range x>=2"]),
    ("--batch 1", ["--batch", "1 is not in the range x>=2"]),
    ("--batch -3", ["--batch", "-3 is not in the range x>=2"]),
    ("--batch 2.5", ["--batch", "2.5"]),
    ("--lr nan", ["--lr", "'nan' is not a positive, finite number"]),
    ("--lr inf", ["--lr", "'inf' is not"]),
    ("--lr -1", ["--lr", "'-1' is not"]),
    ("--lr 0", ["--lr", "'0' is not"]),
    ("--lr abc", ["--lr", "abc"]),
    ("--total-kimg 0", ["--total-kimg", "positive"]),
    ("--total-kimg -1", ["--total-kimg", "positive"]),
    ("--total-kimg nan", ["--total-kimg", "positive"]),
    ("--kimg-per-stage 0", ["--kimg-per-stage", "positive"]),
    ("--kimg-per-stage inf", ["--kimg-per-stage", "positive"]),
    ("--snapshot-kimg 0", ["--snapshot-kimg", "positive"]),
    ("--ema-kimg x", ["--ema-kimg", "positive"]),
    ("--seed -1", ["--seed", "-1 is not in the range"]),
    ("--seed x", ["--seed", "x"]),
    ("--latent-dim 1", ["--latent-dim", "1 is not in the range"]),
    ("--fmap-max 0", ["--fmap-max", "0 is not in the range"]),
    ("--workers -1", ["--workers"]),
    ("--precision fp8", ["--precision", "fp8"]),
    ("--schedule fast", ["--schedule", "fast", "pggan"]),
    ("--device foo", ["unknown device 'foo'"]),
    ("--set lamda_x=1", ["'lamda_x'", "did you mean 'lambda_x'?"]),
    ("--set lambda_x=abc", ["lambda_x", "'abc' is not a number"]),
    ("--set lambda_x=-1", ["lambda_x is -1"]),
    ("--set lambda_x", ["NAME=VALUE"]),
    ("--objective vae --set rec=l3", ["rec is 'l3'", "mse"]),
    ("--objective vae --set beta_kl=nan", ["beta_kl is nan"]),
    ("--no-grow --start-resolution 4", ["--no-grow", "--start-resolution 4"]),
    ("--start-resolution 16", ["start resolution 16", "final resolution 8"]),
    ("--start-resolution 5", ["start resolution 5", "4 or 8"]),
    ("--bogus", ["--bogus"]),
    ("--init-from missing.safetensors", ["no such snapshot: missing.safetensors"]),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS, ids=[o for o, _ in BAD_OPTIONS])
def test_a_bad_option_is_refused_in_one_line(options, words, refused):
    message = refused(*options.split())
    for word in words:
        assert word in message


def test_without_a_data_set_there_is_nothing_to_train_on(refused):
    assert "--dataset" in refused(alone=True)


def test_an_unknown_data_set_is_refused_with_the_nearest(refused):
    message = refused("--dataset", "tinny")
    assert "no data set 'tinny'" in message
    assert "did you mean 'tiny'?" in message
    assert "pgvae data prepare" in message


def test_an_empty_folder_is_refused(refused, workplace):
    (workplace / "empty").mkdir()
    assert "holds no images" in refused("--dataset", "empty")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_here_is_refused(refused):
    assert "device cuda is not here" in refused("--device", "cuda")


@pytest.mark.parametrize("outdir", ["file", "file/runs"])
def test_an_output_directory_that_cannot_be_made_is_refused(outdir, refused, workplace):
    (workplace / "file").write_text("mine")
    message = refused("--outdir", outdir)
    assert "cannot write to output directory" in message
    assert "--outdir" in message


def test_a_run_that_is_in_use_is_refused_with_its_process(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    run = RunDirectory(path)
    message = refused("--resume")
    run.close()
    assert f"in use by process {os.getpid()}" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--seed 1", ["seed: 0 there, 1 here"]),
        ("--latent-dim 16", ["model.latent_dim: 8 there, 16 here"]),
        ("--mirror --lr 0.5", ["mirror: False there, True here", "schedule.learning_rates"]),
        ("--set lambda_z=5", ["objective.lambda_z: 1000.0 there, 5.0 here"]),
    ],
)
@pytest.mark.parametrize("itself", [True, False])
def test_resuming_with_other_options_names_them(
    options, words, itself, refused, finished, workplace
):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    message = refused("--resume", "--outdir", path if itself else "runs", *options.split())
    for word in (*words, finished.name):
        assert word in message


def test_resuming_on_other_data_is_refused(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "dataset_digest": "0" * 64}))
    assert "dataset_digest" in refused("--resume")


def test_resuming_from_damaged_checkpoints_alone_is_a_corrupt_file(refused, finished, workplace):
    path = shutil.copytree(finished, workplace / "runs" / finished.name)
    for state in path.glob("checkpoint-*/state.safetensors"):
        state.write_bytes(state.read_bytes()[:-1])
    assert "are damaged" in refused("--resume", code=3)


def test_starting_from_a_truncated_snapshot_is_refused(refused, finished, workplace):
    raw = (finished / "snapshot-000000096.safetensors").read_bytes()
    (workplace / "short.safetensors").write_bytes(raw[: len(raw) // 2])
    assert "truncated" in refused("--init-from", "short.safetensors", code=3)


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_starting_from_a_pickle_is_refused_and_nothing_is_executed(refused, workplace):
    (workplace / "model.pkl").write_bytes(pickle.dumps(Trap()))
    torch.save(Trap(), workplace / "model.pt")
    assert "is a pickle" in refused("--init-from", "model.pkl")
    assert "is a pickle" in refused("--init-from", "model.pt")
    assert not (workplace / "executed").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--latent-dim 16", ["latent_dim: 8 there, 16 here"]),
        ("--fmap-max 16", ["fmap_max: 8 there, 16 here"]),
        ("--objective vae", ["head: sphere there, gaussian here", "encoder_norm: spectral there"]),
        ("--start-resolution 4", ["snapshot at 8 px", "start at 4 px", "--start-resolution 8"]),
        ("--no-grow --resolution 16", ["snapshot at 8 px", "start at 16 px"]),
        ("--resolution 4", ["start resolution 8 is above the final resolution 4"]),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused_with_the_fields(options, words, refused, finished):
    snapshot = finished / "snapshot-000000096.safetensors"
    message = refused("--init-from", snapshot, *options.split())
    for word in words:
        assert word in message


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


@pytest.mark.parametrize(
    "options",
    ["--batch 1", "--lr nan", "--resolution 100", "--set lambda_x=-1", "--set a=1",
     "--outdir file", "--init-from missing.safetensors", "--device cuda"],
)  # fmt: skip
def test_a_folder_of_images_is_not_prepared_for_a_bad_option(options, pictures, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    words = [str(tmp_path / w) if w == "file" else w for w in options.split()]
    root = tmp_path / "datasets"
    with pytest.raises(SystemExit) as stop:
        main(["--dataset", str(pictures), "--data-root", str(root), *words], command="train")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not root.exists()


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
