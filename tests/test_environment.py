"""Machines on which something is missing, small, or may not be written to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgvae.training.rundir import read_status

ROOT = Path(__file__).parents[1]
TINY = "--objective pioneer --latent-dim 8 --fmap-max 8 --batch 4 --resolution 8 --device cpu"

# Every command in a fork of one process; stops at the first that fails.
ALL_COMMANDS = """
import json, os, sys
from pgvae.cli import main
import pgvae.training.start, pgvae.cli.data
for words in json.loads(sys.argv[1]):
    if (child := os.fork()) == 0:
        main(words)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"{words} ended with {code}")
"""


def all_commands(pictures: Path, place: Path) -> list[list[str]]:
    """Words that prepare, train, go on, and use what was trained."""
    data = ["--data-root", place / "sets", "--dataset", "tiny"]
    out = place / "out"
    train = [*TINY.split(), "--grow", "--kimg-per-stage", "0.016", "--outdir", place / "runs"]
    run = place / "runs" / "00000-tiny-pioneer-8px"
    prepare = ["data", "prepare", pictures, "--name", "tiny", "--data-root", place / "sets"]
    lines = [
        [*prepare, "--resolution", 8, "--workers", 2],
        ["train", *data, *train, "--total-kimg", "0.008"],
        ["train", "--resume", run, "--total-kimg", "0.016"],
        ["generate", "--snapshot", run, "--out", out, "samples", "--count", 2],
        ["generate", "--snapshot", run, "--out", out, "reconstruct", pictures],
        ["evaluate", "--snapshot", run, *data, "--metrics", "psnr", "--count", 2],
        ["report", run, "--out", out / "report.html"],
        ["check", run, place / "sets" / "tiny"],
    ]
    return [[*map(str, line)] for line in lines]


def run_all(pictures: Path, place: Path, before: str, **variables: str) -> str:
    """All commands, in mounts of their own that the shell's words `before` make; -> what is said.

    variables: of the environment; "" takes one away.
    """
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            ["unshare", "--mount", "true"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounts of one's own are not allowed here")
    own = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    lines = json.dumps(all_commands(pictures, place))
    shell = ["unshare", "--mount", "sh", "-e", "-c", f'{before}\nexec "$@"', "sh"]
    done = subprocess.run(
        [*shell, sys.executable, "-c", ALL_COMMANDS, lines],
        env={name: value for name, value in own.items() if value},
        cwd="/",
        capture_output=True,
        timeout=600,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return said


@pytest.mark.slow
def test_all_goes_with_little_shared_memory_and_without_a_home(many_pictures, tmp_path):
    small = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    run_all(many_pictures, tmp_path / "place", small, HOME="", XDG_CACHE_HOME="")


@pytest.mark.slow
def test_all_goes_where_nothing_but_the_folders_that_are_named_may_be_written(
    many_pictures, tmp_path
):
    """And those have spaces and letters of three alphabets in their names, under LANG=C."""
    place = tmp_path / "Größe \u732b и ещё"
    pictures = Path(shutil.copytree(many_pictures, place / "my \u00fc pictures"))
    for file in [*pictures.iterdir()][:3]:
        file.rename(file.with_name(f"\u732b {file.name}"))
    (home := tmp_path / "home").mkdir()
    read_only = f"""
    mount -t tmpfs -o ro tmpfs /dev/shm
    mount -t tmpfs -o ro tmpfs {home}
    mount --bind {ROOT} {ROOT}
    mount -o remount,ro,bind {ROOT}
    ! touch {ROOT}/pgvae/probe {home}/probe /dev/shm/probe
    """
    run_all(pictures, place, read_only, HOME=str(home), LANG="C")
    (run,) = (place / "runs").iterdir()
    assert read_status(run)["status"] == "done"


FAR_AHEAD = "extern void torch_of_tomorrow(void); void begin(void) { torch_of_tomorrow(); }"


@pytest.mark.parametrize("library", ["of another torch", "noise"])
def test_a_library_that_cannot_be_used_is_said_once_and_plain_pytorch_taken(
    library, data_root, tmp_path
):
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "pgvae", copy / "pgvae", ignore=shutil.ignore_patterns("lib"))
    shutil.copy(ROOT / "train.py", copy)
    path = copy / "pgvae" / "ops" / "lib" / "libpgvae_cpu.so"
    path.parent.mkdir()
    (path.parent / "build.json").write_text('{"cpu": "", "torch": "1.0"}')
    if library == "noise":
        path.write_bytes(os.urandom(10_000))
    else:
        compiler = shutil.which("cc") or pytest.skip("no C compiler")
        line = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        subprocess.run(line, input=FAR_AHEAD, text=True, check=True)
    words = ["--dataset", "tiny", "--data-root", str(data_root), *TINY.split()]
    done = subprocess.run(
        [sys.executable, "train.py", *words, "--kimg-per-stage", "0.016", "--outdir", "runs"],
        env={**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("reference ops (libpgvae_cpu.so does not load: ") == 1
    assert said.count("does not load") == 1


def test_a_working_folder_that_is_gone_is_said(tmp_path):
    words = f"{sys.executable} -m pgvae train --dataset x"
    gone = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {words}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(["bash", "-c", gone], env=env, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr == "error: the working folder is gone: go to another one\n"
    assert found.stdout == ""
