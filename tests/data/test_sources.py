"""Folders and zips: any name, nothing from outside, nothing hostile."""

import json
import os
import pickle
import time
from pathlib import Path

import pytest
from making import encoded, noise, noise_files, write_files, write_tar, zip_of

from pgvae.data.containers.tars import TarSource
from pgvae.data.images import RejectError
from pgvae.data.sources import FolderSource, ZipSource, open_source, printable
from pgvae.errors import InputError

PICTURE = encoded(noise(0, 8, 8))


# Names


@pytest.mark.parametrize(
    "name",
    [
        "plain.png",
        "Zoë Ångström.png",
        "顔/一.png",
        "new\nline.png",
        "tab\tand 'quotes\".png",
        "UPPER.PNG",
        "no.dots_0001.x.jpg",
        "-dash.png",
    ],
)
def test_a_folder_reads_a_file_of_any_name(tmp_path, name):
    source = FolderSource(write_files(tmp_path / "in", {name: PICTURE, "z.png": b"other"}))
    assert source.read(source.names.index(name)) == PICTURE
    assert len(source.names) == 2
    assert source.skipped == []


def test_a_name_that_is_not_utf8_is_read_and_can_be_printed(tmp_path):
    (tmp_path / "in").mkdir()
    with open(os.fsencode(tmp_path / "in") + b"/caf\xe9.png", "wb") as file:  # noqa: PTH123
        file.write(PICTURE)
    source = FolderSource(tmp_path / "in")
    assert source.read(0) == PICTURE
    (name,) = source.names
    assert name.startswith("caf")
    assert json.loads(json.dumps(source.names)) == [name.encode("utf-8").decode("utf-8")]
    assert len(source.fingerprint()) == 64
    assert printable("Zoë\n顔.png") == "Zoë\n顔.png"


def test_files_are_in_order_of_their_paths_and_others_are_left_alone(tmp_path):
    names = ["b/2.png", "a.png", "b/1.jpg", "notes.txt", "c.csv", "b/x/0.webp"]
    for folder, order in (("one", names), ("two", names[::-1])):  # whenever they were made
        source = FolderSource(write_files(tmp_path / folder, dict.fromkeys(order, b"x")))
        assert source.names == ["a.png", "b/1.jpg", "b/2.png", "b/x/0.webp"]


def test_a_zip_reads_unicode_and_newline_names(tmp_path):
    names = ["顔/一.png", "Zoë.png", "new\nline.png"]
    path = zip_of(tmp_path / "a.zip", *((n, n.encode() + PICTURE) for n in names), ("t.txt", b"x"))
    source = ZipSource(path)
    assert source.names == sorted(names)
    for index, name in enumerate(source.names):
        assert source.read(index) == name.encode() + PICTURE
    assert source.side_file("t.txt") == b"x"
    assert source.side_file("nothing.json") is None
    source.close()


def test_what_macos_leaves_is_no_image(tmp_path):
    names = ["a.png", "._a.png", "__MACOSX/._a.png", ".hidden/b.png"]
    folder = write_files(tmp_path / "in", dict.fromkeys(names, PICTURE))
    archive = zip_of(tmp_path / "a.zip", *((name, PICTURE) for name in names))
    assert FolderSource(folder).names == ZipSource(archive).names == ["a.png"]


def test_hidden_images_and_those_in_hidden_folders_are_named_and_nothing_else_in_them(tmp_path):
    images = [".hid/b.png", "in/.cache/x/c.JPG", ".ipynb_checkpoints/d.psd", "lost+found/e.gif"]
    images += [".own.png", ".x/.y.png"]
    others = [".git/objects/00", "in/.cache/n.txt", "__MACOSX/._a.png", "._a.png", ".hid/l.csv"]
    files = dict.fromkeys(["a.png", *images, *others], PICTURE)
    folder = FolderSource(write_files(tmp_path / "in", files))
    sources = [
        folder,
        ZipSource(zip_of(tmp_path / "a.zip", *files.items())),
        TarSource(write_tar(tmp_path / "a.tar", files)),
    ]
    for source in sources:
        assert [*source.names] == ["a.png"]
        assert sorted(entry["name"] for entry in source.skipped) == sorted(images)
        assert {entry["reason"] for entry in source.skipped} == {
            "hidden, by its own name or its folder's"
        }
    inner = FolderSource(tmp_path / "in/.hid")  # asked for by its name
    assert (inner.names, inner.skipped) == (["b.png"], [])
    for name in images:
        (tmp_path / "in" / name).unlink()
    assert FolderSource(tmp_path / "in").skipped == []


def test_a_hidden_folder_is_not_read_nor_looked_through_for_long(tmp_path, monkeypatch):
    files = {f".hid/{i}{end}": b"" for i in range(30) for end in (".png", "")}
    folder = write_files(tmp_path / "in", files | {"a.png": PICTURE})
    monkeypatch.setattr("pgvae.data.sources._MAX_LISTED", 10)
    monkeypatch.setattr("pgvae.data.sources._start_of", lambda path: pytest.fail(str(path)))
    write_files(folder / ".far", {f"{i}": b"" for i in range(30)} | {"below/b.png": b""})
    source = FolderSource(folder)
    assert 0 < len(source.skipped) <= 10
    assert ".far/below/b.png" not in {entry["name"] for entry in source.skipped}
    (folder / "a.png").unlink()
    with pytest.raises(InputError, match=r"no images but \d+ left out: hidden, by its own name"):
        open_source(folder)


def test_a_zip_takes_what_its_folder_does(tmp_path):
    files = {
        "picture": PICTURE,
        "photo.of.1999": encoded(noise(0, 8, 8), "BMP"),
        "x.heif": b"",
        "sub/y.TGA": b"tga",
        "raw": encoded(noise(0, 8, 8), "TIFF"),
        "notes": b"text",
        "labels.csv": b"name",
        "sub/dataset.json": b"{}",
        "trimaps/picture.png": PICTURE,
    }
    folder = FolderSource(write_files(tmp_path / "in", files))
    archive = ZipSource(zip_of(tmp_path / "a.zip", *files.items(), deflate=True))
    assert folder.names == ["photo.of.1999", "picture", "raw", "sub/y.TGA", "x.heif"]
    assert folder.tables == ["labels.csv", "sub/dataset.json"]
    assert [entry["name"] for entry in folder.skipped] == ["trimaps/picture.png"]
    for what in ("names", "tables", "skipped"):
        assert getattr(archive, what) == getattr(folder, what)


def test_the_size_of_an_image_is_that_of_its_header(tmp_path):
    picture = encoded(noise(0, 5, 9))
    folder = write_files(tmp_path / "in", {"a.png": picture})
    archive = zip_of(tmp_path / "a.zip", ("a.png", picture))
    assert FolderSource(folder).size(0) == ZipSource(archive).size(0) == (9, 5)


# Links


def test_a_link_out_of_the_folder_is_skipped_and_listed(tmp_path):
    write_files(tmp_path, {"in/own.png": PICTURE, "out/secret.png": b"secret"})
    (tmp_path / "in/leak.png").symlink_to(tmp_path / "out/secret.png")
    (tmp_path / "in/up.png").symlink_to("../out/secret.png")
    (tmp_path / "in/again.png").symlink_to("own.png")
    (tmp_path / "in/more").symlink_to(tmp_path / "out")  # a folder, which is not entered
    source = FolderSource(tmp_path / "in")
    assert source.names == ["again.png", "own.png"]
    assert sorted(s["name"] for s in source.skipped) == ["leak.png", "more/secret.png", "up.png"]
    assert all("link out of the folder" in s["reason"] for s in source.skipped)


def test_where_only_links_lead_out_their_number_and_a_way_are_said(tmp_path):
    write_files(tmp_path / "out", noise_files(3) | {"notes.txt": b"text"})
    (tmp_path / "in").mkdir()
    for file in (tmp_path / "out").iterdir():
        (tmp_path / "in" / file.name).symlink_to(file)
    with pytest.raises(InputError, match="3 left out: link out of the folder; `cp -rL`"):
        open_source(tmp_path / "in")


def test_links_in_a_circle_are_images_that_cannot_be_read(tmp_path):
    write_files(tmp_path / "in", {"own.png": PICTURE})
    (tmp_path / "in/a.png").symlink_to("b.png")
    (tmp_path / "in/b.png").symlink_to("a.png")
    (tmp_path / "in/no-image").symlink_to("no-image")
    (tmp_path / "in/sub").symlink_to(".")
    source = FolderSource(tmp_path / "in")
    assert source.names == ["a.png", "b.png", "own.png"]
    with pytest.raises(OSError, match="symbolic links"):
        source.read(0)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="no such folder or file"):
        open_source(tmp_path / "circle")


def unlistable(monkeypatch, folder):
    """`os.walk` as it is where that folder gives no right to list it (root always has it)."""
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_side_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    source = FolderSource(write_files(tmp_path, {"a.png": PICTURE, "dataset.json": b"{}"}))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"dataset\.json cannot be read: Permission denied"):
        source.side_file("dataset.json")
    assert source.side_file("other.json") is None


def test_a_folder_that_cannot_be_listed_is_an_image_that_cannot_be_read(tmp_path, monkeypatch):
    write_files(tmp_path, {"a.png": PICTURE, "secret/b.png": PICTURE, "lost+found/c.png": PICTURE})
    unlistable(monkeypatch, tmp_path / "secret")
    source = FolderSource(tmp_path)
    assert source.names == ["a.png", "secret"]
    with pytest.raises(RejectError, match="a folder that cannot be listed"):
        source.read(1)
    unlistable(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path} cannot be listed: Permission denied"):
        FolderSource(tmp_path)


def test_a_folder_reached_by_a_link_is_read(tmp_path):
    write_files(tmp_path, {"real/own.png": PICTURE})
    (tmp_path / "alias").symlink_to("real")
    source = FolderSource(tmp_path / "alias")
    assert source.names == ["own.png"]
    assert source.read(0) == PICTURE


def test_a_link_to_nothing_has_a_fingerprint_and_cannot_be_read(tmp_path):
    (tmp_path / "dangling.png").symlink_to("nothing.png")
    source = FolderSource(tmp_path)
    assert len(source.fingerprint()) == 64
    with pytest.raises(OSError, match=r"nothing|dangling"):
        source.read(0)


def test_a_pipe_named_like_an_image_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    source = FolderSource(tmp_path)
    for look in (source.read, source.size):
        with pytest.raises(RejectError, match="not a file"):
            look(0)


# What is no source


def test_a_folder_or_zip_without_images_is_refused(tmp_path):
    for path in (tmp_path, zip_of(tmp_path / "a.zip", ("readme.txt", b"x"))):
        with pytest.raises(InputError, match="holds no images"):
            open_source(path)


def test_a_missing_folder_names_the_nearest_that_exists(tmp_path):
    wrong = tmp_path / "there" / "photos" / "mine"
    wrong.parent.parent.mkdir()
    with pytest.raises(InputError) as caught:
        open_source(wrong)
    assert str(wrong) in str(caught.value)
    assert str(caught.value).endswith(f"the nearest that exists is {wrong.parent.parent})")


@pytest.mark.parametrize("name", ["x" * 300, "y/" * 3000, "a\0b"])
def test_a_path_that_no_system_takes_is_not_there(tmp_path, name):
    with pytest.raises(InputError, match="the nearest that exists"):
        open_source(tmp_path / name)


@pytest.mark.parametrize("data", [b"just a text\n", b""])
def test_a_file_that_is_no_zip_is_refused(tmp_path, data):
    path = tmp_path / "images.zip"
    path.write_bytes(data)
    with pytest.raises(InputError, match="neither a folder nor a zip"):
        open_source(path)


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.99])
def test_a_truncated_zip_is_refused(tmp_path, cut):
    path = zip_of(tmp_path / "a.zip", *noise_files(5).items())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(InputError):
        open_source(path)


# Copies and changes


@pytest.mark.parametrize("packed", [False, True])
def test_a_source_sent_to_another_process_reads_the_same(tmp_path, packed):
    files = noise_files(3)
    path = (
        zip_of(tmp_path / "a.zip", *files.items())
        if packed
        else write_files(tmp_path / "in", files)
    )
    source = open_source(path)
    source.read(0)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.names == source.names == list(files)
    assert [copy.read(i) for i in range(3)] == list(files.values())


@pytest.mark.parametrize("packed", [False, True])
def test_the_fingerprint_changes_with_the_files_and_only_then(tmp_path, packed):
    def make(files):
        if packed:
            return zip_of(tmp_path / "a.zip", *files.items())
        return write_files(tmp_path / "in", files)

    files = noise_files(3)
    first = open_source(make(files)).fingerprint()
    assert open_source(tmp_path / ("a.zip" if packed else "in")).fingerprint() == first
    time.sleep(0.01)
    assert open_source(make({**files, "new.png": PICTURE})).fingerprint() != first
    inner = open_source(make({**files, "new.png": PICTURE, "a/dataset.json": b"{}"})).fingerprint()
    assert inner != open_source(make({**files, "a/dataset.json": b"[] "})).fingerprint()
    second = open_source(make({**files, "dataset.json": b"{}"})).fingerprint()
    assert second not in (
        first,
        open_source(make({**files, "dataset.json": b"[]   "})).fingerprint(),
    )
