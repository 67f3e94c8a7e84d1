"""The recipes: cartoon faces that depend on (seed, index) alone, CelebA-HQ, CelebA, folders."""

import io
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from making import noise_files, prepared, unread, write_files, zip_of
from PIL import Image

from pgvae.data import load_images
from pgvae.data.avatars import ATTRIBUTES, AvatarSource
from pgvae.data.labels import Table
from pgvae.data.recipes import Ingredients, Split, avatars, folder, recipe_of
from pgvae.errors import InputError

# avatars


@pytest.fixture(scope="module")
def parts():
    """The packages that draw."""
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")


needs_parts = pytest.mark.usefixtures("parts")


def drawn(source: AvatarSource, index: int) -> np.ndarray:
    """int [H, W, 3]."""
    with Image.open(io.BytesIO(source.read(index))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


class Forced(AvatarSource):
    """Avatars that all have, or all lack, some attribute."""

    def force(self, **has: bool) -> "Forced":
        self.forced = has
        return self

    def _has(self, index: int) -> dict[str, bool]:
        return super()._has(index) | self.forced


@needs_parts
def test_image_i_depends_on_the_seed_and_i_alone():
    few, many, other = (AvatarSource(*c, 32) for c in [(5, 3), (500, 3), (5, 4)])
    for index in range(5):
        assert few.read(index) == many.read(index)
        assert few.read(index) != other.read(index)
    np.testing.assert_array_equal(few.labels.values, many.labels.values[:5])
    assert list(few.names) == list(many.names[:5])
    forth = [few.read(i) for i in range(5)]
    assert [few.read(i) for i in reversed(range(5))] == forth[::-1]
    assert len(set(forth)) == 5
    assert pickle.loads(pickle.dumps(few)).read(2) == forth[2]


@needs_parts
@pytest.mark.parametrize("resolution", [32, 64])
def test_a_drawing_is_opaque_and_of_the_size_asked(resolution):
    source = AvatarSource(1, 0, resolution)
    with Image.open(io.BytesIO(source.read(0))) as image:
        assert image.size == source.size(0) == (resolution, resolution)
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert (alpha == 255).all()


@needs_parts
def test_shares_are_those_declared_and_independent():
    values = AvatarSource(4000, 0, 32).labels.values
    assert set(np.unique(values)) == {0, 1}
    np.testing.assert_allclose(values.mean(axis=0), [0.4, 0.3, 0.25], atol=0.032)  # 4 sigma
    correlation = np.corrcoef(values.T)[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 4 / 4000**0.5


@needs_parts
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_label_is_what_is_drawn(attribute):
    plain = AvatarSource(24, 1, 64)
    having = Forced(24, 1, 64).force(**{attribute: True})
    lacking = Forced(24, 1, 64).force(**{attribute: False})
    seen = set()
    for index in range(24):
        label = bool(plain.labels.values[index, ATTRIBUTES.index(attribute)])
        picture = plain.read(index)
        assert (picture == having.read(index)) is label
        assert (picture == lacking.read(index)) is not label
        seen.add(label)
    assert seen == {True, False}


@needs_parts
@pytest.mark.parametrize(
    ("attribute", "rows", "share"),
    [("glasses", (16, 40), 0.9), ("facial_hair", (28, 60), 0.9), ("hat", (0, 34), 0.7)],
)
def test_an_attribute_changes_its_own_part_of_the_face_and_visibly(attribute, rows, share):
    having = Forced(40, 2, 64).force(**{attribute: True})
    lacking = Forced(40, 2, 64).force(**{attribute: False})
    change = np.zeros((64, 64))
    for index in range(40):
        difference = np.abs(drawn(having, index) - drawn(lacking, index)).max(axis=-1)
        assert (difference > 60).sum() >= 20  # pixels: it is to be seen in every drawing
        change += difference
    # Of a hat less: it also takes the long hair below away.
    assert change[slice(*rows)].sum() > share * change.sum()


@needs_parts
def test_they_are_prepared_with_their_labels(tmp_path):
    store = prepared(avatars("a", 12, 7, 32, Split(0.25)), tmp_path, resolution=32)
    source = AvatarSource(12, 7, 32)
    assert store.attributes == ATTRIBUTES
    np.testing.assert_array_equal(store.labels, source.labels.values)
    for index in range(12):
        np.testing.assert_array_equal(store.get(index, 32), drawn(source, index).transpose(2, 0, 1))


@pytest.mark.parametrize("package", ["python_avatars", "resvg_py"])
def test_a_missing_package_gives_one_line_with_the_cure(monkeypatch, package):
    for name in ("python_avatars", "resvg_py"):
        there = None if name == package else types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, there)
    with pytest.raises(InputError) as caught:
        avatars("a", 1, 0, 32, Split())
    assert str(caught.value).endswith("pip install 'pgvae[demo]'")
    assert f"needs {package}:" in str(caught.value)
    assert "\n" not in str(caught.value)


# folder


def test_a_csv_goes_before_the_dataset_json(tmp_path):
    files = noise_files(2) | {"dataset.json": b'{"labels": [["000.png", 1], ["001.png", 0]]}'}
    path = write_files(tmp_path / "in", files)
    (tmp_path / "labels.csv").write_text("\ufeffname,g\n000,3\n001,4\n", encoding="utf-8")
    names = ["000.png", "001.png"]
    assert folder("f", path, Split()).labels(names).attributes == ("class0", "class1")
    chosen = folder("f", path, Split(), tmp_path / "labels.csv").labels(names)
    assert (chosen.attributes, chosen.values.tolist()) == (("g",), [[3], [4]])


def test_a_dataset_json_in_a_zip_is_read(tmp_path):
    labels = b'{"labels": [["001.png", [0.5]], ["000.png", [2]]]}'
    zip_of(tmp_path / "a.zip", *noise_files(2).items(), ("dataset.json", labels))
    store = prepared(folder("f", tmp_path / "a.zip", Split()), tmp_path)
    assert (store.attributes, store.labels.tolist()) == (("label0",), [[2], [0.5]])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["dataset.json", "mine/dataset.json", "mine/all/dataset.json"])
def test_a_dataset_json_is_found_in_the_folder_that_all_images_are_in(tmp_path, packed, place):
    files = {f"mine/all/{name}": data for name, data in noise_files(2).items()}
    files[place] = b'\xef\xbb\xbf{"labels": [["all/001.png", 0], ["000.png", 1]]}'  # with a BOM
    path = write_files(tmp_path / "in", files)
    if packed:
        path = zip_of(tmp_path / "a.zip", *files.items())
    recipe = folder("f", path, Split())
    assert recipe.labels(list(recipe.source.names)).values.tolist() == [[0, 1], [1, 0]]


def said_of_labels(path: Path, files: dict[str, bytes]) -> str:
    recipe = folder("f", write_files(path, files), Split())
    (note,) = recipe.labels(list(recipe.source.names)).notes or ("",)
    return note


def test_what_may_have_been_meant_as_labels_is_named(tmp_path):
    of_classes = {f"{c}/{n}": d for c in ("cats", "dogs") for n, d in noise_files(2).items()}
    assert said_of_labels(tmp_path / "one", noise_files(2) | {"notes.txt": b""}) == ""
    note = said_of_labels(tmp_path / "two", noise_files(2) | {"meta/labels.csv": b""})
    assert "'meta/labels.csv' are not read: --labels takes" in note
    note = said_of_labels(tmp_path / "three", of_classes | {"cats/dataset.json": b"{}"})
    assert "'cats/dataset.json'" in note
    loose = of_classes | noise_files(1)
    wrapped = {f"all/{name}": data for name, data in loose.items()}
    for path, files in (("four", loose), ("five", wrapped)):
        assert "2 folders, 'cats', 'dogs'" in said_of_labels(tmp_path / path, files)


def test_attributes_without_labels_are_refused(tmp_path):
    path = write_files(tmp_path / "in", noise_files(2))
    for more in ({}, {"dataset.json": b'{"labels": null}'}):
        recipe = folder("f", write_files(path, more), Split(), chosen=("glasses",))
        with pytest.raises(InputError, match="glasses"):
            recipe.labels(list(recipe.source.names))


def test_labels_may_be_a_dataset_json_from_elsewhere(tmp_path):
    path = write_files(tmp_path / "in", noise_files(2))
    (tmp_path / "other.json").write_text('{"labels": [["001", [2]], ["000", [3]]]}')
    recipe = folder("f", path, Split(), tmp_path / "other.json")
    assert recipe.labels(list(recipe.source.names)).values.tolist() == [[3], [2]]


def test_a_path_takes_no_source(tmp_path):
    path = write_files(tmp_path / "in", noise_files(2))
    with pytest.raises(InputError, match=r"'celebhq' is no recipe .*'celebahq'.* no --source"):
        recipe_of("celebhq", Ingredients(source=path))
    with pytest.raises(InputError, match="leave one of them out"):
        recipe_of(str(path), Ingredients(source=path))
    assert recipe_of(str(path), Ingredients()).name == "in"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="no such folder"):
        recipe_of(str(tmp_path / "circle"), Ingredients())


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"{", b'{"labels": [[1, 2, 3]]}'])
def test_a_damaged_dataset_json_is_refused(tmp_path, data):
    recipe = folder("f", write_files(tmp_path, noise_files(2) | {"dataset.json": data}), Split())
    with pytest.raises(InputError, match=r"dataset\.json cannot be read"):
        recipe.labels(list(recipe.source.names))


def test_a_labels_file_that_cannot_be_read_is_named(tmp_path):
    path = write_files(tmp_path / "in", noise_files(2))
    (tmp_path / "latin.csv").write_bytes(b"name,g\ncaf\xe9,1\n")
    for file in ("nothing.csv", "latin.csv", "in"):
        with pytest.raises(InputError, match=f"labels file .*{file} cannot be read") as caught:
            folder("f", path, Split(), tmp_path / file).labels(["000.png"])
        assert str(caught.value).endswith("save it as UTF-8") is (file == "latin.csv")


@pytest.mark.parametrize("fraction", [1.0, 1.5, -0.1, float("nan"), float("inf")])
def test_a_fraction_that_leaves_nothing_to_train_on_is_refused(fraction):
    with pytest.raises(InputError, match="val fraction"):
        Split(fraction)


def test_a_split_by_an_unknown_column_names_those_there_are():
    table = Table((), np.zeros((2, 0), np.float32), {"person": ["a", "b"], "place": ["x", "y"]})
    with pytest.raises(InputError, match=r"--split-by persn: .* only person, place"):
        Split(by="persn")([0, 1], table)


def test_a_split_that_cannot_be_is_refused_before_any_image_is_looked_at(tmp_path):
    path = write_files(tmp_path / "in", noise_files(2))
    (tmp_path / "labels.csv").write_text("name,person\n000,Ann\n001,Bob\n")
    for split, words in ((Split(by="persn"), "--split-by persn"), (Split(by="person"), "read")):
        recipe = unread(folder("f", path, split, tmp_path / "labels.csv"))
        with pytest.raises((InputError, AssertionError), match=words):
            prepared(recipe, tmp_path / "root")


# Real photographs


@pytest.mark.shared_data
def test_real_faces_are_labelled_and_split_by_person(shared_data, tmp_path):
    archive, csv = shared_data / "faces-128.zip", shared_data / "faces-128.csv"
    recipe = folder("faces", archive, Split(0.1, by="person"), csv)
    table = recipe.labels(list(recipe.source.names))
    assert table.attributes == ("p_glasses", "p_facial_hair", "p_male", "p_smiling")
    by_name = {row.split(",")[0]: row for row in csv.read_text().splitlines()}
    for index in (0, 1234, 10_143):
        row = by_name[recipe.source.names[index].removesuffix(".jpg")].split(",")
        np.testing.assert_allclose(table.values[index], [float(cell) for cell in row[2:]])
    split = recipe.split(list(range(len(table.values))), table)
    people = np.array(table.columns["person"])
    assert set(people[split == 1]).isdisjoint(people[split == 0])
    assert 0.05 < split.mean() < 0.15
    store = prepared(recipe, tmp_path, count=40, resolution=32)
    assert len(store) == 40
    assert 60 < store.get_many(np.arange(40), 32).mean() < 180
    recipe.source.close()


@pytest.mark.shared_data
def test_real_photographs_are_prepared_at_1024_px(shared_data, tmp_path):
    recipe = folder("photos", shared_data / "photos-1024.zip", Split())
    store = prepared(recipe, tmp_path, count=2)
    assert store.resolutions == tuple(4 * 2**k for k in range(9))
    pixels, names = load_images([shared_data / "photos-1024.zip"], 1024)
    assert store.names() == names[:2]
    np.testing.assert_array_equal(store.get(1, 1024), pixels[1])
    store.verify()
    recipe.source.close()
