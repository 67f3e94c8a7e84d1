"""What preparing a set refuses, leaves out or warns of."""

import json

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
    unread,
    write_files,
)
from PIL import Image

from pgvae.data import prepared_in
from pgvae.data.labels import Table
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError

BAD = {"empty.png": b"", "half.png": truncated_png(16), "text.jpg": b"text"}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_fails_the_whole_by_its_name_and_leaves_nothing(tmp_path, name):
    source = Memory(noise_files(6) | {name: BAD[name]} | noise_files(3, seed=1))
    with pytest.raises(InputError, match=f"'{name}'.*--skip-bad"):
        prepared(recipe_of(source), tmp_path)
    assert left_in(tmp_path) == []
    assert prepared_in(tmp_path) == []


def test_a_bad_image_in_a_worker_fails_the_whole_too(tmp_path):
    with pytest.raises(InputError, match=r"half\.png"):
        prepared(recipe_of(Memory(noise_files(66) | BAD)), tmp_path, workers=2)
    assert left_in(tmp_path) == []


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
    [
        (100, "use 64 or 128"),
        (3, "from 4 to 1024"),
        (2048, "from 4 to 1024"),
        (-8, "4 to 1024"),
        (None, r"'narrow\.png' has 3 px"),
    ],
)
def test_a_resolution_that_is_no_power_of_two_or_below_4_px_is_refused(tmp_path, resolution, hint):
    files = noise_files(2) | {"narrow.png": encoded(noise(0, 3, 9))}
    with pytest.raises(InputError, match=hint):
        prepared(recipe_of(Memory(files)), tmp_path, resolution=resolution)
    assert left_in(tmp_path) == []


def test_a_resolution_above_the_images_needs_upscale(tmp_path):
    with pytest.raises(InputError, match=r"below the resolution 32.*--upscale"):
        prepared(recipe_of(Memory(noise_files(2))), tmp_path, resolution=32)
    store = prepared(recipe_of(Memory(noise_files(2))), tmp_path, resolution=32, upscale=True)
    expected = Image.fromarray(noise(1, 16, 16)).resize((32, 32), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(store.get(1, 32), np.asarray(expected).transpose(2, 0, 1))


def test_wrong_labels_fail_before_any_image_is_read(tmp_path):
    def labels(names):
        raise InputError("labels are missing")

    def read(index):
        raise AssertionError("read")

    with pytest.raises(InputError, match="missing"):
        prepared(recipe_of(Memory(noise_files(2), read), labels=labels), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def sized(*sides: int) -> dict[str, bytes]:
    return {f"{i:03d}.png": encoded(noise(i, side, side)) for i, side in enumerate(sides)}


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ([16] * 9 + [5], "goes to 4 px and not to 16: '009.png' has 5 px, and 1 of 10"),
        ([9] + [16] * 3 + [8], "goes to 8 px and not to 16: '004.png' has 8 px, and 2 of 5"),
        ([16, 31, 17], ""),
        ([4, 4, 64], ""),
        ([8], ""),
    ],
)
def test_a_few_small_images_that_hold_back_all_are_named(tmp_path, sides, words):
    said = []
    prepared(recipe_of(Memory(sized(*sides))), tmp_path, said=said)
    warned = [line for line in said if "the set goes to" in line]
    assert len(warned) == bool(words)
    for line in warned:
        assert words in line
        assert "--resolution 16 with --skip-bad leaves them out" in line


def test_what_was_advised_of_small_images_works(tmp_path):
    source = Memory(sized(16, 16, 5, 16))
    store = prepared(recipe_of(source), tmp_path, resolution=16, skip_bad=True)
    assert (len(store), store.resolutions[-1]) == (3, 16)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (encoded(noise(0, 8, 8)), "'last': 8x8 px is below the resolution 16; .*--upscale"),
        (b"text", "'last': not a PNG"),
        (b"", "'last': empty file"),
    ],
)
def test_a_bad_image_far_down_is_found_by_its_header_before_any_work(tmp_path, last, words):
    def read(index):
        raise AssertionError("read")

    picture = encoded(noise(1, 16, 16))
    files = {f"{i:03d}": picture for i in range(300)} | {"last": last}
    with pytest.raises(InputError, match=words):
        prepared(recipe_of(Memory(files, read)), tmp_path, resolution=16)
    with pytest.raises(InputError, match="more than 0 images"):
        prepared(recipe_of(Memory(files, read)), tmp_path, resolution=16, skip_bad=True, max_bad=0)
    assert left_in(tmp_path) == []


def test_what_is_left_out_and_what_labels_lack_is_said_before_any_work(tmp_path):
    def read(index):
        raise InputError("read")

    said, source = [], Memory(noise_files(2), read)
    source.skipped += [{"name": f"{i}.png", "reason": "a link"} for i in range(3)]
    table = Table((), np.zeros((2, 0), np.float32), notes=("'sex' holds words",))
    with pytest.raises(InputError, match="read"):
        prepared(recipe_of(source, labels=lambda _: table), tmp_path, said=said)
    assert said == ["warning: 3 images left out: a link", "warning: 'sex' holds words"]


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


def test_a_label_that_is_chosen_twice_is_refused_before_any_work(tmp_path):
    files = noise_files(4)
    (tmp_path / "l.csv").write_text("name,hat\n" + "".join(f"{file},1\n" for file in files))
    path = write_files(tmp_path / "in", files)
    recipe = folder("set", path, Split(), tmp_path / "l.csv", ("hat", "hat"))
    with pytest.raises(InputError, match="labels that are there twice: 'hat'; leave one of each"):
        prepared(unread(recipe), tmp_path / "sets")


@pytest.mark.parametrize("name", ["smile, big", "x=y", "a,b", "=", ",", "a\x07b"])
@pytest.mark.parametrize("kind", ["csv", "folder"])
def test_labels_that_no_option_could_name_are_refused_before_any_work(tmp_path, name, kind):
    files = noise_files(4)
    (tmp_path / "l.csv").write_text(
        f'name,hat,"{name}"\n' + "".join(f"{file},1,0\n" for file in files)
    )
    if kind == "folder":
        files = {f"{(name, 'hat')[i % 2]}/{i}.png": data for i, data in enumerate(files.values())}
    path = write_files(tmp_path / "in", files)
    recipe = folder("set", path, Split(), tmp_path / "l.csv" if kind == "csv" else None)
    with pytest.raises(InputError) as caught:
        prepared(unread(recipe), tmp_path / "sets")
    assert str(caught.value) == (
        f"labels that no option could name: {name!r}; rename their columns or folders, without "
        "commas, =, signs that are not printed and spaces at the ends"
    )
    if kind == "csv":  # left out, it is in nobody's way
        recipe = folder("set", path, Split(), tmp_path / "l.csv", ("hat",))
        assert prepared(recipe, tmp_path / "sets").attributes == ("hat",)
