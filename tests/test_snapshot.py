"""Snapshots come back as they were; a file that is cut, a pickle or of the future is refused."""

import dataclasses
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from snapshots import PARTS, join, make, split, written

import pgvae
from pgvae.errors import CorruptFileError, InputError, PgvaeError
from pgvae.inference import Model
from pgvae.snapshot import Snapshot, load_snapshot, save_snapshot


@pytest.mark.parametrize("alpha", [1.0, 0.25])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": "gaussian", "encoder_norm": "equalized", "output": "tanh"},
        {"channels": 1},
        {"generator_norm": "spectral"},
        {"arch": "residual", "encoder_norm": "none", "generator_norm": "none", "classes": 2},
        {"arch": "residual", "encoder_norm": "batch", "generator_norm": "batch"},
    ],
    ids=str,
)
def test_everything_comes_back(alpha, changes, tmp_path):
    snapshot = make(alpha, **changes)
    save_snapshot(tmp_path / "s.safetensors", snapshot)
    again = load_snapshot(tmp_path / "s.safetensors")
    for field in dataclasses.fields(Snapshot):
        if field.name not in ("nets", "mean_image"):
            assert getattr(again, field.name) == getattr(snapshot, field.name), field.name
    assert torch.equal(again.mean_image, snapshot.mean_image)
    for part in PARTS:
        ours = getattr(snapshot.nets, part).state_dict()
        theirs = getattr(again.nets, part).state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in ours)
        assert getattr(again.nets, part).resolution == 8
        assert getattr(again.nets, part).fading == (alpha < 1)


def test_the_networks_compute_the_same(tmp_path):
    snapshot = make(0.5)
    again = load_snapshot(written(tmp_path / "s.safetensors", 0.5))
    latents = torch.nn.functional.normalize(torch.eye(8), dim=1)
    assert torch.equal(again.nets.ema(latents, 0.5), snapshot.nets.ema(latents, 0.5))
    images = snapshot.mean_image.expand(2, -1, -1, -1)
    ours, theirs = snapshot.nets.encoder(images, 0.5), again.nets.encoder(images, 0.5)
    torch.testing.assert_close(theirs.mean, ours.mean)


@pytest.mark.parametrize("classes", [2, 3], ids=["vac", "introvac, which also says fake"])
def test_a_model_with_a_classifier_is_loaded_and_classifies(classes, tmp_path):
    snapshot = make(0.5, head="gaussian", encoder_norm="none", classes=classes)
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 8, 8, generator=rng) * 2 - 1
    with torch.no_grad():
        mean = snapshot.nets.encoder(images, 0.5).mean
        logits = mean @ snapshot.nets.encoder.classifier.weight.T
    save_snapshot(tmp_path / "s.safetensors", snapshot)
    model = pgvae.load(tmp_path / "s.safetensors")
    assert model.classifies
    assert model.attributes == ("glasses", "Bärte")
    assert model.classify(images).shape == (3, 2)
    torch.testing.assert_close(model.classify(images), logits[:, :2])
    torch.testing.assert_close(model.classify(images), Model(snapshot).classify(images))


def test_any_safetensors_reader_can_open_it(tmp_path):
    tensors = load_file(written(tmp_path / "s.safetensors"))
    assert {name.split("/")[0] for name in tensors} == {*PARTS, "mean_image"}


def test_the_same_snapshot_has_the_same_bytes(tmp_path):
    first, again = written(tmp_path / "a.safetensors"), written(tmp_path / "b.safetensors")
    assert first.read_bytes() == again.read_bytes()


def test_no_absolute_path_is_inside(tmp_path):
    raw = written(tmp_path / "s.safetensors").read_bytes()
    for place in (tmp_path, Path.cwd(), Path.home(), Path(pgvae.__file__).parent):
        if len(str(place)) > 1:
            assert str(place).encode() not in raw


def test_a_header_of_any_length_is_a_snapshot(tmp_path):
    # A header of 19280 bytes begins the file with "PK", as a zip; 640 bytes with a pickle's 80 02.
    path = tmp_path / "s.safetensors"
    for wanted in (0x4B50, 0x10280, 0x10480):
        save_snapshot(path, dataclasses.replace(make(), dataset=""))
        length = struct.unpack("<Q", path.read_bytes()[:8])[0]
        header, _ = split(path)
        spare = length - len(json.dumps(header, separators=(",", ":")).encode())
        name = "x" * (wanted - length + max(spare, 0))
        save_snapshot(path, dataclasses.replace(make(), dataset=name))
        assert struct.unpack("<Q", path.read_bytes()[:8])[0] == wanted
        assert load_snapshot(path).dataset == name


def test_a_truncated_file_is_corrupt_at_every_length(tmp_path):
    raw = written(tmp_path / "s.safetensors").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    short = tmp_path / "short.safetensors"
    marks = {0, 1, 7, 8, 9, 8 + length - 1, 8 + length, 8 + length + 1, len(raw) - 1}
    for size in sorted(marks | set(range(0, len(raw), len(raw) // 60))):
        short.write_bytes(raw[:size])
        with pytest.raises(CorruptFileError, match="truncated") as caught:
            load_snapshot(short)
        assert caught.value.exit_code == 3


def test_bytes_after_the_end_are_refused(tmp_path):
    path = written(tmp_path / "s.safetensors")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(CorruptFileError):
        load_snapshot(path)


def test_a_file_that_is_not_there_is_bad_input(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(InputError, match="no such snapshot"):
            load_snapshot(path)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_refused_and_not_executed(protocol, tmp_path):
    path, mark = tmp_path / "s.safetensors", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Trap(mark), protocol=protocol))
    with pytest.raises(InputError, match=r"is a pickle.*give a \.safetensors") as caught:
        load_snapshot(path)
    assert caught.value.exit_code == 2
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_without_a_mark_is_refused_and_not_executed(protocol, tmp_path):
    path, mark = tmp_path / "s.safetensors", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Trap(mark), protocol=protocol))
    with pytest.raises(PgvaeError):
        load_snapshot(path)
    assert not mark.exists()


@pytest.mark.parametrize("new", [True, False])
def test_a_file_of_torch_save_is_refused_and_not_executed(new, tmp_path):
    path, mark = tmp_path / "s.pt", tmp_path / "executed"
    torch.save({"w": Trap(mark)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(InputError, match="is a pickle"):
        load_snapshot(path)
    assert not mark.exists()


def test_a_snapshot_from_the_future_asks_to_upgrade(tmp_path):
    path = written(tmp_path / "s.safetensors")
    header, data = split(path)
    about = {**json.loads(header["__metadata__"]["pgvae"]), "format": 2, "model": "unheard of"}
    header["__metadata__"]["pgvae"] = json.dumps(about)
    with pytest.raises(InputError, match=r"format 2, this version reads 1: upgrade pgvae"):
        load_snapshot(join(path, header, data))
