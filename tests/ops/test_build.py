"""The build of the native ops: what is missing is said, and stops nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pgvae.ops import native

ROOT = Path(__file__).parents[2]


def install_into(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """csrc/build.py's `install`, in a process with another environment."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import build; from pathlib import Path;"
        "build.install(Path(sys.argv[2]))"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("CXX", "CUDA_HOME")}
    return subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "csrc"), str(folder)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_the_install_goes_on_and_says_so(tmp_path) -> None:
    done = install_into(tmp_path / "lib", PATH=str(tmp_path), PGVAE_CUDA="0")
    assert done.returncode == 0
    assert "no C++ compiler found: install g++, or set CXX" in done.stderr
    notes = json.loads((tmp_path / "lib" / "build.json").read_text())
    assert notes == {
        "cpu": "no C++ compiler found: install g++, or set CXX",
        "cuda": "left out: PGVAE_CUDA=0",
    }


def test_a_compiler_that_fails_stops_nothing_and_its_words_are_shown(tmp_path) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho no memory left >&2\nexit 1\n")
    compiler.chmod(0o755)
    copy = tmp_path / "tree" / "csrc"  # a build folder of its own
    shutil.copytree(ROOT / "csrc", copy)
    code = "import build; from pathlib import Path; build.install(Path('lib'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "CXX": str(compiler), "PGVAE_CUDA": "0", "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "no memory left" in done.stderr
    notes = json.loads((tmp_path / "lib" / "build.json").read_text())
    assert notes["cpu"].startswith("compiling failed")


def test_insisting_on_cuda_where_it_cannot_be_built_fails_in_one_line(tmp_path) -> None:
    done = install_into(tmp_path / "lib", PATH=str(tmp_path), PGVAE_CUDA="1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("PGVAE_CUDA=1, but no C++ compiler found")


def test_status_repeats_the_notes_of_the_build(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    assert "run `pip install -e .`" in native._load("cpu")
    (tmp_path / "build.json").write_text('{"cpu": "no compiler on Sundays"}')
    assert native._load("cpu") == "no compiler on Sundays"


def test_a_library_that_does_not_load_or_a_torch_too_old_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    (tmp_path / "libpgvae_cpu.so").write_bytes(b"not a library")
    assert native._load("cpu").startswith("libpgvae_cpu.so does not load")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    assert native._load("cpu") == "torch 2.9.1+cpu is older than 2.10"


@pytest.mark.native
@pytest.mark.parametrize("library", sorted(native.FOLDER.glob("*.so")), ids=lambda p: p.name)
def test_a_library_needs_neither_python_nor_a_cuda_runtime(library) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    words = subprocess.run(
        ["readelf", "-dW", library], capture_output=True, text=True, check=True
    ).stdout
    needed = [
        line.rpartition("[")[2].rstrip("]") for line in words.splitlines() if "NEEDED" in line
    ]
    assert "libtorch_cpu.so" in needed
    assert not [name for name in needed if "python" in name or "cuda" in name]
    assert str(ROOT) not in library.read_bytes().decode("latin-1")
