"""What the tests of the commands share: a tiny run's options, and what is in a folder."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pgvae.cli import main

# 4 -> 8 px in 24 steps of 4 images: 32 at 4 px, 32 fading, 32 stable
TINY = "--objective pioneer --latent-dim 8 --fmap-max 8 --batch 4 --resolution 8 --device cpu"
SHORT = ["--kimg-per-stage", "0.064", "--total-kimg", "0.096"]
BASE = ["--dataset", "tiny", "--data-root", "data", *TINY.split(), *SHORT]


def train(*arguments: object) -> int:
    """Run the command in this process; -> its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([*BASE, *map(str, arguments)], command="train")
    return caught.value.code


def refusal(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    arguments: Sequence[object],
    code: int = 2,
    command: str | None = None,
) -> str:
    """What a command that must fail says: one line, the right code, and nothing touched."""
    before = contents(folder)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)], command=command)
    captured = capsys.readouterr()
    assert caught.value.code == code, captured.err
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in captured.out + captured.err
    assert contents(folder) == before
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of a folder, by path; but for locks."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b""
        for p in folder.rglob("*")
        if p.suffix != ".lock"
    }
