"""A prepared set is what its images say, whole or not there, and the same each time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from making import (
    Memory,
    encoded,
    in_child,
    kill_self,
    noise,
    noise_files,
    prepared,
    recipe_of,
    truncated_png,
    write_files,
)
from PIL import Image

import pgvae.data.prepare
import pgvae.data.writer
from pgvae.data import Store, prepared_in
from pgvae.data.labels import Table
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError, ResourceError


def left_in(root: Path) -> list[str]:
    """What a user sees in a data root, and what lies there aside."""
    return sorted(p.name for p in root.iterdir() if not p.name.endswith(".lock"))


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


@pytest.mark.parametrize("codec", ["webp", "png", "raw"])
def test_above_128_px_a_lossless_codec_keeps_every_pixel(tmp_path, codec):
    array = noise(0, 256, 256)
    source = Memory({"a.png": encoded(array)})
    store = prepared(recipe_of(source), tmp_path, codec=codec)
    assert store.manifest["codecs"] == {"4": "raw", "8": "raw", "16": "raw", "32": "raw"} | {
        "64": "raw",
        "128": "raw",
        "256": codec,
    }
    for resolution in store.resolutions:
        np.testing.assert_array_equal(store.get(0, resolution), box_mean(array, resolution))
    store.verify()


def test_jpeg_above_128_px_is_close_and_below_is_exact(tmp_path):
    y, x = np.mgrid[:256, :256]
    array = np.stack([y, x, (x + y) // 2], -1).astype(np.uint8)
    store = prepared(recipe_of(Memory({"a.png": encoded(array)})), tmp_path, codec="jpeg")
    close = store.get(0, 256).astype(int) - array.transpose(2, 0, 1)
    assert 0 < np.abs(close).mean() < 2
    np.testing.assert_array_equal(store.get(0, 128), box_mean(array, 128))


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


def test_the_digest_does_not_depend_on_workers_or_reruns(tmp_path):
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


def test_the_digest_does_not_depend_on_the_lossless_codec(tmp_path):
    source = Memory({"a.png": encoded(noise(0, 256, 256))})
    digests = {
        prepared(recipe_of(source, codec), tmp_path, codec=codec).digest
        for codec in ("webp", "png", "raw")
    }
    assert len(digests) == 1


# Names


def test_a_name_that_exists_is_refused_unless_forced(tmp_path):
    first = prepared(recipe_of(Memory(noise_files(4))), tmp_path)
    other = recipe_of(Memory(noise_files(5, seed=1)))
    with pytest.raises(InputError, match="exists: use --force"):
        prepared(other, tmp_path)
    assert Store(tmp_path / "set").digest == first.digest
    assert len(prepared(other, tmp_path, force=True)) == 5
    assert left_in(tmp_path) == ["set"]


def test_a_set_that_is_in_use_can_be_replaced(tmp_path):
    first = prepared(recipe_of(Memory(noise_files(4))), tmp_path)
    before = first.get(3, 16)
    second = prepared(recipe_of(Memory(noise_files(4, seed=1))), tmp_path, force=True)
    np.testing.assert_array_equal(first.get(3, 16), before)
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


# Bad input


BAD = {"empty.png": b"", "half.png": truncated_png(16), "text.jpg": b"text"}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_fails_the_whole_by_its_name_and_leaves_nothing(tmp_path, name):
    source = Memory(noise_files(6) | {name: BAD[name]} | noise_files(3, seed=1))
    with pytest.raises(InputError, match=f"'{name}'.*--skip-bad"):
        prepared(recipe_of(source), tmp_path)
    assert left_in(tmp_path) == []
    assert prepared_in(tmp_path) == []


def test_a_bad_image_in_a_worker_fails_the_whole_too(tmp_path):
    path = write_files(tmp_path / "in", noise_files(66) | BAD)
    with pytest.raises(InputError, match=r"half\.png"):
        prepared(folder("set", path, Split()), tmp_path / "out", workers=2)
    assert left_in(tmp_path / "out") == []


def test_skip_bad_leaves_out_and_lists_every_reject(tmp_path):
    source, said = Memory(BAD | noise_files(6)), []
    source.skipped.append({"name": "leak.png", "reason": "link out of the folder"})
    store = prepared(recipe_of(source), tmp_path, skip_bad=True, said=said)
    rejects = [json.loads(r) for r in (store.path / "rejects.jsonl").read_text().splitlines()]
    assert [r["name"] for r in rejects] == ["leak.png", *BAD]
    assert all(r["reason"] for r in rejects)
    assert store.names() == list(noise_files(6))
    assert store.manifest["rejected"] == 4
    assert any("4 images left out" in line for line in said)


@pytest.mark.parametrize(("most", "fails"), [(2, True), (3, False), (0, True), (None, False)])
def test_skip_bad_goes_on_up_to_max_bad(tmp_path, most, fails):
    recipe = recipe_of(Memory(BAD | noise_files(6)))
    if fails:
        with pytest.raises(InputError, match=f"more than {most} images"):
            prepared(recipe, tmp_path, skip_bad=True, max_bad=most)
        assert left_in(tmp_path) == []
    else:
        assert len(prepared(recipe, tmp_path, skip_bad=True, max_bad=most)) == 6


@pytest.mark.parametrize("skip", [False, True])
def test_nothing_but_bad_images_is_refused(tmp_path, skip):
    with pytest.raises(InputError, match=r"'empty\.png'"):
        prepared(recipe_of(Memory(BAD)), tmp_path, skip_bad=skip)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("resolution", "hint"),
    [(100, "use 64 or 128"), (3, "from 4 to 1024"), (2048, "from 4 to 1024"), (-8, "4 to 1024")],
)
def test_a_resolution_that_is_no_power_of_two_is_refused(tmp_path, resolution, hint):
    with pytest.raises(InputError, match=hint):
        prepared(recipe_of(Memory(noise_files(2))), tmp_path, resolution=resolution)
    assert left_in(tmp_path) == []


def test_a_resolution_above_the_images_needs_upscale(tmp_path):
    with pytest.raises(InputError, match=r"below the resolution 32.*--upscale"):
        prepared(recipe_of(Memory(noise_files(2))), tmp_path, resolution=32)
    store = prepared(recipe_of(Memory(noise_files(2))), tmp_path, resolution=32, upscale=True)
    expected = Image.fromarray(noise(1, 16, 16)).resize((32, 32), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(store.get(1, 32), np.asarray(expected).transpose(2, 0, 1))


def test_images_below_4_px_are_refused(tmp_path):
    files = noise_files(2) | {"tiny.png": encoded(noise(0, 3, 9))}
    with pytest.raises(InputError, match=r"'tiny\.png' has 3 px"):
        prepared(recipe_of(Memory(files)), tmp_path)


def test_wrong_labels_fail_before_any_image_is_read(tmp_path):
    def labels(names):
        raise InputError("labels are missing")

    def read(index):
        raise AssertionError("read")

    with pytest.raises(InputError, match="missing"):
        prepared(recipe_of(Memory(noise_files(2), read), labels=labels), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_duplicates_are_counted_and_kept(tmp_path):
    said = []
    files = noise_files(5) | {f"copy{i}.png": noise_files(5)["002.png"] for i in range(3)}
    store = prepared(recipe_of(Memory(files)), tmp_path, said=said)
    assert len(store) == 8
    assert store.manifest["duplicates"] == 3
    assert any("3 images are byte-for-byte duplicates" in line for line in said)


def test_one_image_works_with_a_warning(tmp_path):
    said = []
    store = prepared(recipe_of(Memory(noise_files(1))), tmp_path, said=said)
    assert store.split("train").tolist() == [0]
    assert any(line.startswith("warning: one image only") for line in said)


def test_an_animation_is_taken_with_a_warning(tmp_path):
    said, frames = [], [Image.fromarray(noise(i, 16, 16)) for i in range(3)]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    store = prepared(recipe_of(Memory({"a.webp": data})), tmp_path, said=said)
    np.testing.assert_array_equal(store.get(0, 16), noise(0, 16, 16).transpose(2, 0, 1))
    assert any(line.startswith("warning: 1 images: animation") for line in said)


def test_a_data_root_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write to"):
        prepared(recipe_of(Memory(noise_files(2))), tmp_path / "file" / "root")


# Stopped half-way


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(5, "disk")])
def test_an_error_half_way_leaves_nothing(tmp_path, error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(pgvae.data.writer, "fsync", fail)
    with pytest.raises((KeyboardInterrupt, MemoryError, OSError)):
        prepared(recipe_of(Memory(noise_files(3))), tmp_path)
    assert left_in(tmp_path) == []


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pgvae.data.writer, "fsync", fail)
    with pytest.raises(ResourceError, match=r"disk full while writing .*set.* bytes free"):
        prepared(recipe_of(Memory(noise_files(3))), tmp_path)
    assert left_in(tmp_path) == []


def test_a_worker_that_dies_is_an_error_and_leaves_nothing(tmp_path):
    recipe = recipe_of(Memory(noise_files(66), kill_self))
    with pytest.raises(ResourceError, match="worker process died"):
        prepared(recipe, tmp_path, resolution=16, workers=2)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("call", [0, 1, 5, 8, 9, 10, 11])
def test_a_kill_while_flushing_leaves_nothing_visible(tmp_path, call):
    recipe = recipe_of(Memory(noise_files(3)))
    digest = prepared(recipe, tmp_path / "whole").digest

    def act():
        calls = iter(range(100))
        flush = pgvae.data.writer.fsync

        def fsync(path):
            if next(calls) == call:
                kill_self()
            flush(path)

        pgvae.data.writer.fsync = pgvae.data.prepare.fsync = fsync
        prepared(recipe, tmp_path / "root")

    ended_by, _ = in_child(act)
    assert ended_by == signal.SIGKILL
    visible = prepared_in(tmp_path / "root")
    assert visible in ([], ["set"])
    if visible:  # killed while the rename itself was flushed: it is whole
        Store(tmp_path / "root" / "set").verify()
    assert prepared(recipe, tmp_path / "root", force=True).digest == digest
    assert left_in(tmp_path / "root") == ["set"]


@pytest.mark.parametrize("rename", [0, 1])
def test_a_kill_while_replacing_loses_neither_set(tmp_path, rename):
    old = prepared(recipe_of(Memory(noise_files(3))), tmp_path).digest
    recipe = recipe_of(Memory(noise_files(3, seed=1)))

    def act():
        calls, plain = iter(range(100)), Path.rename

        def renamed(self, target):
            if next(calls) == rename:
                kill_self()
            return plain(self, target)

        Path.rename = renamed
        prepared(recipe, tmp_path, force=True)

    ended_by, _ = in_child(act)
    assert ended_by == signal.SIGKILL
    with pytest.raises(InputError):  # of another preparation, which fails: the old one is back
        prepared(recipe_of(Memory(BAD)), tmp_path, force=True)
    assert Store(tmp_path / "set").digest == old
    assert left_in(tmp_path) == ["set"]


def started(path: Path, root: Path, workers: int) -> subprocess.Popen:
    """A process that prepares `path` as `set` and has begun to write."""
    line = [sys.executable, "-m", "pgvae.cli", "data", "prepare", path, "--name", "set"]
    process = subprocess.Popen(
        [*map(str, line), "--data-root", str(root), "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for((root / "set.tmp").exists)
    return process


def wait_for(event: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < until
        time.sleep(0.002)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and that those did."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:  # it has just ended
        return []
    return [d for child in map(int, text.split()) for d in (child, *descendants(child))]


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"  # ended, and not yet buried


def test_no_worker_outlives_a_killed_preparation(tmp_path):
    path = write_files(tmp_path / "in", noise_files(200, size=64))
    with started(path, tmp_path / "root", workers=2) as process:
        wait_for(lambda: len(descendants(process.pid)) >= 4)  # tracker, server, two workers
        started_by_it = descendants(process.pid)
        process.kill()
    wait_for(lambda: not any(map(is_running, started_by_it)), seconds=10)


def kill_while_preparing(tmp_path: Path, delays: list[float]) -> int:
    """Kill `data prepare` so long after its first file; how many kills met it at work."""
    path = write_files(tmp_path / "in", noise_files(400, size=64))
    digest = prepared(folder("set", path, Split()), tmp_path / "whole").digest
    root, killed = tmp_path / "root", 0
    for delay in delays:
        with started(path, root, workers=0) as process:
            time.sleep(delay)
            process.kill()
        if (root / "set").exists():  # it had finished, or had only to end
            Store(root / "set").verify()
        else:
            assert process.returncode == -signal.SIGKILL
            assert prepared_in(root) == []
            killed += 1
        assert prepared(folder("set", path, Split()), root, force=True).digest == digest
        assert left_in(root) == ["set"]
        for file in sorted((root / "set").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (root / "set").rmdir()
    return killed


def test_a_killed_preparation_shows_nothing_and_its_rerun_is_the_same(tmp_path):
    assert kill_while_preparing(tmp_path, [0.0, 0.1]) == 2


@pytest.mark.slow
def test_twenty_killed_preparations_show_nothing_and_rerun_the_same(tmp_path):
    delays = np.random.default_rng(0).uniform(0, 0.4, 20)
    assert kill_while_preparing(tmp_path, delays.tolist()) >= 5
