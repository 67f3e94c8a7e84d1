"""Fixtures: a run of two snapshots with random weights, what explores it, and its page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from client import Client

from pgvae.config import ModelConfig
from pgvae.data import Store
from pgvae.explore import Explorer, make_app
from pgvae.inference import fit_gaussian, load
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot, save_snapshot


def snapshot_at(seen: int, resolution: int, head: str = "gaussian", classes: int = 2) -> Snapshot:
    """A snapshot with random weights, which knows glasses and hat unless `classes` is 0."""
    config = ModelConfig(resolution=16, latent_dim=16, fmap_max=8, head=head, classes=classes)
    nets, mean = build_nets(config, resolution, seed=5), torch.zeros(3, resolution, resolution)
    names = ("glasses", "hat") if classes else ()
    noise = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    prior = fit_gaussian(noise / 2 + 0.2) if head == "gaussian" else None
    return Snapshot(nets, config, 1.0, seen, {"name": "vac"}, names, "faces", mean, prior)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A run directory: 8 px after 1,000 images, 16 px after 2,000."""
    run = tmp_path_factory.mktemp("explored") / "00000-faces-vac-16px"
    run.mkdir()
    for seen, resolution in ((1000, 8), (2000, 16)):
        save_snapshot(run / f"snapshot-{seen:09d}.safetensors", snapshot_at(seen, resolution))
    return run


@pytest.fixture(scope="session")
def explorer(run, faces) -> Explorer:
    return Explorer(load(run), run, Store(faces))


@pytest.fixture
def client(explorer) -> Iterator[Client]:
    with Client(make_app(explorer, seconds=0.3)) as client:
        yield client


@pytest.fixture
def png(pictures) -> bytes:
    """The bytes of a picture of 32 px."""
    return (pictures / "picture-003.png").read_bytes()
