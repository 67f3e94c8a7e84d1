"""What a user may give as a data set, and what any images become."""

import os
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from making import (
    Memory,
    encoded,
    noise,
    noise_files,
    prepared,
    recipe_of,
    truncated_png,
    write_files,
    zip_of,
)

from pgvae.data import load_images, open_dataset, prepared_in
from pgvae.data.recipes import Split, folder
from pgvae.errors import CorruptFileError, InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with one set, `mine`."""
    prepared(recipe_of(Memory(noise_files(4)), "mine"), tmp_path / "root")
    return tmp_path / "root"


def opened(what: object, root: Path, **options):
    said: list[str] = []
    return open_dataset(str(what), root, say=said.append, **options), said


# Prepared sets


def test_a_prepared_set_is_opened_by_name_and_by_path(root, tmp_path):
    by_name, said = opened("mine", root)
    by_path, _ = opened(root / "mine", tmp_path / "other root")
    assert by_name.digest == by_path.digest
    assert said == []


def test_only_finished_sets_are_listed(root):
    (root / "half.tmp" / "0004").mkdir(parents=True)
    (root / "other").mkdir()
    assert prepared_in(root) == ["mine"]
    assert prepared_in(root / "nothing") == []


def test_a_set_that_may_not_be_looked_into_is_not_said_to_be_missing(root, monkeypatch):
    monkeypatch.setattr(os, "access", lambda what, mode: Path(what) != root / "mine")
    assert prepared_in(root) == ["mine"]
    for what in ("mine", root / "mine"):
        with pytest.raises(InputError, match="mine may not be read"):
            opened(what, root)


def test_a_half_prepared_name_or_path_is_refused(root):
    (root / "half.tmp" / "0004").mkdir(parents=True)
    with pytest.raises(InputError, match=r"half-prepared .*`pgvae data prepare half`"):
        opened("half", root)
    (root / "mine/manifest.json").unlink()
    assert prepared_in(root) == ["mine"]
    for what in ("mine", root / "mine"):
        with pytest.raises(CorruptFileError, match=r"manifest\.json is gone"):
            opened(what, root)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mina", "did you mean 'mine'"),
        ("else", "known: mine"),
        ("", "no data set is given"),
        ("no/such/folder", "the nearest that exists"),
        ("photos.zip", "the nearest that exists"),
        ("celebahq", r"`pgvae data prepare celebahq --source FOLDER_OR_ZIP --data-root .*/root`$"),
        ("celeba", r"`pgvae data prepare celeba --source FOLDER --data-root .*/root`$"),
        ("avatars", r"`pgvae data prepare avatars --resolution 64 --count 10000 --data-root .*`$"),
    ],
)
def test_what_is_not_there_is_refused_with_a_hint(root, name, hint):
    with pytest.raises(InputError, match=hint):
        opened(name, root)


def test_a_name_in_an_empty_root_says_how_to_prepare_it(tmp_path):
    with pytest.raises(InputError, match=r"nothing is prepared.*`pgvae data prepare PATH --name x"):
        opened("x", tmp_path)


# Plain images


@pytest.mark.parametrize("packed", [False, True])
def test_plain_images_are_prepared_on_first_use_and_reused(root, tmp_path, packed):
    files = noise_files(6, seed=2)
    path = write_files(tmp_path / "photos", files)
    if packed:
        path = zip_of(tmp_path / "photos.zip", *files.items())
    first, said = opened(path, root)
    assert len(said) == 1
    assert first.name.startswith("photos-")
    assert len(first) == 6
    assert len(first.split("val")) == 1
    again, said = opened(path, root)
    assert said == []
    assert again.path == first.path
    assert prepared_in(root) == sorted(["mine", first.name])


def test_another_resolution_is_another_set(root, tmp_path):
    path = write_files(tmp_path / "photos", noise_files(6))
    large, _ = opened(path, root)
    small, _ = opened(path, root, resolution=8)
    assert (large.resolutions[-1], small.resolutions[-1]) == (16, 8)
    assert large.path != small.path


@pytest.mark.parametrize("change", ["new", "removed", "content", "labels"])
def test_a_changed_folder_is_a_new_set(root, tmp_path, change):
    path = write_files(tmp_path / "photos", noise_files(6))
    first, _ = opened(path, root)
    time.sleep(0.01)
    if change == "new":
        write_files(path, {"new.png": encoded(noise(99, 16, 16))})
    elif change == "removed":
        (path / "000.png").unlink()
    elif change == "content":
        write_files(path, {"000.png": encoded(noise(99, 16, 16))})
    else:
        pairs = ",".join(f'["{name}", 0]' for name in noise_files(6))
        write_files(path, {"dataset.json": f'{{"labels": [{pairs}]}}'.encode()})
    second, said = opened(path, root)
    assert second.path != first.path
    assert len(said) >= 1
    assert second.digest != first.digest


@pytest.mark.parametrize("name", ["my photos", "Zoë", "v1.2", ".hidden", "new\nline", "a" * 200,
                                  os.fsdecode(b"caf\xe9")])  # fmt: skip
def test_a_folder_of_any_name_can_be_used(root, tmp_path, name):
    store, said = opened(write_files(tmp_path / name, noise_files(3)), root)
    assert (len(store), len(said)) == (3, 1)
    assert store.path.parent == root
    assert store.name in prepared_in(root)


def test_an_empty_folder_and_a_text_are_refused(root, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(InputError, match="holds no images"):
        opened(tmp_path / "empty", root)
    with pytest.raises(InputError, match="neither a folder nor a zip"):
        opened(tmp_path / "notes.txt", root)


# A name, or a folder of that name


@pytest.fixture
def beside(tmp_path: Path, monkeypatch) -> Path:
    """A folder `photos` in the working folder, prepared as `photos` in `datasets`."""
    monkeypatch.chdir(tmp_path)
    path = write_files(tmp_path / "photos", noise_files(6))
    prepared(folder("photos", path, Split()), tmp_path / "datasets", resolution=8)
    return path


LOOKS = ["photos/", "./photos", "../{}/photos"]


@pytest.mark.parametrize("look", LOOKS)
def test_a_path_means_the_folder_as_it_is_now(beside, look):
    look = look.format(beside.parent.name)
    before, said = opened(look, Path("datasets"))
    assert (before.name, len(before)) == ("photos", 6)
    assert said == [f"{Path(look)} is prepared as datasets/photos"]
    write_files(beside, noise_files(9))
    after, _ = opened(look, Path("datasets"))
    assert (len(after), after.resolutions[-1]) == (9, 16)
    assert after.name.startswith("photos-")


def test_a_name_means_the_set_and_says_so_where_the_folder_has_changed(beside):
    assert opened("photos", Path("datasets"))[1] == []
    write_files(beside, noise_files(9))
    store, (said,) = opened("photos", Path("datasets"))
    assert (store.name, len(store)) == ("photos", 6)
    assert said.startswith("datasets/photos is taken, not photos")
    assert said.endswith("./photos takes them")


def test_another_folder_of_that_name_without_images_is_no_news(beside):
    for file in beside.iterdir():
        file.unlink()
    assert opened("photos", Path("datasets"))[1] == []


def test_a_resolution_that_the_set_has_not_is_prepared(beside):
    store, _ = opened("photos/", Path("datasets"), resolution=16)
    assert store.resolutions[-1] == 16
    assert opened("photos/", Path("datasets"), resolution=4)[0].name == "photos"


def test_a_set_and_its_path_are_never_prepared_anew(beside):
    for path in ("datasets/photos", "./datasets/photos/"):
        store, said = opened(path, Path("datasets"))
        assert (store.name, said) == ("photos", [])


# First use


def test_of_two_first_uses_the_second_waits_and_takes_what_the_first_made(tmp_path):
    path, root = write_files(tmp_path / "photos", noise_files(6)), tmp_path / "root"
    said, waits, stores = [], threading.Event(), []

    def use(say):
        stores.append(open_dataset(str(path), root, say=say))

    second = threading.Thread(target=use, args=(lambda line: (said.append(line), waits.set()),))

    def first(line):
        if line.startswith("warning") and not second.is_alive():  # said with the lock held
            second.start()
            while not any(line.startswith("waiting") for line in said):
                assert waits.wait(30)
                waits.clear()

    write_files(path, {"small.png": encoded(noise(0, 8, 8))})
    use(first)
    second.join(30)
    assert stores[0].path == stores[1].path
    assert said[-1].startswith(f"waiting for another process, which prepares {stores[0].path}")
    assert prepared_in(root) == [stores[0].name]


def test_what_first_use_cannot_do_is_said_of_the_command_that_can(tmp_path):
    path = write_files(tmp_path / "photos", noise_files(3) | {"bad.png": b""})
    with pytest.raises(
        InputError, match=r"use --skip-bad: options of `pgvae data prepare .*photos"
    ):
        opened(path, tmp_path / "root")
    assert len(prepared(folder("photos", path, Split()), tmp_path / "root", skip_bad=True)) == 3
    store, _ = opened(path, tmp_path / "root")
    assert (store.name, len(store)) == ("photos", 3)


# load_images


def test_files_folders_and_zips_are_loaded_in_order(tmp_path):
    arrays = [noise(i, 8, 8) for i in range(4)]
    folder = write_files(
        tmp_path / "in", {"b.png": encoded(arrays[1]), "a.png": encoded(arrays[0])}
    )
    zip_of(tmp_path / "a.zip", ("z.png", encoded(arrays[2])))
    (tmp_path / "one.jpg").write_bytes(encoded(arrays[3]))  # a PNG, whatever its name
    paths = [folder, tmp_path / "a.zip", str(tmp_path / "one.jpg")]
    pixels, names = load_images(paths, 8)
    assert names == ["a.png", "b.png", "z.png", str(tmp_path / "one.jpg")]
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.stack(arrays).transpose(0, 3, 1, 2))


def test_loaded_images_are_fitted_and_enlarged(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise(0, 6, 9)))
    assert load_images([tmp_path / "a.png"], 32)[0].shape == (1, 3, 32, 32)
    assert load_images([tmp_path / "a.png"], 32, channels=1)[0].shape == (1, 1, 32, 32)
    padded, _ = load_images([tmp_path / "a.png"], 9, crop="pad")
    assert (padded[0, :, 0] == 255).all()


@pytest.mark.parametrize("data", [b"", b"text", truncated_png(16)])
def test_a_file_that_cannot_be_loaded_is_named(tmp_path, data):
    write_files(tmp_path, {"good.png": encoded(noise(0, 8, 8)), "wrong.png": data})
    for path in (tmp_path, tmp_path / "wrong.png"):
        with pytest.raises(InputError, match=r"wrong\.png"):
            load_images([path], 8)


@pytest.mark.parametrize("options", [{"resolution": 0}, {"resolution": 8, "channels": 2}])
def test_images_of_no_pixels_or_channels_are_refused(tmp_path, options):
    with pytest.raises(InputError, match=r"(resolution is 0|channels are 2): give"):
        load_images([tmp_path], **options)


def test_nothing_to_load_is_refused(tmp_path):
    with pytest.raises(InputError, match="no images are given"):
        load_images([], 8)
    with pytest.raises(InputError, match="the nearest that exists"):
        load_images([tmp_path / "no.png"], 8)


def test_what_no_system_can_read_is_one_line(tmp_path):
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/circle.png").symlink_to("circle.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", encoded(noise(0, 32, 32)))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[200:260] = bytes(byte ^ 0xFF for byte in data[200:260])
    (tmp_path / "a.zip").write_bytes(data)
    paths = ["circle.png", "in", "in/circle.png", "a.zip", "x" * 300, "y/" * 3000, "a.png/b.png"]
    for path in paths:
        with pytest.raises(InputError) as caught:
            load_images([tmp_path / path], 8)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError):
            opened(tmp_path / path, tmp_path / "root")
        with pytest.raises(InputError):
            opened(path, tmp_path / "root")
