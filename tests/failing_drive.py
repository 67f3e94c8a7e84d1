"""Commands on a drive that fails at a call of one's choice; see failing_drive.c.

As a script (`LD_PRELOAD=... python failing_drive.py`): reads a line of JSON for each command, and
runs it in a fork, which costs a twentieth of a new process.
"""

import ctypes
import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
ROOT = Path(__file__).parents[1]
MODULES = ("torch", "torch.export", "pgvae.training.start", "pgvae.training.board")
MODULES += ("pgvae.report.page", "pgvae.interop.export", "pgvae.cli.data", "pgvae.cli.sets")


@dataclass(frozen=True)
class Ended:
    """How a command ended. calls: that changed files. first: the call that failed, and where."""

    code: int
    said: str
    calls: int
    first: str


class FailingDrive:
    """Runs `pgvae` commands, in which calls on files under `folder` fail."""

    def __init__(self, folder: Path, beside: Path) -> None:
        """beside: a folder for what this needs itself."""
        compiler = shutil.which("cc") or pytest.skip("no C compiler to make a failing drive with")
        self._folder, self._said = folder, beside / "said.txt"
        library = beside / "drive.so"
        line = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        built = subprocess.run(line, capture_output=True, text=True, check=False)
        if built.returncode:
            pytest.skip(f"no failing drive on this system: {built.stderr.splitlines()[:1]}")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
            | {"PYTHONPATH": str(ROOT), "PGVAE_CPU_TUNING": "0"},
            cwd=beside,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: list[str], at: int = 0, number: int = 0, lasting: bool = False) -> Ended:
        """`pgvae WORDS`; the call of number `at` fails with an errno, or all from there on."""
        ask = {"words": [*map(str, words)], "at": at, "number": number, "lasting": lasting}
        ask |= {"folder": str(self._folder), "said": str(self._said)}
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _command(ask: dict) -> int:
    """Run it in this process; -> its code."""
    from pgvae.cli import main

    drive = ctypes.CDLL(None)
    drive.drive_fails(ask["folder"].encode(), ask["at"], ask["number"], int(ask["lasting"]))
    code = 1
    try:
        main(ask["words"])
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    gc.collect()  # what is only now found to be unwritten says so here
    return code


def _answer(ask: dict) -> dict:
    """Run a command in a fork."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        said = os.open(ask["said"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = _command(ask)
        drive = ctypes.CDLL(None)
        drive.drive_first.restype = ctypes.c_char_p
        how = {"code": code, "calls": drive.drive_count(), "first": drive.drive_first().decode()}
        os.write(writes, json.dumps(how).encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    how = json.loads(said) if said else {"code": -status, "calls": 0, "first": ""}
    return {**how, "said": Path(ask["said"]).read_text(errors="replace")}


def _serve() -> None:
    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
