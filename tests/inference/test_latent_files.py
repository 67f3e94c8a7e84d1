"""Latents in files of NumPy."""

import io
import zipfile

import numpy as np
import pytest
import torch

from pgvae.errors import InputError
from pgvae.inference.latents import load_latents, save_latents


@pytest.mark.parametrize("name", ["z.npz", "z.npy"])
def test_latents_come_back_as_they_were(name, tmp_path):
    latents = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    save_latents(tmp_path / name, latents, ["a", "b", "\u00fc.png"])
    again, names = load_latents(tmp_path / name, 4)
    assert torch.equal(again, latents)
    assert names == (["a", "b", "\u00fc.png"] if name == "z.npz" else [])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_any_numbers_under_any_name_are_latents(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.ones((2, 3), np.int64))
    np.savez(tmp_path / "b.npz", latents=np.ones((2, 3), np.float16), other=np.zeros(7))
    for name in ("a.npz", "b.npz"):
        assert torch.equal(load_latents(tmp_path / name, 3)[0], torch.ones(2, 3))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 5)), r"has float64 \[2, 5\]: latents of this model are numbers \[N, 4\]"),
        (np.zeros(4), r"has float64 \[4\]"),
        (np.zeros((0, 4)), r"has float64 \[0, 4\]"),
        (np.array([["a"] * 4]), r"has <U1 \[1, 4\]"),
        (np.full((1, 4), np.nan), "not finite"),
        (np.full((1, 4), 1e300), "not finite"),
        (np.zeros((1, 4), object), "is damaged, or of another kind"),
    ],
)
def test_other_arrays_are_refused(array, words, tmp_path):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=words):
        load_latents(tmp_path / "a.npy", 4)


@pytest.mark.parametrize("content", [b"", b"no", b"PK\x03\x04 no", b"\x93NUMPY\x01\x00v\x00"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_what_is_no_file_of_numpy_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="is damaged, or of another kind"):
        load_latents(tmp_path / name, 4)


def test_names_that_cannot_be_of_files_are_made_so(tmp_path):
    save_latents(tmp_path / "a.npz", torch.ones(2, 3), ["a\0b.png", "two\nlines.png"])
    assert load_latents(tmp_path / "a.npz", 3)[1] == ["a_b.png", "two_lines.png"]


def npy_of(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """A file of NumPy that says it has such an array of float32."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + data


def packed(data: bytes, name: str = "latents.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def changed(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


DATA = packed(npy_of((2, 4), bytes(range(32))))
LOCKED = changed(DATA, DATA.index(b"PK\x01\x02") + 8, 1)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", changed(DATA, 60, 255), "damaged"),
        ("a.npz", LOCKED, "damaged"),
        ("a.npz", packed(npy_of((1 << 45, 4))), "damaged"),
        ("a.npz", packed(npy_of((1 << 20, 4), bytes(1 << 24))), "unpacks to 16,777,344 bytes"),
        ("a.npz", packed(b"no array", "latents"), r"has \|S8 \[\]"),
        ("a.npy", npy_of((1 << 45, 4)), "damaged"),
        ("a.npy", npy_of((2, 4)).replace(b"), }", b"( , }"), "damaged"),
    ],
)
def test_damaged_and_dishonest_files_are_refused(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_latents(tmp_path / name, 4)


def test_arrays_without_latents_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.ones((2, 3)), v=np.ones((2, 3)))
    np.savez(tmp_path / "b.npz")
    for name, words in (("a.npz", "it has w, v"), ("b.npz", "it has nothing")):
        with pytest.raises(InputError, match=words):
            load_latents(tmp_path / name, 3)
    with pytest.raises(InputError, match="no such file of latents"):
        load_latents(tmp_path / "c.npz", 3)
