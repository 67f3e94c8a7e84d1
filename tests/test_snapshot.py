"""Snapshots come back as they were; whatever is not one is refused, and nothing is executed."""

import dataclasses
import json
import os
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pgvae
from pgvae.config import ModelConfig
from pgvae.errors import CorruptFileError, InputError, PgvaeError
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot, load_snapshot, save_snapshot

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


@pytest.mark.parametrize("alpha", [1.0, 0.25])
@pytest.mark.parametrize(
    "changes",
    [{}, {"head": "gaussian", "encoder_norm": "equalized", "output": "tanh"}, {"channels": 1}],
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


# Each takes the header's entries, what our JSON says, and the data; it changes the first two.
Change = Callable[[dict, dict], object]
FIRST = "encoder/blocks.4.first.weight"


def about(**values) -> Change:
    return lambda header, said: said.update(values)


def without(name: str) -> Change:
    return lambda header, said: said.pop(name)


def model(**values) -> Change:
    return lambda header, said: said["model"].update(values)


def entry(**values) -> Change:
    return lambda header, said: header[FIRST].update(values)


def swap_offsets(header: dict, _said: dict) -> None:
    """Two tensors of one shape share their bytes."""
    same = [n for n in header if n != FIRST and header[n]["shape"] == header[FIRST]["shape"]]
    header[same[0]]["data_offsets"] = header[FIRST]["data_offsets"]


def shift(by: int) -> Change:
    def change(header: dict, _said: dict) -> None:
        for one in header.values():
            one["data_offsets"] = [offset + by for offset in one["data_offsets"]]

    return change


HOSTILE: dict[str, Change] = {
    "resolution beyond all": model(resolution=2**40),
    "huge feature maps": model(fmap_max=10**9, fmap_base=10**9),
    "huge feature maps alone": model(fmap_max=10**9),
    "feature maps beyond 64 bits": model(fmap_max=10**30, fmap_base=10**30),
    "huge latent": model(latent_dim=10**9),
    "latent beyond 64 bits": model(latent_dim=10**25),
    "negative latent": model(latent_dim=-8),
    "latent of text": model(latent_dim="8"),
    "latent with a fraction": model(latent_dim=8.5),
    "feature maps not a number": model(fmap_max=float("nan")),
    "unknown setting": model(bogus=1),
    "unknown architecture": model(arch="os.system"),
    "model not an object": about(model=[1, 2]),
    "model of nothing": about(model=None),
    "no model": without("model"),
    "stage above the model": about(resolution=32),
    "stage not a power of two": about(resolution=12),
    "stage of text": about(resolution="8"),
    "stage of nothing": about(resolution=None),
    "no stage": without("resolution"),
    "alpha above one": about(alpha=1.5),
    "alpha not a number": about(alpha=float("nan")),
    "alpha of text": about(alpha="1"),
    "no attributes": without("attributes"),
    "attributes of nothing": about(attributes=None),
    "attributes of numbers": about(attributes=[1, 2]),
    "no data set": without("dataset"),
    "data set of a number": about(dataset=7),
    "no objective": without("objective"),
    "objective of text": about(objective="pioneer"),
    "images of text": about(images_seen="many"),
    "negative images": about(images_seen=-1),
    "no images": without("images_seen"),
    "missing tensor": lambda header, said: header.pop(FIRST),
    "extra tensor": lambda header, said: header.update(extra=dict(header[FIRST])),
    "half precision": entry(dtype="F16"),
    "double precision": entry(dtype="F64"),
    "integers": entry(dtype="I32"),
    "unknown type": entry(dtype="F31"),
    "type of a list": entry(dtype=["F32"]),
    "other shape": entry(shape=[1]),
    "shape of text": entry(shape="8x8"),
    "shape of a number": entry(shape=8),
    "no shape": lambda header, said: header[FIRST].pop("shape"),
    "no offsets": lambda header, said: header[FIRST].pop("data_offsets"),
    "one offset": entry(data_offsets=[0]),
    "three offsets": entry(data_offsets=[0, 4, 8]),
    "offsets of nothing": entry(data_offsets=None),
    "offsets of text": entry(data_offsets=["0", "4"]),
    "entry of nothing": lambda header, said: header.update({FIRST: None}),
    "negative offsets": entry(data_offsets=[-2304, 0]),
    "offsets beyond the end": entry(data_offsets=[2**62, 2**62 + 2304]),
    "backward offsets": entry(data_offsets=[2304, 0]),
    "overlapping offsets": swap_offsets,
    "a hole at the start": shift(8),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_quickly(name, tmp_path):
    path = written(tmp_path / "s.safetensors")
    header, data = split(path)
    metadata = header.pop("__metadata__")
    said = json.loads(metadata["pgvae"])
    HOSTILE[name](header, said)
    join(path, {"__metadata__": {"pgvae": json.dumps(said)}, **header}, data)
    started = time.monotonic()
    with pytest.raises(CorruptFileError) as caught:
        load_snapshot(path)
    assert time.monotonic() - started < 5
    assert len(str(caught.value)) < 1000


GARBAGE: dict[str, bytes] = {
    "zeros": bytes(1000),
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header of 2^64 - 1 bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header longer than the file": struct.pack("<Q", 1000) + b"{}" + bytes(100),
    "no JSON": struct.pack("<Q", 100) + b"{" * 100,
    "no text": struct.pack("<Q", 8) + b"\xff" * 8,
    "a list": struct.pack("<Q", 2) + b"[]",
    "an empty object": struct.pack("<Q", 2) + b"{}",
    "a number": struct.pack("<Q", 2) + b"17",
    "null": struct.pack("<Q", 4) + b"null",
    "deep nesting": struct.pack("<Q", 400_000) + b"[" * 400_000,
    "deep nesting of objects": struct.pack("<Q", 500_000) + b'{"a":' * 100_000,
    "a number with many digits": struct.pack("<Q", 100_006) + b'{"a":' + b"9" * 100_000 + b"}",
    "metadata of text": struct.pack("<Q", 20) + b'{"__metadata__":"a"}',
    "our JSON a list": struct.pack("<Q", 31) + b'{"__metadata__":{"pgvae":"[]"}}',
    "our JSON a number": struct.pack("<Q", 30) + b'{"__metadata__":{"pgvae":"7"}}',
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(200),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_file_of_something_else_is_refused_quickly(name, tmp_path):
    path = tmp_path / "s.safetensors"
    path.write_bytes(GARBAGE[name])
    started = time.monotonic()
    with pytest.raises(PgvaeError):
        load_snapshot(path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("said", ["[]", "7", '"text"', "null", "{}", "{"])
def test_metadata_that_is_no_object_is_refused(said, tmp_path):
    path = written(tmp_path / "s.safetensors")
    header, data = split(path)
    header["__metadata__"]["pgvae"] = said
    with pytest.raises(PgvaeError):
        load_snapshot(join(path, header, data))


def test_a_safetensors_file_of_another_project_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CorruptFileError, match="not a pgvae snapshot"):
        load_snapshot(tmp_path / "other.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", PARTS)
def test_numbers_that_are_not_finite_are_listed(part, value, tmp_path):
    snapshot = make()
    with torch.no_grad():
        getattr(snapshot.nets, part).rgb["8"].weight[0, 0] = value
    save_snapshot(tmp_path / "s.safetensors", snapshot)
    with pytest.raises(CorruptFileError, match=rf"not finite: {part}/rgb\.8\.weight"):
        load_snapshot(tmp_path / "s.safetensors")


def test_missing_and_extra_tensors_are_named(tmp_path):
    path = written(tmp_path / "s.safetensors")
    header, data = split(path)
    header["encoder/unknown"] = header.pop(FIRST)
    with pytest.raises(CorruptFileError, match=f"lacks tensors: {FIRST}"):
        load_snapshot(join(path, header, data))


MEASURE = """
import resource, sys
from pgvae.errors import PgvaeError
from pgvae.snapshot import load_snapshot
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_snapshot(path)
        sys.exit(f"{path} was taken")
    except PgvaeError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_absurd_sizes_take_no_memory(tmp_path):
    paths = []
    absurd = [name for name in HOSTILE if "huge" in name or "beyond" in name]
    for index, name in enumerate(absurd):
        path = written(tmp_path / f"{index}.safetensors")
        header, data = split(path)
        said = json.loads(header.pop("__metadata__")["pgvae"])
        HOSTILE[name](header, said)
        paths.append(join(path, {"__metadata__": {"pgvae": json.dumps(said)}, **header}, data))
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 200 * 1024  # KiB
