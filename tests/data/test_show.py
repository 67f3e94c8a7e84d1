"""A set as one picture: its images, its balance and what there is to say are in it."""

import numpy as np
import pytest
from making import Memory, encoded, noise_files, prepared, recipe_of
from PIL import Image

from pgvae.data.labels import Table
from pgvae.data.show import MARK, balance_of, lines_of, picture_of, save_picture
from pgvae.data.similar import near_duplicates


def labelled(root):
    """Eight plain images of 32 px, every fourth held out: yes, yes, unknown, no, ..."""
    files = {f"{i}.png": encoded(Image.new("RGB", (32, 40), (30 * i, 0, 0))) for i in range(8)}

    def split(kept, table):
        return np.array([i % 4 == 3 for i in kept], np.uint8)

    values = np.float32([1, 1, 0.5, 0] * 2 + [1])[:, None]
    recipe = recipe_of(
        Memory(files | {"bad.png": b"no"}),
        split=split,
        labels=lambda names: Table(("hat",), values),
    )
    return prepared(recipe, root, skip_bad=True)


def test_the_images_of_each_split_are_in_the_picture(tmp_path):
    store = labelled(tmp_path)
    page = picture_of(store, [])
    assert page.getpixel((16 + 5, 34 + 5)) == (0, 0, 0)  # the first of train
    assert page.getpixel((16 + 64 + 5, 34 + 5)) == (30, 0, 0)
    assert page.getpixel((2 * 16 + 512 + 5, 34 + 5)) == (90, 0, 0)  # the first of val
    assert page.getpixel((16 + 5, 34 + 70)) == (225, 228, 232)  # nothing in the second row


def test_a_label_is_counted_by_split_and_what_is_unknown_is_neither(tmp_path):
    assert balance_of(labelled(tmp_path), 0) == {"train": (4, 0), "val": (0, 2)}


def test_sizes_rejects_and_similar_images_are_said(tmp_path):
    lines = lines_of(labelled(tmp_path), [(0, 3)])
    assert "shorter sides of the files: 8 from 32 px" in lines
    assert "1 images of val are nearly the same as one of train" in lines
    assert "    0.png ~ 3.png" in lines
    assert any(line.startswith("    bad.png: ") for line in lines)


def test_large_and_unlabelled_and_grey_sets_have_a_picture_too(tmp_path):
    store = prepared(recipe_of(Memory(noise_files(300, size=8))), tmp_path, channels=1)
    page = picture_of(store, [])
    assert page.width == 1072
    assert (np.asarray(page)[34 : 34 + 512, 16 : 16 + 512] == (225, 228, 232)).all(-1).mean() < 0.01


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_set_of_a_few_images_is_drawn_though_nothing_is_held_out(count, tmp_path):
    files = {f"{i}.png": encoded(Image.new("RGB", (32, 32), (70 * i, 0, 0))) for i in range(count)}
    store = prepared(recipe_of(Memory(files), split=lambda kept, _: np.zeros(len(kept))), tmp_path)
    assert store.get_many(store.split("val"), 32).shape == (0, 3, 32, 32)
    save_picture(tmp_path / "few.png", store, near_duplicates(store))
    assert Image.open(tmp_path / "few.png").text == {"Software": MARK.decode()}
