"""Near-duplicates across the splits are found, and other images are not."""

import numpy as np
import pytest
from making import Memory, encoded, noise, prepared, recipe_of
from PIL import Image, ImageEnhance

from pgvae.data.similar import hashes_of, near_duplicates


def photograph(seed: int) -> Image.Image:
    coarse = Image.fromarray(noise(seed, 7, 7))
    return coarse.resize((96, 96), Image.Resampling.BICUBIC)


CHANGES = {
    "smaller": lambda image: encoded(image.resize((80, 80), Image.Resampling.LANCZOS)),
    "compressed": lambda image: encoded(image, "JPEG", quality=60),
    "lighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.03)),
    "the same": encoded,
}


def set_of(root, pairs: dict[str, bytes], others: int):
    """A set whose first images are held out: one of each pair, and as many others."""
    held = {f"held-{name}": data for name, data in pairs.items()}
    ours = {f"{i:03d}.png": encoded(photograph(100 + i)) for i in range(others)}

    def split(kept, table):
        return np.array([i < len(held) for i in kept], np.uint8)

    return prepared(recipe_of(Memory(held | ours), split=split), root, resolution=64)


def test_copies_that_were_changed_a_little_are_found_each_once(tmp_path):
    held = {name: change(photograph(100 + i)) for i, (name, change) in enumerate(CHANGES.items())}
    store = set_of(tmp_path, held, others=40)
    names = store.names()
    found = {names[k]: names[i] for i, k in near_duplicates(store)}
    assert found == {f"held-{name}": f"{i:03d}.png" for i, name in enumerate(CHANGES)}
    assert len(near_duplicates(store, most=2)) == 2


def test_other_images_mirrors_and_other_colours_are_not(tmp_path):
    first = photograph(100)
    held = {
        "other": encoded(photograph(7)),
        "mirrored": encoded(first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "of another colour": encoded(Image.merge("RGB", first.split()[::-1])),
    }
    assert near_duplicates(set_of(tmp_path, held, others=40)) == []


@pytest.mark.parametrize("resolution", [8, 16])
def test_a_set_too_small_to_tell_has_none(tmp_path, resolution):
    source = Memory({f"{i}.png": encoded(photograph(0)) for i in range(4)})
    store = prepared(recipe_of(source), tmp_path, resolution=resolution)
    assert len(near_duplicates(store)) == (resolution == 16)


def test_hashes_in_blocks_are_those_of_all_pairs(tmp_path, monkeypatch):
    held = {name: change(photograph(100 + i)) for i, (name, change) in enumerate(CHANGES.items())}
    store = set_of(tmp_path, held, others=10)
    whole = near_duplicates(store)
    monkeypatch.setattr("pgvae.data.similar._BLOCK", 15)
    assert near_duplicates(store) == whole


def test_a_flat_image_has_no_bits():
    assert hashes_of(np.full((2, 1, 16, 16), 7, np.uint8)).tolist() == [[0] * 4] * 2
