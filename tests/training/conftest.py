"""A run that several files look at."""

from pathlib import Path

import pytest
from runs import CPU, tiny_config

from pgvae.data import Store
from pgvae.training.engine import train
from pgvae.training.rundir import RunDirectory


@pytest.fixture(scope="session")
def whole(tmp_path_factory, data_root) -> Path:
    """A finished run of forty steps in one go, made as the command makes it; to look at alone."""
    store = Store(data_root / "tiny")
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), tiny_config(store))
    train(tiny_config(store), store, run, CPU)
    run.close()
    store.close()
    return run.path
