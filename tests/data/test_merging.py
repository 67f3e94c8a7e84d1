"""Sets that are merged: the same images, labels and sides of the split, and an update of them."""

import shutil

import numpy as np
import pytest
from grown import labelled, sides_of, updated
from making import noise_files, prepared, write_files

from pgvae.data import Store
from pgvae.data.merging import merge
from pgvae.data.prepare import Options
from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError


def test_merged_sets_keep_pixels_common_labels_and_sides(tmp_path):
    one = labelled(tmp_path, "one", 1, ("hat", "age"))
    two = labelled(tmp_path, "two", 2, ("glasses", "hat"), resolution=16)
    said: list[str] = []
    both = merge([one, two], "both", tmp_path / "sets", Options(workers=0), said.append)
    assert (len(both), both.resolutions[-1], both.attributes) == (40, 16, ("hat",))
    assert any("'age', 'glasses'" in line for line in said)
    assert "the set goes to 16 px, as one of the sets does: 'one' went further" in said[0]
    every = np.arange(20)
    np.testing.assert_array_equal(both.get_many(every, 16), one.get_many(every, 16))
    np.testing.assert_array_equal(both.get_many(every + 20, 8), two.get_many(every, 8))
    assert both.labels[:, 0].tolist() == [*one.labels[:, 0], *two.labels[:, 1]]
    assert both.split("val").tolist() == [*one.split("val"), *(two.split("val") + 20)]
    assert both.names()[20] == "two/000.png"


def people(tmp_path, name: str, seed: int, split: Split, asked: dict) -> Store:
    """A set with four people, five images of each."""
    files = noise_files(20, seed=seed, size=32)
    path, csv = write_files(tmp_path / name, files), tmp_path / f"{name}.csv"
    rows = [f"{name}-{file},{name}{i % 4},{i % 2}" for i, file in enumerate(files)]
    csv.write_text("\n".join(["name,person,hat", *rows]) + "\n")
    for file in files:
        (path / file).rename(path / f"{name}-{file}")
    recipe = folder(name, path, split, csv)
    return prepared(recipe, tmp_path / "sets", about={"recipe": "folder", "asked": asked})


def test_an_update_knows_the_images_of_a_merged_set_by_their_files(tmp_path):
    parts = [people(tmp_path, name, n, Split(0.5), {}) for n, name in enumerate("ab", start=1)]
    both = merge(parts, "both", tmp_path / "sets", Options(workers=0), lambda _: None)
    files = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.glob("[ab]/*")}
    path, csv = write_files(tmp_path / "in", files), tmp_path / "both.csv"
    header, *rows = [row for n in "ab" for row in (tmp_path / f"{n}.csv").read_text().splitlines()]
    csv.write_text("\n".join([header, *(row for row in rows if row != header)]) + "\n")
    before = sides_of(both)
    np.testing.assert_array_equal(both.hashes()[:20], parts[0].hashes())
    grown = updated(both, path, labels=csv)
    assert sides_of(grown) == before
    assert grown.digest == both.digest
    assert [(u["came"], u["gone"]) for u in grown.manifest["updates"]] == [(0, 0)]


def test_a_merged_set_is_split_by_what_all_of_its_parts_are(tmp_path):
    asked = {"split_by": "person", "val_fraction": 0.5}
    one, two = (people(tmp_path, n, i, Split(0.5, "person"), asked) for i, n in enumerate("ab"))
    three = people(tmp_path, "c", 3, Split(0.5), {"val_fraction": 0.5})
    said: list[str] = []
    root, options = tmp_path / "sets", Options(workers=0)
    both = merge([one, two], "both", root, options, said.append)
    assert both.manifest["about"]["asked"] == asked
    assert not any("split by" in line for line in said)
    every = merge([both, three], "every", root, options, said.append)
    assert every.manifest["about"]["asked"] == {"val_fraction": 0.5}
    assert any("both is split by 'person'" in line for line in said)
    assert any("update ... --split-by person" in line for line in said)


def wide(tmp_path, name: str, seed: int, codec: str) -> Store:
    path = write_files(tmp_path / name, noise_files(3, size=256, seed=seed))
    return prepared(folder(name, path, Split()), tmp_path / "sets", codec=codec)


@pytest.mark.parametrize(
    ("codecs", "kept"),
    [("jpeg png", "png"), ("webp jpeg", "webp"), ("raw webp", "raw"), ("jpeg jpeg", "jpeg")],
)
def test_merged_sets_lose_nothing_where_one_of_them_is_lossless(tmp_path, codecs, kept):
    stores = [wide(tmp_path, f"s{i}", i, codec) for i, codec in enumerate(codecs.split())]
    said: list[str] = []
    both = merge(stores, "both", tmp_path / "sets", Options(workers=0), said.append)
    assert both.manifest["codecs"]["256"] == kept
    for resolution in both.resolutions if kept != "jpeg" else both.resolutions[:-1]:
        pixels = np.concatenate([store.get_many(np.arange(3), resolution) for store in stores])
        np.testing.assert_array_equal(both.get_many(np.arange(6), resolution), pixels)
    if kept != "jpeg":
        assert sum(f"images are kept as {kept}, also" in line for line in said) == 1


@pytest.mark.parametrize(
    ("crops", "kept", "said"),
    [("pad pad", "pad", []), ("pad center", "center", ["'pad'"]), ("center center", "center", [])],
)
def test_an_update_of_a_merged_set_crops_as_all_of_its_parts(tmp_path, crops, kept, said):
    stores = [
        labelled(tmp_path, f"s{i}", i, ("hat",), crop=crop) for i, crop in enumerate(crops.split())
    ]
    told: list[str] = []
    both = merge(stores, "both", tmp_path / "sets", Options(workers=0), told.append)
    assert both.manifest["crop"] == kept
    cropped = [line for line in told if "what an update adds is cropped" in line]
    assert [line.rpartition(" ")[2] for line in cropped] == said


def test_sets_that_do_not_fit_are_not_merged(tmp_path):
    one = labelled(tmp_path, "one", 1, ("hat",))
    grey = labelled(tmp_path, "grey", 2, ("hat",), channels=1)
    for stores, words in (([one], "one set"), ([one, grey], "grey"), ([one, one], "same name")):
        with pytest.raises(InputError, match=words):
            merge(stores, "both", tmp_path / "sets", Options(workers=0), print)


def test_a_copy_of_a_set_under_another_name_is_another_set(tmp_path):
    one = labelled(tmp_path, "one", 1, ("hat",))
    two = Store(shutil.copytree(one.path, one.path.with_name("two")))
    both = merge([one, two], "both", tmp_path / "sets", Options(workers=0), print)
    assert (both.names()[0], both.names()[20]) == ("one/000.png", "two/000.png")
