"""What the tests of snapshots share: a small one, the two halves of a file, and a trap."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch

from pgvae.config import ModelConfig
from pgvae.nn import build_nets
from pgvae.prior import FittedPrior
from pgvae.snapshot import Snapshot, save_snapshot

PARTS = ("encoder", "generator", "ema", "ema_encoder")


def a_prior(dim: int = 8, components: int = 1, **changes) -> FittedPrior:
    """A prior of random means and factors, its weights in the ratio 1 : 2 : 3 ..."""
    rng = torch.Generator().manual_seed(components)
    weights = torch.arange(1.0, components + 1)
    factors = torch.randn(components, dim, dim, generator=rng).tril(-1)
    factors += torch.diag_embed(torch.rand(components, dim, generator=rng) + 0.5)
    return FittedPrior(
        "gaussian" if components == 1 else "mixture",
        weights / weights.sum(),
        3 * torch.randn(components, dim, generator=rng),
        factors,
        **changes,
    )


def make(alpha: float = 1.0, **changes) -> Snapshot:
    """A snapshot at 8 px of networks that grow to 16, its averages other networks."""
    config = ModelConfig(resolution=16, latent_dim=8, fmap_max=8, **changes)
    nets, other = (build_nets(config, 8, fading=alpha < 1, seed=seed) for seed in (3, 4))
    for average, followed in nets.averages().items():
        nets.parts()[average].load_state_dict(other.parts()[followed].state_dict())
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


def changed(path: Path, change: Callable[[dict, dict], object]) -> Path:
    """A snapshot after `change` of its table of tensors and of what our JSON says."""
    header, data = split(written(path))
    said = json.loads(header.pop("__metadata__")["pgvae"])
    change(header, said)
    return join(path, {"__metadata__": {"pgvae": json.dumps(said)}, **header}, data)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)
