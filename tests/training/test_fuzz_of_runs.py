"""Seeded fuzz of run directories: only our own errors leave the library."""

import shutil
from pathlib import Path

import pytest
from damage import TIMES, fuzz

from pgvae.training.checkpoint import load_weights
from pgvae.training.resume import Kept


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "SHA256SUMS"])
def test_checkpoints(name, whole, tmp_path):
    path = Path(shutil.copytree(whole / "checkpoint-000000160", tmp_path / "checkpoint-1"))
    assert fuzz(path / name, lambda: load_weights(path)) == TIMES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "request.json"])
@pytest.mark.parametrize("sealed", [True, False])
def test_plans(sealed, name, whole, tmp_path):
    path = Path(shutil.copytree(whole, tmp_path / "run"))
    if not sealed:
        (path / "SHA256SUMS").unlink()
    refused = fuzz(path / name, lambda: Kept.read(path))
    assert refused == TIMES if sealed else refused > TIMES / 3
