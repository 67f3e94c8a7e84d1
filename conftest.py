"""What examples in docstrings may use: a small `model` and its `snapshot`, an empty `folder`."""

from pathlib import Path

import pytest
import torch

from pgvae.config import ModelConfig
from pgvae.inference import Model
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot


def example_snapshot() -> Snapshot:
    """8 px, 4 latent dimensions, random weights, with a classifier of glasses and of hats."""
    config = ModelConfig(resolution=8, latent_dim=4, fmap_max=4, head="gaussian", classes=2)
    nets, mean = build_nets(config, 8, seed=0), torch.zeros(3, 8, 8)
    names = ("glasses", "hat")
    return Snapshot(nets, config, 1.0, 60_000, {"name": "vac"}, names, "faces", mean)


@pytest.fixture(autouse=True)
def names(request: pytest.FixtureRequest, doctest_namespace: dict, tmp_path: Path) -> None:
    """Put them where the examples find them."""
    if isinstance(request.node, pytest.DoctestItem):
        snapshot = example_snapshot()
        doctest_namespace.update(model=Model(snapshot), snapshot=snapshot, folder=tmp_path)
