"""Processes that share a run: they learn what one learns, and end together."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from group import ROOT, finish, learned_together, start
from runs import state_bytes
from test_parts import CPU, PHASES

from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES
from pgvae.training.checkpoint import checkpoints_in, is_whole
from pgvae.training.ranks import joined, local_device


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> list[dict]:
    """What each of two processes learned, of every objective."""
    folder = tmp_path_factory.mktemp("ranks")
    finish(start(2, ["tests/training/group.py", str(folder)]))
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize(("name", "phase"), PHASES)
@pytest.mark.parametrize("size", [1, 2])
def test_two_processes_learn_what_one_does_in_float64(name, phase, size, learned) -> None:
    losses, expected = learned_together(name, phase, 4)
    # The pool is float32.
    bound = 1e-6 if OBJECTIVES[name].pool and phase == "encoder" else 1e-12
    tight = {"rtol": bound, "atol": bound}
    for found, gradients in (of[name, phase, size] for of in learned):
        for key, value in losses.items():
            torch.testing.assert_close(found[key], value, **tight, msg=key)
        assert len(gradients) == len(expected) > 0
        for one, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(one, other, **tight)


def test_what_is_not_finite_on_one_process_is_so_on_all(learned) -> None:
    for found in learned:
        assert found["bad"].isnan().tolist() == [True, False]
        assert found["bad"][1] == 4.0


def test_processes_decide_together_and_listen_to_the_first(learned) -> None:
    for found in learned:
        assert found["any"] == (True, False, True)
        assert found["told"] == "by 0"


def test_who_waits_hears_that_another_one_failed(learned) -> None:
    assert learned[1]["waits"].startswith("another process of the run is gone")


LOOKS_LATE = """
import os, time, torch
from pgvae.training.ranks import joined
sleep, first = time.sleep, os.environ["RANK"] == "0"
time.sleep = lambda seconds: sleep(2)
with joined(torch.device("cpu")) as ranks:
    sleep(0.5 if first else 0)
    ranks.meet()
"""


def test_the_first_does_not_end_before_the_others_have_met_it() -> None:
    finish(start(2, ["-c", LOOKS_LATE]))


def test_torchruns_variables_are_wanted_whole(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE is set, but RANK is not"), joined(CPU):
        pass
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE is set, but MASTER_ADDR is not"), joined(CPU):
        pass
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1234")
    for name in ("MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "-x")
        with pytest.raises(InputError, match=f"{name} is '-x', no whole number"), joined(CPU):
            pass


def test_each_process_has_the_gpu_of_its_place_whatever_was_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_device(torch.device("cuda:1")) == torch.device("cuda:1")  # on its own
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_device(CPU) == CPU
    assert local_device(torch.device("cuda:0")) == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="process 3 of this machine has no GPU of its own: there"):
        local_device(torch.device("cuda"))


# --- runs


@pytest.fixture
def words(data_root: Path, tmp_path: Path) -> list[str]:
    return [
        *("train.py", "--dataset", "tiny", "--data-root", str(data_root), "--device", "cpu"),
        *("--outdir", str(tmp_path / "runs"), "--resolution", "8", "--batch", "4"),
        *("--fmap-max", "8", "--latent-dim", "8", "--kimg-per-stage", "0.032"),
    ]


def the_run(tmp_path: Path) -> Path:
    (run,) = (tmp_path / "runs").iterdir()
    return run


def losses_of(run: Path) -> dict[int, dict]:
    """The last record of each image count that has an encoder's losses."""
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return {row["images"]: row for row in rows if "encoder/kl_real" in row}


@pytest.mark.parametrize(
    "objective", ["pioneer", pytest.param("soft_introvae", marks=pytest.mark.slow)]
)
def test_a_run_goes_on_with_another_number_of_processes(words, objective, tmp_path) -> None:
    words += ["--objective", objective, "--seed", "5", "--lr", "1e-6", "--grow"]
    finish(start(2, [*words, "--total-kimg", "0.048"]))
    run = the_run(tmp_path)
    finish(start(1, ["train.py", "--resume", str(run), "--total-kimg", "0.064"]))
    said = finish(start(2, ["train.py", "--resume", str(run), "--total-kimg", "0.08"]))
    assert "2 processes" in said[0]
    assert said[1] == ""  # one speaks
    together = losses_of(run)
    alone_words = [str(tmp_path / "alone") if w == str(tmp_path / "runs") else w for w in words]
    finish(start(1, [*alone_words, "--total-kimg", "0.08"]))
    (alone,) = (losses_of(path) for path in (tmp_path / "alone").iterdir())
    for images in (48, 64, 80):  # at so small a rate rounding does not grow
        for key, value in alone[images].items():
            if "/" in key:
                assert together[images][key] == pytest.approx(value, rel=1e-4, abs=1e-5), key


@pytest.mark.slow
def test_two_processes_go_on_to_the_same_bytes(words, tmp_path) -> None:
    words += ["--grow", "--seed", "5"]
    finish(start(2, [*words, "--total-kimg", "0.064"]))
    other = [str(tmp_path / "parts") if w == str(tmp_path / "runs") else w for w in words]
    finish(start(2, [*other, "--total-kimg", "0.04"]))
    (parts,) = (tmp_path / "parts").iterdir()
    finish(start(2, ["train.py", "--resume", str(parts), "--total-kimg", "0.064"]))
    assert state_bytes(parts, 64) == state_bytes(the_run(tmp_path), 64)


ONE_READS_LESS = """
import os, runpy, sys
from pgvae.training import checkpoint
whole = checkpoint.is_whole
hidden = os.environ["RANK"] == "1" and "checkpoint-000000032"
checkpoint.is_whole = lambda path: path.name != hidden and whole(path)
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path("train.py", run_name="__main__")
"""


def test_processes_that_read_different_checkpoints_do_not_learn(words, tmp_path) -> None:
    finish(start(1, [*words, "--total-kimg", "0.016"]))
    finish(start(1, [*words, "--total-kimg", "0.032", "--resume"]))
    run = the_run(tmp_path)
    assert len(checkpoints_in(run)) == 2
    goes_on = ["-c", ONE_READS_LESS, "--resume", str(run), "--total-kimg", "0.064"]
    processes = start(2, goes_on)
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [4, 4], said
    assert "processes read different checkpoints, this one" in said[1]
    assert not (run / "checkpoint-000000064").exists()


def test_a_batch_that_cannot_be_shared_is_refused(words, tmp_path) -> None:
    processes = start(3, [*words, "--total-kimg", "0.064"])
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2, 2]
    assert "error: the batch of 4 at 4 px is not a multiple of the 3 processes" in said[0]
    assert said[1:] == ["", ""]
    assert not (tmp_path / "runs").exists()


ENDLESS = ("--kimg-per-stage", "1000", "--snapshot-kimg", "0.1")


@pytest.mark.parametrize("timeout", ["soon", "0", "nan", "1e99"])
def test_a_timeout_that_is_no_time_is_refused(timeout, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("PGVAE_TIMEOUT", timeout)
    with (
        pytest.raises(InputError, match=f"PGVAE_TIMEOUT is '{timeout}': use a number of seconds"),
        joined(CPU),
    ):
        pass


def begun(processes: list[subprocess.Popen], tmp_path: Path) -> Path:
    """The run, once it has a checkpoint."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = list((tmp_path / "runs").glob("0*/checkpoint-*"))
        if found:
            return found[0].parent
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    raise AssertionError("no checkpoint after two minutes")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "victim", "code"),
    [(signal.SIGKILL, 1, 4), (signal.SIGKILL, 0, 4), (signal.SIGSTOP, 1, 4)],
    ids=["the second is killed", "the first is killed", "the second stands still"],
)
def test_when_one_process_is_gone_all_end_and_nothing_is_lost(
    number, victim, code, words, tmp_path
) -> None:
    processes = start(2, [*words, *ENDLESS], PGVAE_TIMEOUT="8")
    try:
        run = begun(processes, tmp_path)
        processes[victim].send_signal(number)
        said, _ = processes[1 - victim].communicate(timeout=30)
        assert processes[1 - victim].returncode == code
        assert "error: another process of the run is gone or does not answer" in said
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert all(is_whole(path) for path in checkpoints_in(run))
    images = int(checkpoints_in(run)[0].name.split("-")[1])
    more = ["train.py", "--resume", str(run), "--total-kimg", str((images + 8) / 1000)]
    finish(start(1, more))


def test_one_signal_stops_all_with_their_state_saved(words, tmp_path) -> None:
    processes = start(2, [*words, *ENDLESS])
    run = begun(processes, tmp_path)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [75, 75]
    assert "stopped at" in said[0]
    assert "saved" in said[0]
    assert json.loads((run / "status.json").read_text())["status"] == "preempted"
    assert is_whole(checkpoints_in(run)[0])


@pytest.mark.slow
def test_torchrun_starts_them_and_hands_a_signal_on(words, tmp_path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with subprocess.Popen(
        [sys.executable, *torchrun, *words, *ENDLESS], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as agent:
        run = begun([agent], tmp_path)
        agent.send_signal(signal.SIGTERM)
        agent.wait(timeout=60)
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["exit_code"]) == ("preempted", 75)
    newest = checkpoints_in(run)[0]
    assert is_whole(newest)
    assert int(newest.name.split("-")[1]) == status["images_seen"]
