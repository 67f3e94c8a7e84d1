"""Whatever is not a snapshot is refused quickly, and takes no memory."""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file
from snapshots import PARTS, changed, make

from pgvae.errors import CorruptFileError, PgvaeError
from pgvae.snapshot import load_snapshot, save_snapshot

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
    "a classifier that is not there": model(classes=2),
    "huge classifier": model(classes=10**9),
    "classifier beyond 64 bits": model(classes=10**30),
    "classifier of text": model(classes="2"),
    "classifier with a fraction": model(classes=2.5),
    "negative classifier": model(classes=-1),
    "unknown setting": model(bogus=1),
    "unknown architecture": model(arch="os.system"),
    "another architecture": model(arch="residual"),
    "unknown norm": model(generator_norm="os.system"),
    "another norm": model(generator_norm="spectral"),
    "batch norm where there is none": model(encoder_norm="batch"),
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
    path = changed(tmp_path / "s.safetensors", HOSTILE[name])
    started = time.process_time()
    with pytest.raises(CorruptFileError) as caught:
        load_snapshot(path)
    assert time.process_time() - started < 5  # of this process: others may be busy
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
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(200),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_file_of_something_else_is_refused_quickly(name, tmp_path):
    path = tmp_path / "s.safetensors"
    path.write_bytes(GARBAGE[name])
    started = time.process_time()
    with pytest.raises(PgvaeError):
        load_snapshot(path)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("said", [None, "[]", "7", '"text"', "null", "{}", "{"])
def test_a_safetensors_file_without_our_description_is_refused(said, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path, metadata=None if said is None else {"pgvae": said})
    with pytest.raises(PgvaeError, match=r"not a pgvae snapshot|has snapshot format None"):
        load_snapshot(path)


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
    path = changed(tmp_path / "s.safetensors", HOSTILE["missing tensor"])
    with pytest.raises(CorruptFileError, match=f"lacks tensors: {FIRST}"):
        load_snapshot(path)
    path = changed(tmp_path / "s.safetensors", HOSTILE["extra tensor"])
    with pytest.raises(CorruptFileError, match="has unknown tensors: extra"):
        load_snapshot(path)


MEASURE = """
import sys
from memory import peak
from pgvae.errors import PgvaeError
from pgvae.snapshot import load_snapshot
before = peak()
for path in sys.argv[1:]:
    try:
        load_snapshot(path)
        sys.exit(f"{path} was taken")
    except PgvaeError:
        pass
print(peak() - before)
"""


def test_absurd_sizes_take_no_memory(tmp_path):
    absurd = [name for name in HOSTILE if "huge" in name or "beyond" in name]
    assert len(absurd) > 5
    paths = [changed(tmp_path / f"{name}.safetensors", HOSTILE[name]) for name in absurd]
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 200 * 1024  # KiB
