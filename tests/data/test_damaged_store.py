"""A prepared set that is damaged, cut off or half there: refused by name, never a fault."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import Memory, damage, encoded, in_child, noise, noise_files, prepared, recipe_of

from pgvae.data import Store
from pgvae.data.manifest import FORMAT, checksum_of
from pgvae.errors import CorruptFileError, InputError, PgvaeError
from pgvae.files import sha256_of

SIZES = (4, 8, 16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 12 pictures at 4 to 16 px."""
    return prepared(recipe_of(Memory(noise_files(12))), tmp_path_factory.mktemp("whole")).path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy of that set, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


def flip(file: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)


def rewrite_manifest(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text()) | changes
    manifest["checksum"] = checksum_of(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


# Truncated or missing


@pytest.mark.parametrize(
    "name", ["0004/data.mdb", "0016/data.mdb", "labels.npy", "split.npy", "names.json"]
)
@pytest.mark.parametrize("left", [None, 0.0, 0.3, 0.9, 0.999])
def test_a_truncated_or_missing_file_is_refused_at_opening(path, name, left):
    data = (path / name).read_bytes()
    (path / name).unlink()
    if left is not None:
        (path / name).write_bytes(data[: int(len(data) * left)])
    with pytest.raises(CorruptFileError, match=f"{name} is truncated or missing"):
        Store(path)


def test_a_missing_list_of_what_was_left_out_is_refused_at_opening(tmp_path):
    source = Memory(noise_files(2) | {"bad.png": b""})
    path = prepared(recipe_of(source, "bad"), tmp_path, skip_bad=True).path
    (path / "rejects.jsonl").unlink()
    with pytest.raises(CorruptFileError, match=r"rejects\.jsonl is truncated or missing"):
        Store(path)


# Damaged


def test_a_flipped_byte_is_found_by_its_crc_with_the_key(path):
    damage(Store(path), 5, 16, at=100)
    store = Store(path)
    for other in (4, 6):
        store.get(other, 16)
    with pytest.raises(CorruptFileError, match=r"image 5 \(key 00000005\) at 16 px.*CRC"):
        store.get(5, 16)
    with pytest.raises(CorruptFileError, match="image 5 "):
        store.get_many(np.array([1, 5]), 16)
    with pytest.raises(CorruptFileError, match=r"image 5 \(key 00000005\) at 16 px"):
        Store(path).verify()


def test_a_flipped_byte_of_an_encoded_image_is_found_by_its_crc(tmp_path):
    files = {f"{i}.png": encoded(noise(i, 256, 256)) for i in range(2)}
    path = prepared(recipe_of(Memory(files)), tmp_path).path
    file = path / "0256/data.mdb"
    flip(file, file.read_bytes().rindex(b"WEBP") + 5_000)
    with pytest.raises(CorruptFileError, match="CRC"):
        Store(path).get_many(np.arange(2), 256, workers=2)


def test_verify_finds_a_byte_flipped_anywhere(path):
    rng = np.random.default_rng(0)
    files = [f for f in path.rglob("*") if f.is_file() and f.stat().st_size]
    found = 0
    for _ in range(100):
        file = files[rng.integers(len(files))]
        offset, bit = int(rng.integers(file.stat().st_size)), int(rng.integers(8))
        flip(file, offset, bit)
        try:
            Store(path).verify()
        except PgvaeError as error:
            found += isinstance(error, CorruptFileError) or "format" in str(error)
        flip(file, offset, bit)
    assert found == 100
    Store(path).verify()


def test_an_older_set_with_one_sum_of_each_file_is_verified_too(path):
    entries = Store(path).manifest["files"]
    name = "0016/data.mdb"
    entries[name] = {"size": entries[name]["size"], "sha256": sha256_of(path / name)}
    rewrite_manifest(path, files=entries)
    Store(path).verify()
    flip(path / name, 8192 + 2000)
    with pytest.raises(CorruptFileError):
        Store(path).verify()


def test_a_manifest_with_any_bit_flipped_is_refused(path):
    file, size = path / "manifest.json", (path / "manifest.json").stat().st_size
    for offset in range(size):
        flip(file, offset, offset % 8)
        with pytest.raises(PgvaeError):
            Store(path)
        flip(file, offset, offset % 8)
    Store(path)


def test_damaged_pages_are_an_error_and_not_a_fault(path):
    file = path / "0016/data.mdb"
    for start, size in [(0, 8192), (16, 4), (4096 + 16, 4), (24, 64)]:
        data = file.read_bytes()
        file.write_bytes(data[:start] + b"\xff" * size + data[start + size :])

        def act():
            try:
                Store(path).get_many(np.arange(12), 16)
            except CorruptFileError:
                return "refused"
            return "read"  # LMDB has two meta pages, and one is enough

        ended_by, answer = in_child(act)
        assert ended_by == 0
        assert answer in ("refused", "read")
        assert answer == "refused" or size < 8192
        file.write_bytes(data)


@pytest.mark.filterwarnings("ignore")  # NumPy's own, of damaged headers
@pytest.mark.parametrize("name", ["labels.npy", "split.npy"])
def test_a_byte_flipped_in_labels_or_splits_is_found_at_opening(path, name):
    rng = np.random.default_rng(1)
    for offset in rng.integers(0, (path / name).stat().st_size, 30):
        flip(path / name, int(offset))
        with pytest.raises(CorruptFileError, match=name):
            Store(path)
        flip(path / name, int(offset))


@pytest.mark.parametrize("name", ["names.json", "hashes.npy", "rejects.jsonl"])
def test_a_byte_flipped_in_what_is_read_later_is_found_then(name, tmp_path):
    source = Memory(noise_files(2) | {"bad.png": b""})
    path = prepared(recipe_of(source, "bad"), tmp_path, skip_bad=True).path
    read = {"names.json": Store.names, "hashes.npy": Store.hashes, "rejects.jsonl": Store.rejects}
    assert len(read[name](Store(path))) == (1 if name == "rejects.jsonl" else 2)
    for offset in np.random.default_rng(1).integers(0, (path / name).stat().st_size, 10):
        flip(path / name, int(offset))
        with pytest.raises(CorruptFileError, match=f"{name} is damaged: its SHA-256"):
            read[name](Store(path))
        flip(path / name, int(offset))


# Manifests


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", "{}", '{"format": 1}', "\udcff"], ids=repr
)
def test_a_broken_manifest_is_refused(path, text):
    (path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorruptFileError, match="manifest"):
        Store(path)


def test_a_manifest_changed_by_hand_is_refused(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"count": 12', '"count": 13'))
    with pytest.raises(CorruptFileError, match="its own sum is wrong"):
        Store(path)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_another_format_names_both_versions(path, version):
    rewrite_manifest(path, format=version)
    with pytest.raises(InputError, match=f"format {version}, this version reads {FORMAT}"):
        Store(path)


def test_what_is_half_a_set_or_none_is_refused_with_the_cure(path, tmp_path):
    (path / "manifest.json").unlink()
    with pytest.raises(CorruptFileError, match=r"manifest\.json is gone: .*--force"):
        Store(path)
    half = path.rename(tmp_path / "half.tmp")
    with pytest.raises(InputError, match="half-prepared: rerun `pgvae data prepare`"):
        Store(half)
    with pytest.raises(InputError, match=r"not a prepared set.*`pgvae data prepare`"):
        Store(tmp_path)
