"""Sets that are not square: cropped to a ratio, scaled, halved on both sides, read again."""

import json
import math

import numpy as np
import pytest
from making import encoded, noise, noise_files, prepared, write_files
from PIL import Image

from pgvae.cli import main
from pgvae.data import Loader, Store, growing, images, merging, open_dataset
from pgvae.data.images import box_after, fit
from pgvae.data.pixels import pyramid
from pgvae.data.prepare import Options
from pgvae.data.recipes import Split, folder
from pgvae.data.similar import near_duplicates
from pgvae.errors import InputError
from pgvae.sizes import SQUARE, size_at

WIDE, TALL = (3, 4), (4, 2)
SIZES = {"wide": (90, 50), "tall": (45, 80), "square": (64, 64), "just": (32, 24)}  # width, height


def photos(path, sizes=SIZES):
    """Noise of those sizes."""
    files = {f"{n}.png": encoded(noise(i, h, w)) for i, (n, (w, h)) in enumerate(sizes.items())}
    return write_files(path, files)


def cropped(image: Image.Image, base: tuple[int, int], resolution: int) -> np.ndarray:
    """Pillow's crop of the middle to a ratio, in whole pixels, scaled: [C, H, W]."""
    height, width = size_at(base, resolution)
    ratio = base[1] / base[0]
    w = min(image.width, math.floor(image.height * ratio + 0.5))
    h = min(image.height, math.floor(image.width / ratio + 0.5))
    left, top = (image.width - w) // 2, (image.height - h) // 2
    box = (left, top, left + w, top + h)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box)).transpose(
        2, 0, 1
    )


@pytest.mark.parametrize("base", [WIDE, (2, 4), (4, 3), TALL])
def test_every_level_is_what_pillow_and_numpy_say(tmp_path, base):
    path = photos(tmp_path / "in")
    options = {"resolution": 32, "base": base, "upscale": True}
    store = prepared(folder("set", path, Split(0.25)), tmp_path / "sets", **options)
    assert (store.base, store.resolutions) == (base, (4, 8, 16, 32))
    store.verify()
    for index, name in enumerate(store.names()):
        top = cropped(Image.open(path / name), base, 32)
        for resolution in store.resolutions:
            height, width = size_at(base, resolution)
            box = 32 // resolution
            means = top.reshape(3, height, box, width, box).mean(axis=(2, 4))
            found = store.get(index, resolution)
            assert found.shape == (3, height, width)
            np.testing.assert_array_equal(found, np.floor(means + 0.5), err_msg=name)


@pytest.mark.parametrize("base", [WIDE, TALL])
def test_a_marked_corner_stays_in_its_corner(tmp_path, base):
    """No side is taken for the other, on the way in and as networks see it."""
    height, width = size_at(base, 32)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        array = np.zeros((height, width, 3), np.uint8)
        array[row, column] = 255
        path = write_files(tmp_path / f"in{row}{column}", {"a.png": encoded(array)})
        name = f"s{row}{column}"
        store = prepared(folder(name, path, Split(0.0)), tmp_path, resolution=32, base=base)
        for resolution in store.resolutions:
            pixels = store.get(0, resolution)[0]
            assert pixels[row, column] == pixels.max() > 0
            assert (pixels > 0).sum() == 1
        seen = Loader(store, seed=0).batch(0, 1, 32).images[0, 0]
        assert seen[row, column] == 1
        assert (seen == 1).sum() == 1


@pytest.mark.parametrize(
    ("width", "height", "base", "box"),
    [
        (100, 75, WIDE, (100, 75)),
        (100, 100, WIDE, (100, 75)),
        (100, 70, WIDE, (93, 70)),
        (70, 100, WIDE, (70, 53)),
        (100, 100, TALL, (50, 100)),
        (1, 1, TALL, (1, 1)),
        (1, 1000, (2, 4), (1, 1)),
    ],
)
def test_a_crop_is_the_largest_of_its_ratio(width, height, base, box):
    assert box_after("center", width, height, upscale=True, base=base) == box


@pytest.mark.parametrize(("width", "height"), [(32, 20), (20, 24), (32, 24), (8, 24)])
def test_padding_makes_the_ratio_in_white_on_both_sides_alike(width, height):
    array = noise(0, height, width)
    made = np.asarray(fit(Image.fromarray(array), 32, "pad", upscale=False, base=WIDE))
    top, left = (24 - height) // 2, (32 - width) // 2
    expected = np.full((24, 32, 3), 255, np.uint8)
    expected[top : top + height, left : left + width] = array
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("size", [(31, 24), (32, 23), (128, 20)])
def test_what_is_below_the_size_on_either_side_needs_upscale(size):
    image = Image.new("RGB", size)
    with pytest.raises(images.RejectError, match="below the resolution 32x24"):
        fit(image, 32, "center", upscale=False, base=WIDE)
    assert fit(image, 32, "center", upscale=True, base=WIDE).size == (32, 24)


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_and_looks_the_same():
    smooth = Image.fromarray(noise(3, 5, 8)).resize((800, 500), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=95)
    decoded, small = images.fitted(data, 32, "center", upscale=False, base=WIDE)
    assert decoded.part > 1
    whole = fit(images.decode(data).image, 32, "center", upscale=False, base=WIDE)
    assert small.size == whole.size == (32, 24)
    assert np.abs(np.asarray(small, int) - np.asarray(whole, int)).mean() < 2


def test_the_pyramid_of_the_largest_size_does_not_overflow():
    levels = pyramid(np.full((1, 512, 1024), 255, np.uint8))
    assert [level.shape[1:] for level in levels][-2:] == [(4, 8), (2, 4)]
    assert all((level == 255).all() for level in levels)


@pytest.mark.parametrize("codec", ["webp", "png"])
def test_above_128_px_codecs_keep_both_sides(tmp_path, codec):
    path = photos(tmp_path / "in", {"a": (256, 192)})
    options = {"resolution": 256, "base": WIDE, "codec": codec}
    store = prepared(folder("set", path, Split(0.0)), tmp_path / "sets", **options)
    expected = np.asarray(Image.open(path / "a.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(store.get(0, 256), expected)


def test_a_square_set_says_nothing_of_a_base_and_keeps_its_digest(tmp_path):
    """Both are those of the version before there were other ratios."""
    path = write_files(tmp_path / "in", noise_files(8))
    store = prepared(folder("set", path, Split(0.25)), tmp_path)
    assert store.base == SQUARE
    assert "base" not in store.manifest
    digest = "e294cd18895f85be9e40706a89dc702f6ff08ee77fa56c08ad17e1a64a8deffe"
    assert store.digest == digest


def test_the_same_bytes_in_another_shape_are_another_set(tmp_path):
    path = write_files(tmp_path / "in", {"a.png": encoded(np.full((32, 32, 3), 9, np.uint8))})
    digests = {
        prepared(folder(f"s{i}", path, Split(0.0)), tmp_path, resolution=16, base=base).digest
        for i, base in enumerate([(2, 4), (4, 2)])
    }
    assert len(digests) == 2


def test_an_update_keeps_the_ratio_and_an_export_prepared_again_is_the_same(tmp_path):
    path, sets = photos(tmp_path / "in"), tmp_path / "sets"
    store = prepared(folder("set", path, Split(0.25)), sets, resolution=16, base=WIDE)
    write_files(path, {"new.png": encoded(noise(9, 40, 70))})
    grown = growing.update(
        store, folder("set", path, Split()), Options(workers=0), Split(), say=lambda _: None
    )
    assert (grown.base, len(grown)) == (WIDE, 5)
    index = grown.names().index("new.png")
    expected = cropped(Image.open(path / "new.png"), WIDE, 16)
    np.testing.assert_array_equal(grown.get(index, 16), expected)
    growing.export(grown, tmp_path / "out")
    again = prepared(folder("again", tmp_path / "out", Split()), sets, resolution=16, base=WIDE)
    assert again.digest != ""
    every = np.arange(5)
    ours, theirs = (np.sort(s.get_many(every, 16).reshape(5, -1), axis=0) for s in (grown, again))
    np.testing.assert_array_equal(ours, theirs)


def test_sets_of_one_ratio_are_merged_and_of_two_refused(tmp_path):
    path = photos(tmp_path / "in")
    wide, other, square = (
        prepared(folder(n, path, Split(0.25)), tmp_path, resolution=16, base=base)
        for n, base in (("a", WIDE), ("b", WIDE), ("c", SQUARE))
    )
    both = merging.merge([wide, other], "both", tmp_path, Options(workers=0), lambda _: None)
    assert (both.base, len(both)) == (WIDE, 8)
    np.testing.assert_array_equal(both.get(5, 16), other.get(1, 16))
    with pytest.raises(InputError, match="different ratios"):
        merging.merge([wide, square], "no", tmp_path, Options(workers=0), lambda _: None)


@pytest.mark.parametrize("base", [WIDE, TALL])
def test_near_duplicates_are_found(tmp_path, base):
    def smooth(seed: int, side: int = 64) -> bytes:
        coarse = Image.fromarray(noise(seed, 6, 6))
        return encoded(coarse.resize((side, side), Image.Resampling.BICUBIC))

    files = {f"train/{i}.png": smooth(i) for i in range(6)}
    files |= {"val/again.png": smooth(2, 80), "val/other.png": smooth(99)}
    store = prepared(
        folder("set", write_files(tmp_path / "in", files), Split()),
        tmp_path / "sets",
        resolution=16,
        base=base,
    )
    names = store.names()
    found = [(names[i], names[k]) for i, k in near_duplicates(store)]
    assert found == [("train/2.png", "val/again.png")]


def test_a_folder_is_prepared_in_each_ratio_that_is_asked_for(tmp_path):
    path, said = photos(tmp_path / "in"), []
    stores = [
        open_dataset(str(path), tmp_path / "sets", 16, said.append, base)
        for base in (WIDE, SQUARE, None, WIDE)
    ]
    assert [store.base for store in stores] == [WIDE, SQUARE, SQUARE, WIDE]
    assert stores[0].path == stores[3].path
    assert stores[1].path == stores[2].path
    prepared(folder("in", path, Split()), tmp_path / "sets", resolution=16, base=TALL)
    assert open_dataset(str(path), tmp_path / "sets", 16, said.append).base == TALL
    assert open_dataset(str(path), tmp_path / "sets", 16, said.append, WIDE).base == WIDE


def prepare_command(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["data", "prepare", *map(str, words)])
    return caught.value.code


def test_the_command_takes_width_and_height(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "in")
    assert prepare_command("in", "--name", "set", "--size", "32x24", "--workers", 0) == 0
    said = capsys.readouterr().out
    assert "3 images are not 4:3: crop policy 'center' applied" in said
    assert "at 4x3 to 32x24 px" in said
    manifest = json.loads((tmp_path / "datasets/set/manifest.json").read_text())
    assert manifest["base"] == [3, 4]
    assert Store(tmp_path / "datasets/set").get(0, 32).shape == (3, 24, 32)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--size 32x20", "the nearest are 32x"),
        ("--size 2048x1024", "the nearest are 1024x512 and"),
        ("--size 32", "give WIDTHxHEIGHT"),
        ("--size 32x24 --resolution 16", "--resolution 16 is not the longer side of --size"),
        ("--size 64x48", "is below the resolution 64x48"),
    ],
)
def test_a_size_that_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "in")
    assert prepare_command("in", "--name", "set", "--workers", 0, *words.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert not (tmp_path / "datasets" / "set").exists()
