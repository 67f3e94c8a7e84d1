"""Seeded fuzz: whatever is in a file, only our own errors leave the library."""

import string

import pytest
import torch
from damage import fuzz
from hostile import picture
from snapshots import written

from pgvae.data import load_images
from pgvae.data.labels import from_csv
from pgvae.request import Request
from pgvae.snapshot import Snapshot, load_snapshot


@pytest.mark.slow
def test_snapshots(tmp_path):
    file = written(tmp_path / "s.safetensors")
    sound = tensors_of(load_snapshot(file))

    def read() -> None:  # refused, or all that was written
        again = tensors_of(load_snapshot(file))
        assert again.keys() == sound.keys()
        assert all(torch.equal(again[name], value) for name, value in sound.items())

    assert fuzz(file, read) > 0


def tensors_of(snapshot: Snapshot) -> dict[str, torch.Tensor]:
    found = {"mean_image": snapshot.mean_image}
    for part, net in snapshot.nets.parts().items():
        found |= {f"{part}/{name}": value for name, value in net.state_dict().items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_images(kind, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(picture(kind, 24))
    fuzz(file, lambda: load_images([file], 8))


@pytest.mark.slow
def test_tables_of_labels(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(
        "name,glasses,age\n" + "".join(f"{c}.png,1,0.5\n" for c in string.ascii_letters)
    )
    names = [f"{c}.png" for c in string.ascii_letters]
    fuzz(file, lambda: from_csv(file.read_text("utf-8", "replace"), names))


@pytest.mark.slow
def test_requests(tmp_path):
    file = tmp_path / "request.json"
    file.write_text(Request(dataset="a", seed=3, lr=0.5, metrics=("swd",)).to_json())
    fuzz(file, lambda: Request.read(file))
