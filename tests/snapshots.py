"""What the tests of snapshots share: a small one, and the two halves of a file."""

import json
import struct
from pathlib import Path

import torch

from pgvae.config import ModelConfig
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot, save_snapshot

PARTS = ("encoder", "generator", "ema")


def make(alpha: float = 1.0, **changes) -> Snapshot:
    """A snapshot at 8 px of networks that grow to 16."""
    config = ModelConfig(resolution=16, latent_dim=8, fmap_max=8, **changes)
    nets = build_nets(config, 8, fading=alpha < 1, seed=3)
    rng = torch.Generator().manual_seed(0)
    return Snapshot(
        nets=nets,
        config=config,
        alpha=alpha,
        images_seen=12_345,
        objective={"name": "pioneer", "lambda_x": 10.0},
        attributes=("glasses", "Bärte"),
        dataset="faces",
        mean_image=torch.rand(config.channels, 8, 8, generator=rng) * 2 - 1,
    )


def written(path: Path, alpha: float = 1.0) -> Path:
    save_snapshot(path, make(alpha))
    return path


def split(path: Path) -> tuple[dict, bytes]:
    """A file's header and its data."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(path: Path, header: object, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path
