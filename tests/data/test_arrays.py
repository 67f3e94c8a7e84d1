"""Sets that come as arrays: the same pixels and labels come out, and what is wrong is named."""

import gzip
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from making import noise, prepared

from pgvae.data import Store, arrays, load_images, open_dataset
from pgvae.data.recipes import Ingredients, Split, recipe_of
from pgvae.errors import InputError

COUNT = 20


def pixels_of(side: int, channels: int = 3, count: int = COUNT) -> np.ndarray:
    return np.stack([noise(i, side, side, channels) for i in range(count)]).reshape(
        count, side, side, channels
    )


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def mnist_folder(path: Path, packed: bool = False, mark: str = "-", side: int = 28) -> Path:
    path.mkdir(parents=True)
    images, classes = pixels_of(side, 1)[..., 0], (np.arange(COUNT) % 10).astype(np.uint8)
    parts = {"train": slice(0, 15), "t10k": slice(15, COUNT)}
    for part, rows in parts.items():
        for kind, values in (("images-idx3", images), ("labels-idx1", classes)):
            name = f"{part}-{kind}-ubyte".replace("-idx", f"{mark}idx")
            data = idx(values[rows])
            file = path / (name + ".gz" * packed)
            file.write_bytes(gzip.compress(data) if packed else data)
    return path


def cifar_files(version: str) -> dict[str, bytes]:
    """Six batches of four images."""
    planes = pixels_of(32, 3, 24).transpose(0, 3, 1, 2).reshape(24, -1)
    classes, files = np.arange(24) % 10, {}
    for i, name in enumerate((*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")):
        rows = slice(4 * i, 4 * i + 4)
        if version == "binary":
            batch = np.concatenate([classes[rows, None].astype(np.uint8), planes[rows]], axis=1)
            files[f"{name}.bin"] = batch.tobytes()
        else:
            batch = {b"data": planes[rows], b"labels": classes[rows].tolist()}
            files[name] = pickle.dumps(batch, protocol=2)
    return files


def of(what: str, source: Path | None = None, **given: object):
    return recipe_of(what, Ingredients(source=source, **given))


def pixels_in(store: Store, resolution: int) -> np.ndarray:
    """uint8 [N, H, W, C]."""
    return store.get_many(np.arange(len(store)), resolution).transpose(0, 2, 3, 1)


def classes_in(store: Store) -> np.ndarray:
    assert (store.labels.sum(1) == 1).all()
    return store.labels.argmax(1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_mnist_comes_out_as_it_went_in_with_its_test_images_held_out(tmp_path, packed, mark):
    folder = mnist_folder(tmp_path / "given", packed, mark)
    store = prepared(of("fashion-mnist", folder), tmp_path / "sets", channels=1)
    assert store.resolutions[-1] == 32
    made = pixels_in(store, 32)
    np.testing.assert_array_equal(made[:, 2:30, 2:30], pixels_of(28, 1))
    assert made.sum() == made[:, 2:30, 2:30].sum()
    assert store.attributes == arrays.FASHION_MNIST
    np.testing.assert_array_equal(classes_in(store), np.arange(COUNT) % 10)
    assert store.split("val").tolist() == [*range(15, COUNT)]


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("archive", [False, True])
def test_cifar10_comes_out_as_it_went_in_with_its_test_batch_held_out(tmp_path, version, archive):
    inner = tmp_path / "given" / "cifar-10-batches"
    inner.mkdir(parents=True)
    for name, data in cifar_files(version).items():
        (inner / name).write_bytes(data)
    source = tmp_path / "given"
    if archive:
        source = tmp_path / "cifar.tar.gz"
        with tarfile.open(source, "w:gz") as file:
            file.add(inner, "cifar-10-batches")
    store = prepared(of("cifar10", source, attributes=("cat", "ship")), tmp_path / "sets")
    np.testing.assert_array_equal(pixels_in(store, 32), pixels_of(32, 3, 24))
    assert store.attributes == ("cat", "ship")
    np.testing.assert_array_equal(store.labels[:, 0], np.arange(24) % 10 == 3)
    assert store.split("val").tolist() == [20, 21, 22, 23]


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW", "RGBA"])
def test_an_npz_comes_out_as_it_went_in(tmp_path, layout):
    pixels = pixels_of(8, {"NHW": 1, "RGBA": 4}.get(layout, 3))
    if layout == "RGBA":
        pixels[..., 3] = 255
    given = {"NHW": pixels[..., 0], "NCHW": pixels.transpose(0, 3, 1, 2)}.get(layout, pixels)
    path = tmp_path / "mine.npz"
    np.savez(path, x=given, y=np.arange(COUNT)[:, None] % 3)
    recipe = of(str(path), split=Split(0.25))
    store = prepared(recipe, tmp_path / "sets", channels=1 if layout == "NHW" else 3)
    assert store.name == "mine"
    np.testing.assert_array_equal(pixels_in(store, 8), pixels[..., :3])
    assert store.attributes == ("class0", "class1", "class2")
    np.testing.assert_array_equal(classes_in(store), np.arange(COUNT) % 3)
    assert len(store.split("val")) == 5


def test_an_npy_has_no_labels_and_is_made_alike_by_any_number_of_workers(tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, pixels_of(8, 3, 100))
    one, two = (
        prepared(of(str(path)), tmp_path / f"{workers}", workers=workers) for workers in (1, 2)
    )
    assert one.attributes == ()
    assert one.digest == two.digest


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: pickle.dumps({b"data": Harmful()}), "it wants to run (posix|nt).system"),
        (lambda data: data[: len(data) // 2], "is no batch of CIFAR-10"),
        (lambda data: b"", "is no batch of CIFAR-10"),
        (lambda data: pickle.dumps({b"data": [1]}, 2), "is no batch of CIFAR-10"),
        (lambda data: pickle.dumps([]), "is no batch of CIFAR-10"),
        (
            lambda data: pickle.dumps(
                {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, protocol=2
            ),
            "classes are not 0 to 9",
        ),
    ],
)
def test_a_batch_that_is_none_is_named_and_runs_nothing(tmp_path, damage, problem, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = cifar_files("python")
    files["data_batch_3"] = damage(files["data_batch_3"])
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"data_batch_3 in .*{problem}"):
        of("cifar10", tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_a_flipped_bit_of_a_packed_archive_is_found_wherever_it_lies(tmp_path):
    path, rng = tmp_path / "c.tar.gz", np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in cifar_files("python").items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    whole = path.read_bytes()
    arrays.load_cifar10(path)
    for offset in [*rng.integers(10, len(whole), 40), len(whole) - 8]:
        damaged = bytearray(whole)
        damaged[offset] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            arrays.load_cifar10(path)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[:-1], "cut off or too long"),
        (lambda data: data + b"\0", "cut off or too long"),
        (lambda data: gzip.compress(data)[:-9], "damaged"),
        (lambda data: data[:7], "no IDX file of bytes with 3 dimensions"),
        (lambda data: b"\0\0\x0d" + data[3:], "no IDX file of bytes with 3 dimensions"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "refused"),
        (lambda data: idx(np.zeros((14, 28, 28), np.uint8)), "14 images of train have 15 labels"),
        (lambda data: idx(np.zeros((15, 8, 8), np.uint8)), "its images have two sizes"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, damage, problem):
    folder = mnist_folder(tmp_path / "given")
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=problem):
        of("mnist", folder)


def npz(**given: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **given)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (npz(x=np.zeros((4, 8, 8))), r"holds x float64 \[4, 8, 8\]: one array of images"),
        (npz(x=pixels_of(8), z=pixels_of(8)), "one array of images is wanted"),
        (npz(x=pixels_of(8, 2)), "images have 1, 3 or 4 channels"),
        (npz(x=pixels_of(8), y=np.arange(3)), "one array of classes at most"),
        (npz(x=pixels_of(8), y=np.zeros(COUNT)), "one array of classes at most"),
        (npz(x=pixels_of(8), y=3), "one array of classes at most"),
        (npz(x=pixels_of(8), y=np.arange(COUNT) - 1), "they go from -1 to 18"),
        (npz(x=pixels_of(8)[:0]), "holds no images"),
        (npz(x=np.array([Harmful()], object)), "damaged, or of another kind"),
        (npz(x=pixels_of(8))[:-40], "damaged, or of another kind"),
        (npz(x=pixels_of(8)) + npz(x=pixels_of(8)), "has files before the first that it lists"),
        (npy(pixels_of(8)) + npy(pixels_of(8)), "goes on behind its array"),
        (b"PK\x03\x04", "damaged, or of another kind"),
        (b"", "damaged, or of another kind"),
    ],
    ids=range(14),
)
def test_an_npz_that_is_no_set_of_images_is_refused(tmp_path, data, problem):
    path = tmp_path / "mine.npz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=problem):
        prepared(of(str(path)), tmp_path / "sets")


def test_a_file_that_unpacks_to_far_more_than_it_is_is_refused_unread(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((300, 300, 300), np.uint8))
    with pytest.raises(InputError, match=r"it unpacks to 27,000,\d\d\d bytes: refused"):
        of(str(tmp_path / "bomb.npz"))
    folder = mnist_folder(tmp_path / "given", packed=True)
    bomb = idx(np.zeros((30_000, 28, 28), np.uint8))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bomb))
    with pytest.raises(InputError, match=r"it unpacks to 23,520,000 bytes: refused"):
        of("mnist", folder)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="has no train-images-idx3-ubyte, nor"):
        of("mnist", tmp_path)
    with pytest.raises(InputError, match=r"has no data_batch_1 or data_batch_1\.bin"):
        of("cifar10", tmp_path)
    with pytest.raises(InputError, match=r"no such folder or \.tar\.gz: .*gone"):
        of("cifar10", tmp_path / "gone")
    with pytest.raises(InputError, match="no such folder: "):
        of("mnist", tmp_path / "gone")
    np.save(tmp_path / "a.npy", pixels_of(8))
    with pytest.raises(InputError, match="--attributes cat: no labels"):
        prepared(of(str(tmp_path / "a.npy"), attributes=("cat",)), tmp_path / "sets")


def test_an_array_may_be_trained_on_and_reconstructed_from(tmp_path):
    pixels = pixels_of(16)
    np.savez(tmp_path / "mine.npz", images=pixels)
    store = open_dataset(str(tmp_path / "mine.npz"), tmp_path / "sets", say=lambda line: None)
    np.testing.assert_array_equal(pixels_in(store, 16), pixels)
    again = open_dataset(str(tmp_path / "mine.npz"), tmp_path / "sets", say=lambda line: None)
    assert again.path == store.path
    np.save(tmp_path / "mine.npy", pixels)
    for file in ("mine.npz", "mine.npy"):
        made, names = load_images([tmp_path / file], 16)
        np.testing.assert_array_equal(made.transpose(0, 2, 3, 1), pixels)
        assert names[0] == "000000"
