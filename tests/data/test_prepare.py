"""A prepared set is what its images say, and the same each time; a name is used once."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from making import (
    Memory,
    encoded,
    left_in,
    noise,
    noise_files,
    prepared,
    recipe_of,
    truncated_png,
    workers_at_once,
    write_files,
)
from PIL import Image

from pgvae.data import Store
from pgvae.data.labels import Table
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError


def box_mean(top: np.ndarray, side: int) -> np.ndarray:
    """uint8 [H, H, C] -> [C, side, side]: means of boxes, rounded half up."""
    box = top.shape[0] // side
    mean = top.astype(np.float64).reshape(side, box, side, box, -1).mean(axis=(1, 3))
    return np.floor(mean + 0.5).astype(np.uint8).transpose(2, 0, 1)


def prepared_bytes(store: Store) -> list[bytes]:
    pixels = [store.get(i, r).tobytes() for r in store.resolutions for i in range(len(store))]
    return [*pixels, store.labels.tobytes(), store.split("val").tobytes()]


# What is in it


def test_the_store_holds_what_pillow_and_numpy_say(tmp_path):
    arrays = [noise(i, 40, 40 + 8 * (i % 2)) for i in range(5)]
    source = Memory({f"{i}.png": encoded(array) for i, array in enumerate(arrays)})
    store = prepared(recipe_of(source), tmp_path, resolution=32)
    assert store.resolutions == (4, 8, 16, 32)
    assert store.names() == list(source.names)
    for index, array in enumerate(arrays):
        left = (array.shape[1] - 40) // 2
        box = (left, 0, left + 40, 40)
        top = np.asarray(Image.fromarray(array).resize((32, 32), Image.Resampling.LANCZOS, box=box))
        for resolution in store.resolutions:
            np.testing.assert_array_equal(store.get(index, resolution), box_mean(top, resolution))


def test_above_128_px_a_lossless_codec_keeps_every_pixel_and_the_digest(tmp_path):
    array, digests = noise(0, 256, 256), set()
    for codec in ("webp", "png", "raw"):
        recipe = recipe_of(Memory({"a.png": encoded(array)}), codec)
        store = prepared(recipe, tmp_path, codec=codec)
        raw = {str(resolution): "raw" for resolution in (4, 8, 16, 32, 64, 128)}
        assert store.manifest["codecs"] == {**raw, "256": codec}
        for resolution in store.resolutions:
            np.testing.assert_array_equal(store.get(0, resolution), box_mean(array, resolution))
        store.verify()
        digests.add(store.digest)
    assert len(digests) == 1


def test_jpeg_above_128_px_is_close_and_below_is_exact(tmp_path):
    y, x = np.mgrid[:256, :256]
    array = np.stack([y, x, (x + y) // 2], -1).astype(np.uint8)
    store = prepared(recipe_of(Memory({"a.png": encoded(array)})), tmp_path, codec="jpeg")
    close = store.get(0, 256).astype(int) - array.transpose(2, 0, 1)
    assert 0 < np.abs(close).mean() < 2
    np.testing.assert_array_equal(store.get(0, 128), box_mean(array, 128))


def test_a_set_that_keeps_other_pixels_has_another_digest(tmp_path):
    files = {"a.png": encoded(noise(0, 256, 256))}
    stores = [
        prepared(recipe_of(Memory(files), f"{codec}{resolution}"), tmp_path, codec=codec,
                 resolution=resolution)
        for codec in ("png", "jpeg") for resolution in (256, 128)
    ]  # fmt: skip
    png, png_128, jpeg, jpeg_128 = [store.digest for store in stores]
    assert jpeg != png
    assert jpeg_128 == png_128  # up to 128 px all are raw


def test_one_channel_is_the_luma(tmp_path):
    array = noise(0, 16, 16)
    store = prepared(recipe_of(Memory({"a.png": encoded(array)})), tmp_path, channels=1)
    luma = array @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    assert store.get(0, 16).shape == (1, 16, 16)
    assert np.abs(store.get(0, 16)[0] - luma).max() <= 1


@pytest.mark.parametrize(
    ("sides", "resolution"), [((40, 100), 32), ((64, 64), 64), ((5, 300), 4), ((129, 255), 128)]
)
def test_the_resolution_is_the_largest_that_all_images_have(tmp_path, sides, resolution):
    files = {f"{side}.png": encoded(noise(side, side, side + 3)) for side in sides}
    assert prepared(recipe_of(Memory(files)), tmp_path).resolutions[-1] == resolution


def test_the_crop_counts_for_the_resolution(tmp_path):
    files = {"a.png": encoded(noise(0, 8, 32))}
    said = []
    store = prepared(recipe_of(Memory(files)), tmp_path, crop="pad", said=said)
    assert store.resolutions[-1] == 32
    assert (store.get(0, 32)[:, :12] == 255).all()
    assert any("not square" in line and "pad" in line for line in said)


def test_labels_and_splits_are_those_of_the_right_image(tmp_path):
    arrays = [noise(i, 8, 8) for i in range(20)]
    files = {f"{i:02d}.png": encoded(array) for i, array in enumerate(arrays)}
    files["07.png"], files["12.png"] = b"", truncated_png(8)
    rows = [f"{i:02d},{arrays[i].mean()},p{i // 2}" for i in reversed(range(20))]
    csv = tmp_path / "labels.csv"
    csv.write_text("name,brightness,person\n" + "\n".join(rows) + "\n")
    path = write_files(tmp_path / "in", files)
    recipe = folder("set", path, Split(0.3, by="person", seed=4), csv)
    store = prepared(recipe, tmp_path / "out", skip_bad=True)
    kept = [i for i in range(20) if i not in (7, 12)]
    assert store.names() == [f"{i:02d}.png" for i in kept]
    assert store.attributes == ("brightness",)
    for index, number in enumerate(kept):
        np.testing.assert_array_equal(store.get(index, 8), arrays[number].transpose(2, 0, 1))
        assert store.labels[index, 0] == np.float32(arrays[number].mean())
    held = {kept[i] // 2 for i in store.split("val")}
    assert held.isdisjoint({kept[i] // 2 for i in store.split("train")})
    assert len(held) == 3
    assert sorted([*store.split("val"), *store.split("train")]) == list(range(18))
    assert store.manifest["splits"] == {
        "train": len(store.split("train")),
        "val": len(store.split("val")),
    }


def test_a_png_named_jpg_is_taken_and_an_eps_named_png_is_not(tmp_path):
    array = noise(0, 16, 16)
    path = write_files(
        tmp_path / "in", {"a.jpg": encoded(array), "b.png": encoded(noise(1, 16, 16), "EPS")}
    )
    store = prepared(folder("set", path, Split()), tmp_path, skip_bad=True)
    assert store.names() == ["a.jpg"]
    np.testing.assert_array_equal(store.get(0, 16), array.transpose(2, 0, 1))
    (reject,) = map(json.loads, (store.path / "rejects.jsonl").read_text().splitlines())
    assert reject["name"] == "b.png"


def test_a_set_of_names_that_are_hard_to_print_is_prepared(tmp_path):
    path = write_files(tmp_path / "in", dict.fromkeys(["new\nline.png", "顔.png"], b""))
    data = encoded(noise(0, 8, 8))
    for file in [*path.iterdir(), Path(os.fsdecode(os.fsencode(path) + b"/caf\xe9.png"))]:
        file.write_bytes(data)
    store = prepared(folder("set", path, Split()), tmp_path)
    assert {"new\nline.png", "顔.png"} < set(store.names())
    assert len(store) == 3
    assert store.manifest["duplicates"] == 2


# The same each time


def test_the_digest_does_not_depend_on_workers_or_reruns(tmp_path, monkeypatch):
    workers_at_once(monkeypatch)
    path = write_files(tmp_path / "in", noise_files(66))
    first = prepared(folder("one", path, Split()), tmp_path)
    again = prepared(folder("again", path, Split()), tmp_path)
    spread = prepared(folder("two", path, Split()), tmp_path, workers=2)
    assert first.digest == again.digest == spread.digest
    assert prepared_bytes(first) == prepared_bytes(spread)


def changed_pixel(files: dict[str, bytes]) -> dict[str, bytes]:
    array = noise(3, 16, 16)
    array[0, 0, 0] ^= 1
    return files | {"003.png": encoded(array)}


@pytest.mark.parametrize(
    "change",
    [
        {"files": changed_pixel(noise_files(8))},
        {"files": dict(list(noise_files(8).items())[::-1])},
        {"labels": lambda names: Table(("g",), np.ones((len(names), 1), np.float32))},
        {"split": lambda kept, table: np.zeros(len(kept), np.uint8)},
    ],
    ids=["pixel", "order", "labels", "split"],
)
def test_the_digest_changes_with_what_is_in_the_set(tmp_path, change):
    first = prepared(recipe_of(Memory(noise_files(8))), tmp_path / "one")
    source = Memory(change.pop("files", noise_files(8)))
    second = prepared(recipe_of(source, **change), tmp_path / "two")
    assert first.digest != second.digest


# Names


def test_a_name_that_exists_is_refused_unless_forced(tmp_path):
    first = prepared(recipe_of(Memory(noise_files(4))), tmp_path)
    before = first.get(3, 16)
    other = recipe_of(Memory(noise_files(5, seed=1)))
    with pytest.raises(InputError, match="exists: use --force"):
        prepared(other, tmp_path)
    assert Store(tmp_path / "set").digest == first.digest
    second = prepared(other, tmp_path, force=True)
    assert len(second) == 5
    assert left_in(tmp_path) == ["set"]
    np.testing.assert_array_equal(first.get(3, 16), before)  # it is in use
    assert (second.get(3, 16) != before).any()


def test_a_folder_that_is_no_set_is_never_replaced(tmp_path):
    path = write_files(tmp_path / "mine", noise_files(4))
    with pytest.raises(InputError, match="not a prepared set"):
        prepared(folder("mine", path, Split()), tmp_path, force=True)
    assert len(list(path.iterdir())) == 4


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "/a", ".hidden", "x.tmp", "-x", "a\nb", "a" * 300]
)
def test_a_name_that_is_no_plain_folder_is_refused(tmp_path, name):
    (tmp_path / "root").mkdir()
    with pytest.raises(InputError, match="cannot be the name"):
        prepared(recipe_of(Memory(noise_files(2)), name), tmp_path / "root", force=True)
    assert left_in(tmp_path / "root") == []
    assert left_in(tmp_path) == ["root"]


def test_two_preparations_of_one_name_at_once_are_refused(tmp_path):
    refused = []

    def also_prepare(index):
        with pytest.raises(InputError, match=r"being prepared by another process") as caught:
            prepared(recipe_of(Memory(noise_files(2))), tmp_path)
        refused.append(caught.value)

    store = prepared(recipe_of(Memory(noise_files(3), also_prepare)), tmp_path)
    assert len(refused) == 3
    assert len(store) == 3
    store.verify()


def test_a_drive_without_locks_has_sets_too_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    said = []
    prepared(recipe_of(Memory(noise_files(2))), tmp_path, said=said).verify()
    assert said[0].startswith(f"warning: {tmp_path} cannot be locked")


def test_two_preparations_of_different_names_at_once_are_allowed(tmp_path):
    def also_prepare(index):
        prepared(recipe_of(Memory(noise_files(2)), f"other{index}"), tmp_path)

    prepared(recipe_of(Memory(noise_files(2), also_prepare)), tmp_path)
    assert left_in(tmp_path) == ["other0", "other1", "set"]


def test_a_set_that_appears_meanwhile_is_not_replaced(tmp_path):
    def labels(names):
        prepared(recipe_of(Memory(noise_files(2))), tmp_path)
        return Table((), np.zeros((len(names), 0), np.float32))

    with pytest.raises(InputError, match="exists: use --force"):
        prepared(recipe_of(Memory(noise_files(5)), labels=labels), tmp_path)
    assert len(Store(tmp_path / "set")) == 2
