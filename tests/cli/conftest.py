"""Fixtures for `pgvae train`: a folder to work in, a finished run, a command that must fail."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import BASE, contents, train

from pgvae.cli import main


@pytest.fixture
def workplace(tmp_path, monkeypatch, data_root) -> Path:
    """A folder to work in, with the prepared set in it, and the allocator left alone."""
    shutil.copytree(data_root / "tiny", tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGVAE_CPU_TUNING", "0")
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, data_root) -> Path:
    """A finished run."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGVAE_CPU_TUNING", "0")
        assert train("--data-root", data_root, "--outdir", place) == 0
    [run] = place.iterdir()
    return run


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
