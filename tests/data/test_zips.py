"""Zips: whoever packed them, nothing hostile, and damage is of one entry."""

import stat
import zipfile

import pytest
from making import encoded, noise, zip_of

from pgvae.data.images import RejectError
from pgvae.data.sources import ZipSource, open_source
from pgvae.errors import InputError

PICTURE = encoded(noise(0, 8, 8))


def special(name: str, kind: int) -> zipfile.ZipInfo:
    """An entry that is no plain file."""
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("../out.png", "leads out"),
        ("a/../../out.png", "leads out"),
        ("/etc/out.png", "leads out"),
        ("..\\out.png", "leads out"),
        ("a\\..\\..\\out.png", "leads out"),
        ("\\etc\\out.png", "leads out"),
        ("\\\\server\\out.png", "leads out"),
        ("C:\\out.png", "leads out"),
        ("../notes.txt", "leads out"),
        (special("link.png", stat.S_IFLNK), "a link or device"),
        (special("device.png", stat.S_IFCHR), "a link or device"),
    ],
    ids=range(11),
)
def test_a_zip_with_a_hostile_entry_is_refused_by_its_name(tmp_path, entry, reason):
    path = zip_of(tmp_path / "a.zip", ("good.png", PICTURE), (entry, b"/etc/passwd"))
    with pytest.raises(InputError, match=reason) as caught:
        ZipSource(path)
    name = entry if isinstance(entry, str) else entry.filename
    assert repr(name) in str(caught.value)


def test_a_zip_of_windows_is_read_as_one_of_slashes(tmp_path):
    files = {
        "a/0.png": encoded(noise(0, 8, 8)),
        "a/b/1": encoded(noise(1, 8, 4)),
        "c/2.png": encoded(noise(2, 8, 8)),
        ".hid/3.png": PICTURE,
        "dataset.json": b"{}",
        "c/labels.csv": b"name",
        "c/dataset.json": b"[]",
        "trimaps/0.png": PICTURE,
    }
    slashes = ZipSource(zip_of(tmp_path / "a.zip", ("c/", b""), *files.items()))
    backslashes = {name.replace("/", "\\"): data for name, data in files.items()}
    windows = ZipSource(zip_of(tmp_path / "b.zip", ("c\\", b""), *backslashes.items()))
    assert windows.names == slashes.names == ["a/0.png", "a/b/1", "c/2.png"]
    for what in ("tables", "skipped"):
        assert getattr(windows, what) == getattr(slashes, what)
    for i, name in enumerate(windows.names):
        assert windows.read(i) == files[name]
        assert windows.size(i) == slashes.size(i)
    for name in ("c/dataset.json", "dataset.json", "nothing.json"):
        assert windows.side_file(name) == slashes.side_file(name)
    assert windows.columns().classes == slashes.columns().classes == {"class": ("a", "c")}


def test_names_that_fall_together_on_windows_are_one_name_twice(tmp_path):
    path = zip_of(tmp_path / "a.zip", ("a/0.png", PICTURE), ("a\\0.png", PICTURE))
    with pytest.raises(InputError, match=r"holds a name twice: 'a\\\\0\.png'; refused"):
        ZipSource(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zip_of(tmp_path / "a.zip", ("secret.png", PICTURE))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"encrypted file: 'secret\.png'"):
        ZipSource(path)


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path):
    path = zip_of(tmp_path / "a.zip", ("bomb.png", bytes(20 << 20)), deflate=True)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="unpacks to far more"):
        ZipSource(path)


def test_a_flat_picture_that_deflates_well_is_no_bomb(tmp_path):
    path = zip_of(tmp_path / "a.zip", ("flat.bmp", bytes(1 << 20)), deflate=True)
    assert ZipSource(path).names == ["flat.bmp"]


def test_a_damaged_entry_is_an_error_of_reading_that_one(tmp_path):
    path = zip_of(tmp_path / "a.zip", ("a.png", PICTURE), ("b.png", PICTURE))
    data = bytearray(path.read_bytes())
    data[data.index(PICTURE) + 60] ^= 1
    path.write_bytes(data)
    source = ZipSource(path)
    assert source.read(1) == PICTURE
    with pytest.raises(RejectError, match="CRC"):
        source.read(0)
    source.close()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("start", [10, 40, 200])
def test_damage_of_any_compression_is_an_error_of_reading(tmp_path, method, start):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.png", PICTURE * 20)
        archive.writestr("b.png", PICTURE)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    begin = data.index(b"a.png") + start
    data[begin : begin + 30] = bytes(byte ^ 0xFF for byte in data[begin : begin + 30])
    (tmp_path / "a.zip").write_bytes(data)
    source = ZipSource(tmp_path / "a.zip")
    with pytest.raises((RejectError, OSError)):
        source.read(0)
    assert source.read(1) == PICTURE
    source.close()


def test_zips_that_were_joined_or_cut_lose_no_image_silently(tmp_path):
    one, two = (
        zip_of(tmp_path / f"{name}.zip", (f"{name}.png", PICTURE)).read_bytes() for name in "ab"
    )
    for name, data, words in (
        ("joined", one + two, "has files before the first that it lists"),
        ("cut", one[:-30], "is no whole zip"),
    ):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(data)
        with pytest.raises(InputError, match=words):
            open_source(path)
    path = tmp_path / "program.zip"
    path.write_bytes(b"#!/bin/sh\n" * 9 + one)
    assert open_source(path).names == ["a.png"]


def test_a_zip_with_one_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zip_of(tmp_path / "a.zip", ("a.png", PICTURE), ("a.png", PICTURE))
    with pytest.raises(InputError, match=r"twice: 'a\.png'"):
        ZipSource(path)
