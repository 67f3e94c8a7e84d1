"""Files of many images that are not what they say, or more than they seem: refused in a line."""

import tarfile

import numpy as np
import pytest
from making import noise_files, write_files, write_tar

from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder
from pgvae.data.sources import open_source
from pgvae.errors import InputError

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("google_crc32c", reason="google-crc32c is not installed")

import h5py
import packing
import pyarrow.parquet
from packing import files


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.tar", b"no tar" * 200, "is no readable tar"),
        ("a.tar.gz", b"\x1f\x8b", "packed as a whole"),
        ("a.parquet", b"PAR1 and no more", "is no readable Parquet file"),
        ("a.arrow", b"ARROW1 and no more", "is no readable Arrow file"),
        ("a.h5", b"\x89HDF\r\n\x1a\n and no more", "is no readable HDF5 file"),
        ("a.tfrecord", b"no record of any kind", "is damaged at byte 0"),
        ("data.mdb", bytes(9000), "is damaged: its meta page"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_refused(tmp_path, name, data, words):
    write_files(tmp_path, {name: data})
    with pytest.raises(InputError, match=words):
        open_source(tmp_path / name)


def test_a_tar_that_is_damaged_within_does_not_lose_its_rest_silently(tmp_path):
    path = write_tar(tmp_path / "a.tar", noise_files(6))
    data = bytearray(path.read_bytes())
    third = data.index(b"003.png")
    data[third + 148 : third + 156] = b"notasum\0"
    path.write_bytes(data)
    with pytest.raises(InputError, match="is damaged after 3 files"):
        open_source(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data, at: data[:at] + bytes(1024) + data[at + 1024 :], "goes on behind it"),
        (lambda data, at: data + data.replace(b"00", b"11"), "goes on behind it"),
        (lambda data, at: data[:at], "ends without a mark of its end, after 3 files"),
        (lambda data, at: data[: at + 511], "ends without a mark of its end|is damaged"),
    ],
)
def test_a_tar_with_a_hole_or_another_behind_or_no_end_does_not_lose_files(tmp_path, change, words):
    path = write_tar(tmp_path / "a.tar", noise_files(6))
    with tarfile.open(path) as archive:
        third = archive.getmembers()[3].offset
    path.write_bytes(change(path.read_bytes(), third))
    with pytest.raises(InputError, match=words):
        open_source(path)


def test_arrow_files_that_were_cut_between_batches_or_joined_lose_no_row_silently(tmp_path):
    table = packing.hugging_face_table(files(), packing.CLASS_OF)
    path = packing.write_arrow(tmp_path / "a.arrow", table)
    assert len(open_source(path).names) == 100
    whole, ends = path.read_bytes(), []
    with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_stream(mapped) as stream:
        for _ in stream:
            ends.append(mapped.tell())
    for cut in ends:
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"a\.arrow has no end"):
            open_source(path)
    path.write_bytes(whole + whole)
    with pytest.raises(InputError, match="goes on behind its end"):
        open_source(path)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as to:
        to.write_table(table)
    assert len(open_source(path).names) == 100
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="goes on behind its end"):
        open_source(path)


def test_a_numbered_file_that_is_not_there_is_said(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in (0, 2):
        data = noise_files(4, seed=i)
        write_tar(tmp_path / "in" / f"a-{i:05d}-of-00003.tar", data)
    store = prepare(folder("in", tmp_path / "in", Split()), Options(workers=1), tmp_path / "root")
    assert len(store) == 8
    said = "warning: 1 of the 3 files a-*-of-00003.tar is not there"
    assert said in capsys.readouterr().out


def test_a_tar_with_links_or_one_name_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match=r"holds a link or device: 'a\.png'; refused"):
        open_source(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
        archive.addfile(tarfile.TarInfo("./a.png"))
    with pytest.raises(InputError, match="holds a name twice"):
        open_source(tmp_path / "b.tar")


def test_what_unpacks_to_far_more_than_it_is_is_refused_unread(tmp_path):
    with h5py.File(tmp_path / "holes.h5", "w") as file:
        file.create_dataset("x", (10**7, 3, 1024, 1024), np.uint8)
    with pytest.raises(InputError, match=r"it unpacks to 31,457,280,000,000 bytes: refused"):
        open_source(tmp_path / "holes.h5")
    table = pyarrow.table({"image": [bytes(30 << 20)]})
    pyarrow.parquet.write_table(table, tmp_path / "zeros.parquet", compression="zstd")
    with pytest.raises(InputError, match=r"it unpacks to 31,\d\d\d,\d\d\d bytes: refused"):
        open_source(tmp_path / "zeros.parquet")


@pytest.mark.parametrize("made", [pyarrow.ipc.new_stream, pyarrow.ipc.new_file])
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_arrow_files_are_read_unless_they_unpack_to_far_more(made, codec, tmp_path):
    options = pyarrow.ipc.IpcWriteOptions(compression=codec)
    words = pyarrow.array(["a", "b"]).dictionary_encode()
    for name, images in {"few": files(2), "zeros": [bytes(30 << 20), b""]}.items():
        table = pyarrow.table({"image": images, "word": words})
        with made(str(tmp_path / f"{name}.arrow"), table.schema, options=options) as writer:
            writer.write_table(table)
    assert open_source(tmp_path / "few.arrow").read(1) == files(2)[1]
    before = pyarrow.total_allocated_bytes()
    # LZ4 packs zeros by 255 at most: 30 MiB of them are refused too.
    with pytest.raises(InputError, match=r"it unpacks to 31,\d\d\d,\d\d\d bytes: refused"):
        open_source(tmp_path / "zeros.arrow")
    assert pyarrow.total_allocated_bytes() - before < 1 << 20


@pytest.mark.parametrize("nested", [False, True])
def test_an_image_of_many_rows_of_parquet_is_in_memory_once(nested, tmp_path):
    image, rows = bytes(100_000), 1_000
    cells = [{"bytes": image, "path": "a"} if nested else image] * rows
    pyarrow.parquet.write_table(pyarrow.table({"image": cells}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    before = pyarrow.total_allocated_bytes()
    assert source.read(rows - 1) == image
    assert pyarrow.total_allocated_bytes() - before < 10 * len(image)


def test_arrays_of_another_file_are_not_read(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros((3, 3, 8, 8), np.uint8)
    layout = h5py.VirtualLayout((3, 3, 8, 8), np.uint8)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3, 3, 8, 8))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    with pytest.raises(InputError, match="it has no arrays"):
        open_source(tmp_path / "a.h5")


def test_a_table_without_images_says_what_it_has(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has no column of images among text, n"):
        open_source(tmp_path / "a.parquet")
