"""A terminal or a pipe that goes away while a command runs."""

import contextlib
import io
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgvae import terminal
from pgvae.terminal import say
from pgvae.training.checkpoint import checkpoints_in
from pgvae.training.log import RunLog
from pgvae.training.rundir import read_status

ROOT = Path(__file__).parents[1]
SPEAKS = (
    "import sys\n"
    "from pgvae.terminal import outlived\n"
    "sys.stdin.read()\n"
    "for _ in range(3):\n"
    "    with outlived():\n"
    "        print('lost', flush=True)\n"
    "print('lost too')\n"
    "sys.exit(75)\n"
)


def test_what_is_said_to_nobody_is_lost_and_the_exit_code_is_not():
    process = subprocess.Popen(
        [sys.executable, "-c", SPEAKS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.close()
    process.stdin.close()
    assert process.wait(60) == 75


def test_what_a_terminal_cannot_show_is_said_by_its_code_and_the_rest_as_it_is(
    tmp_path, monkeypatch
):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("a \u00fc")
    with contextlib.closing(RunLog(tmp_path, 0, 1, "none")) as log:
        log.say("b \u00fc")
        log.say("c")
    assert raw.getvalue() == b"a \\xfc\nb \\xfc\nc\n"


def test_a_command_names_what_a_terminal_cannot_show_by_its_code(tmp_path):
    (tmp_path / "datasets" / "\u732b").mkdir(parents=True)
    (tmp_path / "datasets" / "\u732b" / "manifest.json").touch()
    process = subprocess.run(
        [sys.executable, "-m", "pgvae", "data", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(b"\\u732b ")


FILLS = (
    "import os\n"
    "from pgvae.terminal import fill_in\n"
    "fill_in()\n"
    "import sys\n"
    "file = open(sys.argv[1], 'w')\n"
    "assert file.fileno() > 2\n"
    "print('nowhere', flush=True)\n"
    "print('nowhere', file=sys.stderr, flush=True)\n"
    "os.system('echo nowhere; echo nowhere >&2')\n"
)


def test_where_standard_streams_are_closed_nothing_is_printed_into_files(tmp_path):
    file = tmp_path / "a.bin"
    command = f"exec {sys.executable} -c {shlex.quote(FILLS)} {file} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=ROOT, timeout=60, check=False).returncode == 0
    assert file.read_bytes() == b""


@pytest.mark.parametrize(("words", "code"), [("list", 0), ("info no", 2)])
def test_a_command_ends_with_its_own_code_where_nobody_reads_what_it_says(words, code, data_root):
    process = subprocess.Popen(
        [sys.executable, "-m", "pgvae", "data", *words.split(), "--data-root", data_root],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    process.stderr.close()
    assert process.wait(60) == code


@pytest.mark.parametrize("buffered", [True, False])
def test_an_output_that_is_full_is_named(data_root, buffered):
    words = f"-m pgvae data list --data-root {data_root}"
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} {words} >/dev/full"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: stdout: No space left on device; see to the drive")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [">&- 2>&-", ">/dev/full 2>/dev/full", "2>&- | true"])
def test_a_run_needs_nobody_to_talk_to(closed, data_root, tmp_path):
    words = f"--dataset tiny --data-root {data_root} --device cpu --outdir {tmp_path} --fmap-max 8"
    words += " --resolution 4 --batch 4 --latent-dim 8 --kimg-per-stage 0.04"
    command = f"{sys.executable} train.py {words} {closed}"
    subprocess.run(["sh", "-c", command], cwd=ROOT, timeout=120, check=False)
    (run,) = tmp_path.iterdir()
    assert read_status(run)["status"] == "done"


@pytest.mark.parametrize(("kind", "number"), [("terminal", signal.SIGHUP), ("pipe", signal.SIGINT)])
def test_a_run_is_saved_though_its_terminal_is_gone(kind, number, data_root, tmp_path):
    ours, theirs = pty.openpty() if kind == "terminal" else os.pipe()
    words = ["--dataset", "tiny", "--data-root", str(data_root), "--device", "cpu"]
    words += ["--outdir", str(tmp_path), "--resolution", "8", "--batch", "4", "--fmap-max", "8"]
    words += ["--latent-dim", "8", "--kimg-per-stage", "20", "--snapshot-kimg", "1000"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGHUP, number)],
    )
    try:
        os.close(theirs)
        end = time.monotonic() + 120
        said = b""
        while b"kimg  " not in said and time.monotonic() < end:  # it trains
            said += os.read(ours, 65536)
        os.close(ours)
        process.send_signal(number)
        assert process.wait(60) == 75
    finally:
        process.kill()
        process.wait()
    (run,) = tmp_path.iterdir()
    status = read_status(run)
    assert status["status"] == "preempted"
    assert checkpoints_in(run)[0].name == f"checkpoint-{status['images_seen']:09d}"


SWALLOWS = """
import contextlib, os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            with contextlib.suppress(KeyboardInterrupt):  # as PyTorch's start does
                os.kill(os.getpid(), signal.SIGINT)
                [None for _ in range(1000)]

sys.meta_path.insert(0, Finder())
from pgvae.cli import main

main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pgvae.inference.model", "generate --snapshot s.safetensors samples"),
        ("pgvae.training.start", "train --dataset photos --dry-run"),
    ],
)
def test_an_interrupt_that_an_import_swallows_ends_the_command_all_the_same(
    module, words, tmp_path
):
    (tmp_path / "s.safetensors").touch()
    process = subprocess.run(
        [sys.executable, "-c", SWALLOWS, module, *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stderr.strip()) == (130, "error: stopped")


def test_an_interrupt_of_an_earlier_command_does_not_end_the_next(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(terminal, "_interrupted", True)
    with pytest.raises(KeyboardInterrupt):
        terminal.check_interrupts()
    try:
        terminal.remember_interrupts()
    finally:
        signal.signal(signal.SIGINT, before)
    terminal.check_interrupts()
