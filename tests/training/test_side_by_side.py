"""Several commands at work on the same folders: each waits, shares, or is refused in one line."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs import state_bytes

from pgvae.cli import main
from pgvae.training.checkpoint import checkpoints_in, is_whole
from pgvae.training.rundir import read_status

TINY = "--objective pioneer --latent-dim 8 --fmap-max 8 --batch 4 --resolution 8 --device cpu"
PRELOADED = ["pgvae.training.start", "pgvae.cli.data", "pgvae.report.page", "pgvae.interop.export"]


class Running:
    """A `pgvae` command in a process of its own."""

    def __init__(self, words: list[object], said: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._said = said
        self.process = context.Process(target=_command, args=([*map(str, words)], said))
        self.process.start()

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Wait for it; -> its code and what it said."""
        self.process.join(seconds)
        assert not self.process.is_alive(), self._said.read_text()
        return self.process.exitcode, self._said.read_text()


def _command(words: list[str], said: Path) -> None:
    handle = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(handle, stream.fileno())
    os.environ["PGVAE_CPU_TUNING"] = "0"
    main(words)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Running]]:
    """Start a command; those that still run when the test ends are killed."""
    running: list[Running] = []

    def begin(*words: object) -> Running:
        running.append(Running([*words], tmp_path / f"said-{len(running)}.txt"))
        return running[-1]

    yield begin
    for one in running:
        if one.process.is_alive():
            one.process.kill()
            one.process.join()


@pytest.fixture
def root(tmp_path, data_root) -> Path:
    """A data root with the set `tiny`, which may be changed."""
    shutil.copytree(data_root / "tiny", tmp_path / "data" / "tiny")
    return tmp_path / "data"


def training(root: Path, outdir: Path, *more: object) -> list[object]:
    """The words that train on `tiny`."""
    return ["train", "--dataset", "tiny", "--data-root", root, "--outdir", outdir, *TINY.split(),
            "--grow", *more]  # fmt: skip


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def newest_bytes(run: Path) -> dict[str, str]:
    return state_bytes(run, int(checkpoints_in(run)[0].name.split("-")[1]))


def refused(ended: tuple[int, str], words: str) -> None:
    """Code 2, and one line that says so."""
    code, said = ended
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2, said[-2000:]
    assert len(errors) == 1, errors
    assert words in errors[0]
    assert "Traceback" not in said


def begun(outdir: Path, one: Running) -> Path:
    """The run in `outdir`, once it has learned from an image."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for log in outdir.glob("0*/stats.jsonl"):
            if log.stat().st_size:
                return log.parent
        assert one.process.is_alive(), one.end()
        time.sleep(0.02)
    raise AssertionError("no run after two minutes")


SHORT = ("--kimg-per-stage", "0.064", "--total-kimg", "0.096")


def test_runs_in_one_folder_on_one_set_are_what_each_is_alone(start, root, tmp_path):
    assert start(*training(root, tmp_path / "alone", *SHORT)).end()[0] == 0
    together = [start(*training(root, tmp_path / "both", *SHORT)) for _ in range(2)]
    assert [one.end()[0] for one in together] == [0, 0]
    first, second = sorted((tmp_path / "both").iterdir())
    assert (first.name[:6], second.name[:6]) == ("00000-", "00001-")
    alone = newest_bytes(only(tmp_path / "alone"))
    assert newest_bytes(first) == newest_bytes(second) == alone


def test_a_run_that_is_resumed_twice_at_once_goes_on_once(start, root, tmp_path):
    words = training(root, tmp_path / "runs", "--kimg-per-stage", "0.064")
    assert start(*words, "--total-kimg", "0.048").end()[0] == 0
    run = only(tmp_path / "runs")
    shutil.copytree(run, tmp_path / "alone")
    goes_on = ("--total-kimg", "0.2")
    assert start("train", "--resume", tmp_path / "alone", *goes_on).end()[0] == 0
    both = [start("train", "--resume", run, *goes_on).end for _ in range(2)]
    ended = sorted(end() for end in both)
    assert ended[0][0] == 0, ended
    refused(ended[1], f"run directory {run} is in use by process ")
    assert newest_bytes(run) == newest_bytes(tmp_path / "alone")
    assert (run / "log.txt").read_text().count("done: ") == 2  # before it went on, and after


@contextlib.contextmanager
def standing_still(one: Running) -> Iterator[None]:
    """A command is stopped in the middle of its work meanwhile."""
    os.kill(one.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(one.process.pid, signal.SIGCONT)


def test_sets_are_prepared_while_a_run_reads_and_it_learns_what_it_would(
    start, root, pictures, tmp_path
):
    """Another set; the same one, which is refused; the same anew, of the same images."""
    long = ("--kimg-per-stage", "0.2", "--total-kimg", "0.4")
    assert start(*training(root, tmp_path / "alone", *long)).end()[0] == 0
    prepare = ("data", "prepare", pictures, "--data-root", root, "--val-fraction", 4 / 24)
    prepare += ("--workers", 0, "--name")
    one = start(*training(root, tmp_path / "runs", *long))
    begun(tmp_path / "runs", one)
    with standing_still(one):
        assert start(*prepare, "other").end()[0] == 0
        refused(start(*prepare, "tiny").end(), "exists: use --force to replace it")
        before = (root / "tiny" / "manifest.json").stat().st_ino
        assert start(*prepare, "tiny", "--force").end()[0] == 0
        assert (root / "tiny" / "manifest.json").stat().st_ino != before
    assert one.end()[0] == 0
    assert newest_bytes(only(tmp_path / "runs")) == newest_bytes(only(tmp_path / "alone"))


def test_a_set_that_becomes_another_under_a_run_is_not_mixed_with_it(
    start, root, many_pictures, tmp_path
):
    """What it has opened it reads to the end; it has not opened 8 px when it begins."""
    long = ("--kimg-per-stage", "0.2", "--resolution", 16)
    one = start(*training(root, tmp_path / "runs", *long))
    run = begun(tmp_path / "runs", one)
    with standing_still(one):
        other = start("data", "prepare", many_pictures, "--data-root", root, "--name", "tiny",
                      "--workers", 0, "--force")  # fmt: skip
        assert other.end()[0] == 0
    refused(one.end(), "tiny was replaced while it was in use: start again")
    assert read_status(run)["status"] == "failed"
    assert all(map(is_whole, checkpoints_in(run)))


@pytest.mark.slow
def test_whatever_reads_a_run_that_trains_reads_whole_files(start, root, tmp_path):
    """While files are written and deleted all the time; the run learns what it would."""
    long = ("--kimg-per-stage", "1.2", "--total-kimg", "2.4", "--snapshot-kimg")
    assert start(*training(root, tmp_path / "alone", *long, "1000")).end()[0] == 0
    one = start(*training(root, tmp_path / "runs", *long, "0.02", "--keep-snapshots", "2"))
    run = begun(tmp_path / "runs", one)
    data, out = ("--dataset", "tiny", "--data-root", root), tmp_path / "out"
    readers = [
        ("check", run),
        ("generate", "--snapshot", run, "--out", out / "samples", "samples", "--count", 2),
        ("evaluate", "--snapshot", run, *data, "--metrics", "psnr,rmse", "--count", 4),
        ("report", run, "--out", out / "report.html"),
        ("export", "--snapshot", run, "--format", "torch-export", "--part", "encoder", "--force",
         "--out", out / "encoder.pt2"),
    ]  # fmt: skip
    read = 0
    while one.process.is_alive():
        code, said = start(*readers[read % len(readers)]).end()
        assert code == 0, said
        read += 1
    assert one.end()[0] == 0
    print(f"{read} readings")
    assert read >= 10
    assert newest_bytes(run) == newest_bytes(only(tmp_path / "alone"))
