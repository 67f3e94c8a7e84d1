"""Seeded fuzz: whatever is in a file, only our own errors leave the library."""

import string

import pytest
import torch
from damage import TIMES, fuzz
from hostile import picture
from snapshots import written

from pgvae.data import load_images
from pgvae.data.labels import from_csv
from pgvae.request import Request
from pgvae.snapshot import load_snapshot


@pytest.mark.slow
def test_snapshots(tmp_path):
    file = written(tmp_path / "s.safetensors")
    sound = load_snapshot(file).nets.ema.state_dict()

    def read() -> None:  # refused, or what was written
        again = load_snapshot(file).nets.ema.state_dict()
        assert all(torch.equal(again[name], value) for name, value in sound.items())

    assert fuzz(file, read) >= 0.99 * TIMES


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
