"""Files of many images: the same pixels and labels come out, and what is bad is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from making import (
    encoded,
    noise,
    noise_files,
    prepared,
    workers_at_once,
    write_files,
    write_tar,
    zip_of,
)

from pgvae.data import Store, load_images, open_dataset
from pgvae.data.containers.base import Joined
from pgvae.data.recipes import Split, folder
from pgvae.data.sources import open_source
from pgvae.errors import InputError

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("google_crc32c", reason="google-crc32c is not installed")

import h5py
import pyarrow.parquet
from packing import (
    CLASS_OF,
    CLASSES,
    COUNT,
    SIDE,
    example,
    files,
    hugging_face_table,
    pggan_record,
    pictures,
    web_dataset,
    write_arrow,
    write_lmdb,
    write_records,
)

BAD = 42  # index of the record that is spoilt
SPOILT = b"\x89PNG\r\n\x1a\n and no more"


def spoil(data: list[bytes], bad: bool) -> list[bytes]:
    return [SPOILT if bad and i == BAD else file for i, file in enumerate(data)]


def folders(path: Path, bad: bool) -> Path:
    names = [f"{CLASSES[k]}/{i:03d}.png" for i, k in enumerate(CLASS_OF)]
    return write_files(path, dict(zip(names, spoil(files(), bad), strict=True)))


def zipped_folders(path: Path, bad: bool) -> Path:
    names = [f"{CLASSES[k]}/{i:03d}.png" for i, k in enumerate(CLASS_OF)]
    return zip_of(path.with_suffix(".zip"), *zip(names, spoil(files(), bad), strict=True))


def shards(path: Path, bad: bool) -> Path:
    path.mkdir()
    data = spoil(files(), bad)
    for i in range(0, COUNT, 40):
        web_dataset(path / f"shard-{i:06d}.tar", data[i : i + 40], CLASS_OF[i : i + 40])
    return path


def parquet(path: Path, bad: bool) -> Path:
    table = hugging_face_table(spoil(files(), bad), CLASS_OF)
    file = path.with_suffix(".parquet")
    pyarrow.parquet.write_table(table, file, row_group_size=30)
    return file


def saved_to_disk(path: Path, bad: bool) -> Path:
    data = spoil(files(), bad)
    for name, rows in (("train", slice(0, 80)), ("test", slice(80, COUNT))):
        table = hugging_face_table(data[rows], CLASS_OF[rows])
        write_arrow(path / name / "data-00000-of-00001.arrow", table)
        write_files(path / name, {"dataset_info.json": b"{}", "state.json": b"{}"})
        write_files(path / name, {"cache-0123.arrow": b"of a computation"})
    return path


def hdf5(path: Path, bad: bool) -> Path:
    if bad:
        pytest.skip("an array of pixels has no bad record")
    file = path.with_suffix(".h5")
    planes = np.stack(pictures()).transpose(0, 3, 1, 2)
    with h5py.File(file, "w") as out:
        out["data16x16"], out["data8x8"] = planes, planes[:, :, ::2, ::2]
    np.save(path.with_name(f"{path.name}-labels.npy"), np.eye(3, dtype=np.float32)[CLASS_OF])
    return file


def tfrecords(path: Path, bad: bool) -> Path:
    path.mkdir()
    records = [pggan_record(pixels) for pixels in pictures()]
    if bad:
        records[BAD] = example(shape=[3, 16, 17], data=b"too few")
    write_records(path / "set-r04.tfrecords", records)
    write_records(path / "set-r03.tfrecords", [pggan_record(p[::2, ::2]) for p in pictures()])
    with (path / "set-rxx.labels").open("wb") as file:
        np.save(file, np.eye(3, dtype=np.float32)[CLASS_OF])
    return path


def encoded_records(path: Path, bad: bool) -> Path:
    data = spoil(files(), bad)
    rows = [
        example(**{"image/encoded": file, "image/class/label": [k]})
        for file, k in zip(data, CLASS_OF, strict=True)
    ]
    return write_records(path.with_suffix(".tfrecord"), rows)


def lsun(path: Path, bad: bool) -> Path:
    return write_lmdb(path, {f"{i:040x}".encode(): f for i, f in enumerate(spoil(files(), bad))})


def style_gan_zip(path: Path, bad: bool) -> Path:
    names = [f"{i // 1000:05d}/img{i:08d}.png" for i in range(COUNT)]
    said = json.dumps({"labels": [[n, k] for n, k in zip(names, CLASS_OF, strict=True)]})
    entries = [*zip(names, spoil(files(), bad), strict=True), ("dataset.json", said.encode())]
    return zip_of(path.with_suffix(".zip"), *entries)


MADE = (
    *(folders, zipped_folders, shards, parquet, saved_to_disk, hdf5, tfrecords, encoded_records),
    *(lsun, style_gan_zip),
)


def of(path: Path, **options) -> tuple[Store, list[str]]:
    said: list[str] = []
    store = prepared(folder("set", path, Split()), path.parent / "sets", said=said, **options)
    return store, said


def prepared_from(path: Path) -> list[str]:
    """What is said where a path is prepared in a root of its own."""
    said: list[str] = []
    prepared(folder("set", path, Split()), path.parent / "others", said=said)
    return said


def by_picture(store: Store) -> dict[bytes, np.ndarray]:
    """The labels of each picture, by its pixels."""
    pixels = store.get_many(np.arange(len(store)), SIDE).transpose(0, 2, 3, 1)
    return {image.tobytes(): row for image, row in zip(pixels, store.labels, strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", MADE)
def test_pixels_and_labels_come_out_as_they_went_in(tmp_path, monkeypatch, make, workers):
    workers_at_once(monkeypatch)
    store, _ = of(make(tmp_path / "given", bad=False), workers=workers)
    found = by_picture(store)
    assert len(store) == len(found) == COUNT
    assert {*found} == {picture.tobytes() for picture in pictures()}
    if make is lsun:
        assert store.attributes == ()
        return
    names = ("class0", "class1", "class2") if "class0" in store.attributes else CLASSES
    assert store.attributes[:3] == names
    for picture, number in zip(pictures(), CLASS_OF, strict=True):
        assert found[picture.tobytes()][:3].tolist() == [float(k == number) for k in range(3)]


@pytest.mark.parametrize("make", MADE)
def test_one_bad_record_is_refused_by_name_and_the_others_stay(tmp_path, make):
    path = make(tmp_path / "given", bad=True)
    with pytest.raises(InputError, match=r"images that cannot be used: '[^']*0*(42|2|2a)(\.png)?'"):
        of(path)
    store, said = of(path, skip_bad=True)
    assert len(store) == COUNT - 1
    assert "warning: 1 images left out: see rejects.jsonl" in said


def test_what_shards_say_beside_the_class_are_labels_and_groups(tmp_path):
    store = prepared(
        folder("set", shards(tmp_path / "given", bad=False), Split(0.3, by="who")),
        tmp_path / "sets",
    )
    assert store.attributes == ("class0", "class1", "class2", "age")
    ages = [i % 40 / 2 for i in range(COUNT)]
    np.testing.assert_array_equal(store.labels[:, 3], np.float32(ages))
    people = np.array([i % 40 % 7 for i in range(COUNT)])
    assert not {*people[store.split("val")]} & {*people[store.split("train")]}


def test_what_a_table_says_beside_the_class_is_chosen_by_name(tmp_path):
    path = parquet(tmp_path / "given", bad=False)
    store = prepared(folder("one", path, Split(), chosen=("owl",)), tmp_path / "sets")
    assert store.attributes == ("owl",)
    store = prepared(folder("all", path, Split(), chosen=("label",)), tmp_path / "sets")
    assert store.attributes == CLASSES
    with pytest.raises(InputError, match="no label 'cta' in the set: did you mean 'cat'"):
        prepared(folder("no", path, Split(), chosen=("cta",)), tmp_path / "sets")


def test_files_called_test_are_held_out_unless_a_fraction_is_given(tmp_path):
    path = saved_to_disk(tmp_path / "given", bad=False)
    store, _ = of(path)
    held = {picture.tobytes() for picture in pictures()[80:]}
    pixels = store.get_many(store.split("val"), SIDE).transpose(0, 2, 3, 1)
    assert {image.tobytes() for image in pixels} == held
    store = prepared(folder("other", path, Split(0.5)), tmp_path / "sets")
    assert len(store.split("val")) == 50


def test_folders_called_val_are_held_out_and_no_classes(tmp_path):
    parts = {"train": range(6), "val": range(6, 9)}
    given = {
        f"{p}/{'ab'[i % 2]}/{i}.png": encoded(noise(i, 8, 8)) for p, r in parts.items() for i in r
    }
    store, said = of(write_files(tmp_path / "given", given))
    assert store.attributes == ("a", "b")
    assert [store.names()[i][:4] for i in store.split("val")] == ["val/"] * 3
    assert said == []


def test_lsun_s_folders_are_classes_and_its_val_is_held_out(tmp_path):
    data = files(8)
    for i, name in enumerate(("bedroom_train", "bedroom_val", "tower_train", "tower_val")):
        entries = {f"{name}{k}".encode(): data[2 * i + k] for k in range(2)}
        write_lmdb(tmp_path / "given" / f"{name}_lmdb", entries)
    store, _ = of(tmp_path / "given")
    held = [name for name in store.names() if "val" in name]
    assert [store.names()[i] for i in store.split("val")] == held
    assert len(held) == 4
    assert store.attributes == ("bedroom", "tower")
    assert store.labels.tolist() == [[1, 0]] * 4 + [[0, 1]] * 4


def test_archives_among_images_are_named_and_a_folder_of_several_kinds_is_refused(tmp_path):
    given = write_files(tmp_path / "given", noise_files(3) | {"more/a.zip": b"PK", "b.tar.gz": b""})
    store, said = of(given)
    assert len(store) == 3
    assert "warning: 2 images left out: an archive or arrays, not read among images" in said[0]
    inner = zip_of(tmp_path / "in.zip", *noise_files(2).items(), ("x.tar", b""))
    said = prepared_from(inner)
    assert "1 images left out" in said[0]
    only = write_files(tmp_path / "only", {"a.tar": b"", "b.parquet": b""})
    with pytest.raises(InputError, match=r"files of several kinds: \.parquet, \.tar"):
        open_source(only)


def test_a_folder_of_zips_is_one_set_with_their_names_as_classes(tmp_path):
    (tmp_path / "given").mkdir()
    for i, name in enumerate(("cats", "dogs")):
        zip_of(tmp_path / "given" / f"{name}.zip", *noise_files(3, seed=i + 1).items())
    store, _ = of(tmp_path / "given")
    assert store.attributes == ("cats", "dogs")
    assert store.names()[3] == "dogs.zip/000.png"
    assert store.labels[:, 1].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_file_of_many_images_may_be_trained_on_and_reconstructed_from(tmp_path):
    path = parquet(tmp_path / "given", bad=False)
    store = open_dataset(str(path), tmp_path / "sets", say=lambda line: None)
    again = open_dataset(str(path), tmp_path / "sets", say=lambda line: None)
    assert (len(store), again.path) == (COUNT, store.path)
    pixels, names = load_images([path], SIDE, count=3)
    np.testing.assert_array_equal(pixels.transpose(0, 2, 3, 1), pictures()[:3])
    assert names == ["000000", "000001", "000002"]


def test_shards_of_which_some_have_no_labels_are_refused(tmp_path):
    (tmp_path / "given").mkdir()
    web_dataset(tmp_path / "given" / "0.tar", files(2), [0, 1])
    write_tar(tmp_path / "given" / "1.tar", noise_files(2))
    with pytest.raises(InputError, match=r"files without labels beside others: '1\.tar'"):
        of(tmp_path / "given")


def test_labels_beside_an_array_must_be_as_many(tmp_path):
    path = hdf5(tmp_path / "given", bad=False)
    np.save(tmp_path / "given-labels.npy", np.zeros((99, 3), np.float32))
    with pytest.raises(InputError, match=r"float32 \[99, 3\]: labels of 100 images are wanted"):
        of(path)
    with (tmp_path / "given-labels.npy").open("wb") as file:
        np.savez(file, np.zeros((100, 3), np.float32))
    with pytest.raises(InputError, match="is no readable file of labels"):
        of(path)


def test_a_record_with_a_wrong_crc_is_refused_by_name(tmp_path):
    path = encoded_records(tmp_path / "given", bad=False)
    data = bytearray(path.read_bytes())
    data[data.index(files()[7]) + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="'000007': its CRC is wrong"):
        of(path)


def test_a_source_is_read_from_another_process_as_from_this_one(tmp_path):
    import pickle

    for make in (shards, parquet, saved_to_disk, tfrecords, lsun):
        source = open_source(make(tmp_path / make.__name__, bad=False))
        assert source.size(3) == (SIDE, SIDE)
        copy = pickle.loads(pickle.dumps(source))
        first, other = source.read(3), copy.read(3)
        same = first == other if isinstance(first, bytes) else first.image == other.image
        assert same
        source.close()
        copy.close()
    assert isinstance(open_source(tmp_path / "shards"), Joined)
