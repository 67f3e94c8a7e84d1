"""Snapshots come back as they were; a file that is cut, a pickle or of the future is refused."""

import dataclasses
import json
import pickle
import random
import struct
from functools import partial
from pathlib import Path

import pytest
import torch
from damage import damaged_copies
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from snapshots import PARTS, Trap, changed, make, split, written

import pgvae
from pgvae import snapshot
from pgvae.errors import CorruptFileError, InputError
from pgvae.snapshot import Snapshot, load_newest, load_snapshot, save_snapshot


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
    latents, images = torch.eye(8), snapshot.mean_image.expand(8, -1, -1, -1)
    torch.testing.assert_close(again.nets.ema(latents, alpha), snapshot.nets.ema(latents, alpha))
    ours, theirs = (nets.encoder(images, alpha) for nets in (snapshot.nets, again.nets))
    torch.testing.assert_close(theirs.mean, ours.mean)


@pytest.mark.parametrize(
    "changes",
    [{"encoder": False, "discriminator": "image"}, {"discriminator": "joint", "head": "gaussian"}],
    ids=["without an encoder", "with a joint discriminator"],
)
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_a_snapshot_has_the_networks_that_there_are_and_no_other(tmp_path, alpha, changes):
    snapshot = make(alpha, **changes)
    save_snapshot(tmp_path / "s.safetensors", snapshot)
    again = load_snapshot(tmp_path / "s.safetensors")
    assert again.config == snapshot.config
    assert (
        (again.nets.encoder is None) == (again.nets.ema_encoder is None) == ("encoder" in changes)
    )
    parts = again.nets.parts()
    assert [*parts] == [*snapshot.nets.parts()]
    for part, net in snapshot.nets.parts().items():
        assert parts[part].fading == (alpha < 1)
        theirs = parts[part].state_dict()
        assert all(torch.equal(theirs[name], value) for name, value in net.state_dict().items())


def test_files_from_before_there_were_discriminators_have_an_encoder_and_none(tmp_path):
    def forget(table, said):
        del said["model"]["encoder"], said["model"]["discriminator"], said["sha256"]

    again = load_snapshot(changed(tmp_path / "s.safetensors", forget))
    assert again.config == make().config
    assert [*again.nets.parts()] == [*PARTS]


def test_a_file_is_of_any_reader_the_same_each_time_and_without_absolute_paths(tmp_path):
    first, again = written(tmp_path / "a.safetensors"), written(tmp_path / "b.safetensors")
    assert {name.split("/")[0] for name in load_file(first)} == {*PARTS, "mean_image"}
    raw = first.read_bytes()
    assert again.read_bytes() == raw
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


def test_a_file_cut_or_grown_is_corrupt_at_every_length(tmp_path):
    path = written(tmp_path / "s.safetensors")
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    marks = {0, 1, 7, 8, 9, 8 + length - 1, 8 + length, 8 + length + 1, len(raw) - 1, len(raw) + 1}
    for size in sorted(marks | set(range(0, len(raw), len(raw) // 60))):
        path.write_bytes((raw + b"!")[:size])
        with pytest.raises(CorruptFileError, match="truncated") as caught:
            load_snapshot(path)
        assert caught.value.exit_code == 3


@pytest.mark.slow
def test_a_file_with_a_byte_flipped_is_refused_or_has_the_same_tensors(tmp_path):
    """One byte at 100 offsets, and the file cut at 20 lengths; all in the tensors are refused."""
    path = written(tmp_path / "s.safetensors")
    whole, tensors = path.read_bytes(), load_file(path)
    data = 8 + struct.unpack("<Q", whole[:8])[0]
    for damaged in damaged_copies(whole, random.Random(0)):
        path.write_bytes(damaged)
        try:
            load_snapshot(path)
        except (CorruptFileError, InputError):
            continue
        assert damaged[data:] == whole[data:]
        again = load_file(path)
        assert again.keys() == tensors.keys()
        assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_a_changed_bit_of_any_tensor_is_refused_and_a_file_without_a_digest_is_taken(tmp_path):
    path = written(tmp_path / "s.safetensors")
    whole = path.read_bytes()
    data = 8 + struct.unpack("<Q", whole[:8])[0]
    entries = [entry for name, entry in split(path)[0].items() if name != "__metadata__"]
    for entry in entries[:: len(entries) // 8]:
        damaged = bytearray(whole)
        damaged[data + entry["data_offsets"][0]] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match="its SHA-256 is not the one"):
            load_snapshot(path)
    load_snapshot(changed(path, lambda _header, said: said.pop("sha256")))


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path, real = written(tmp_path / "a.safetensors"), snapshot.load_file
    other = dataclasses.replace(make(), images_seen=7, mean_image=torch.zeros(3, 8, 8))

    def replaced(where):
        monkeypatch.setattr(snapshot, "load_file", real)
        save_snapshot(path, other)
        return real(where)

    monkeypatch.setattr(snapshot, "load_file", replaced)
    found = load_snapshot(path)
    assert (found.images_seen, found.mean_image.abs().max()) == (7, 0)


def test_a_file_that_is_not_there_is_bad_input(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(InputError, match="no such snapshot"):
            load_snapshot(path)
    for name in ("x" * 5000, "x/" * 3000, "a\0b"):  # which no drive takes
        with pytest.raises(InputError, match="no such snapshot"):
            load_newest(Path(name))


PICKLED = {
    **{f"protocol {n}": partial(pickle.dump, protocol=n) for n in range(6)},
    "torch.save": torch.save,
    "torch.save of old": partial(torch.save, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("how", PICKLED)
def test_a_pickle_is_refused_and_not_executed(how, tmp_path):
    path, mark = tmp_path / "s.safetensors", tmp_path / "executed"
    with path.open("wb") as file:
        PICKLED[how]({"w": Trap(mark)}, file)
    marked = how not in ("protocol 0", "protocol 1")  # these two begin as any file may
    words = r"is a pickle.*give a \.safetensors" if marked else "not a snapshot"
    with pytest.raises(InputError if marked else CorruptFileError, match=words):
        load_snapshot(path)
    assert not mark.exists()
    if how.startswith("protocol"):
        pickle.loads(path.read_bytes())
        assert mark.exists()


def test_a_snapshot_from_the_future_asks_to_upgrade(tmp_path):
    def future(_header: dict, said: dict) -> None:
        said.update(format=2, model="unheard of")

    with pytest.raises(InputError, match=r"format 2, this version reads 1: upgrade pgvae") as found:
        load_snapshot(changed(tmp_path / "s.safetensors", future))
    assert found.value.exit_code == 2


def test_a_file_without_an_averaged_encoder_has_the_encoder_in_its_place(tmp_path):
    path = tmp_path / "old.safetensors"
    save_snapshot(path, make())
    tensors = {k: v for k, v in load_file(path).items() if not k.startswith("ema_encoder/")}
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["pgvae"])
    del about["sha256"]
    save_file(tensors, path, metadata={"pgvae": json.dumps(about)})
    nets = load_snapshot(path).nets
    encoder, averaged = nets.encoder.state_dict(), nets.ema_encoder.state_dict()
    assert list(encoder) == list(averaged)
    for name, value in encoder.items():
        assert torch.equal(averaged[name], value)
        assert averaged[name].data_ptr() != value.data_ptr()
