"""HDF5 files: every array of images is taken or refused, every array of labels taken or named."""

from pathlib import Path

import numpy as np
import pytest
from making import noise, prepared

from pgvae.data import Store
from pgvae.data.recipes import Split, folder
from pgvae.data.sources import open_source
from pgvae.errors import InputError

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

COUNT = 12
AGES = np.linspace(20, 31, COUNT, dtype=np.float32)
KINDS, SMILES = np.arange(COUNT) % 3, np.arange(COUNT) % 2


def pictures(count: int = COUNT, side: int = 8, seed: int = 0) -> np.ndarray:
    """uint8 [N, H, W, C]."""
    return np.stack([noise(100 * seed + i, side, side) for i in range(count)])


def file_of(path: Path, **arrays) -> Path:
    """An HDF5 file of those arrays; "_in_" in a name is the slash of a group."""
    with h5py.File(path / "set.h5", "w") as file:
        for name, array in arrays.items():
            file[name.replace("_in_", "/")] = array
    return path / "set.h5"


def made(path: Path, chosen=(), **arrays) -> tuple[Store, list[str]]:
    said: list[str] = []
    recipe = folder("set", file_of(path, **arrays), Split(), chosen=chosen)
    return prepared(recipe, path / "sets", said=said, force=True), said


def sides(store: Store) -> dict[str, set[bytes]]:
    return {
        split: {image.tobytes() for image in store.get_many(store.split(split), 8)}
        for split in ("train", "val")
    }


def of_pictures(array: np.ndarray) -> set[bytes]:
    return {picture.transpose(2, 0, 1).tobytes() for picture in array}


# Splits


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("train_in_images", "test_in_images"),
        ("training_in_x", "val_in_x"),
        ("data_in_train", "data_in_valid"),
        ("x_train", "x_validation"),
        ("images", "Test_in_images"),
    ],
)
def test_arrays_of_train_and_test_are_the_sides_of_the_split(tmp_path, train, held):
    ours, theirs = pictures(9), pictures(3, seed=1)
    store, said = made(tmp_path, **{held: theirs, train: ours})
    assert sides(store) == {"train": of_pictures(ours), "val": of_pictures(theirs)}
    assert said == []


def test_test_and_val_are_both_held_out_and_labels_stay_with_their_images(tmp_path):
    parts = {"train": 8, "val": 3, "test": 5}
    shown = {split: pictures(n, seed=i) for i, (split, n) in enumerate(parts.items())}
    classes = {split: np.arange(n) % 3 for split, n in parts.items()}
    images = {f"{split}_in_images": shown[split] for split in parts}
    labels = {f"{split}_in_labels": classes[split] for split in parts}
    store, said = made(tmp_path, **images, **labels)
    assert said == []
    assert store.attributes == ("class0", "class1", "class2")
    assert len(store.split("val")) == 8
    wanted = {
        picture.transpose(2, 0, 1).tobytes(): number
        for split in parts
        for picture, number in zip(shown[split], classes[split], strict=True)
    }
    for index in range(len(store)):
        assert store.labels[index].argmax() == wanted[store.get(index, 8).tobytes()]


def test_one_split_alone_is_held_out_as_any_set_and_its_names_are_left_out(tmp_path):
    given = {"train_in_images": pictures(), "train_in_smile": SMILES, "train_in_label": KINDS}
    store, _ = made(tmp_path, **given)
    assert store.attributes == ("class0", "class1", "class2", "smile")
    assert len(store.split("val")) == 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"images": pictures(), "others": pictures(5)}, ("images", "others")),
        ({"left": pictures(), "right": pictures(side=4)}, ("left", "right")),
        ({"data8": pictures(), "data4": pictures(5, 4)}, ("data8", "data4")),
        ({"view1": pictures(), "view2": pictures(seed=1)}, ("view1", "view2")),
        ({"images": pictures(), "masks": pictures()[..., 0]}, ("images", "masks")),
        ({"images": pictures(), "train_in_images": pictures()}, ("images", "train/images")),
        (
            {"train_in_a": pictures(), "train_in_b": pictures(), "val_in_a": pictures()},
            ("train/a", "train/b", "val/a"),
        ),
    ],
    ids=range(7),
)
def test_several_arrays_that_are_neither_splits_nor_sizes_are_refused_by_name(
    tmp_path, more, named
):
    with pytest.raises(InputError, match="one array of images is wanted") as caught:
        open_source(file_of(tmp_path, **more))
    assert all(f"{name} uint8 [" in str(caught.value) for name in named)
    assert "\n" not in str(caught.value)


def test_the_largest_of_several_sizes_is_taken_in_each_split(tmp_path):
    ours, theirs = pictures(9), pictures(3, seed=1)
    given = {
        f"{split}_in_data{side}x{side}": shown[:, :: 8 // side, :: 8 // side]
        for split, shown in (("train", ours), ("val", theirs))
        for side in (2, 4, 8)
    }
    store, _ = made(tmp_path, **given)
    assert sides(store) == {"train": of_pictures(ours), "val": of_pictures(theirs)}


def test_labels_of_one_split_alone_and_of_none_are_refused(tmp_path):
    given = {"train_in_images": pictures(), "test_in_images": pictures(4, seed=1)}
    with pytest.raises(InputError, match="images without labels beside others: 'test/images'"):
        made(tmp_path, **given, train_in_labels=KINDS)
    with pytest.raises(InputError, match=r"labels int64 \[16\]: labels of 12 and 4 images"):
        made(tmp_path, **given, labels=np.arange(16) % 3)
    np.save(tmp_path / "set-labels.npy", np.arange(16) % 3)
    with pytest.raises(InputError, match=r"set-labels\.npy does not say of which split it is"):
        made(tmp_path, **given)


# Labels


@pytest.mark.parametrize(
    ("given", "attributes"),
    [
        ({"smile": SMILES, "age": AGES}, ("age", "smile")),
        ({"smile": SMILES}, ("smile",)),
        ({"smile": SMILES == 1, "glasses": SMILES}, ("glasses", "smile")),
        ({"sign": 2 * SMILES - 1}, ("sign",)),
        ({"kind": KINDS}, ("kind_0", "kind_1", "kind_2")),
        ({"kind": KINDS, "smile": SMILES}, ("kind_0", "kind_1", "kind_2", "smile")),
        ({"yaw": KINDS * 30 - 30}, ("yaw",)),
        ({"label": SMILES}, ("class0", "class1")),
        ({"y": KINDS, "age": AGES}, ("class0", "class1", "class2", "age")),
        (
            {"classes": SMILES, "kind": KINDS},
            ("classes_0", "classes_1", "kind_0", "kind_1", "kind_2"),
        ),
        ({"faces_in_hat": SMILES}, ("faces/hat",)),
        ({"latest": SMILES}, ("latest",)),
    ],
    ids=range(12),
)
def test_an_array_keeps_its_name_unless_it_numbers_classes(tmp_path, given, attributes):
    store, said = made(tmp_path, images=pictures(), **given)
    assert store.attributes == attributes
    assert said == []
    for name, array in given.items():
        if name in attributes:
            values = np.asarray(array, np.float32)
            np.testing.assert_array_equal(store.labels[:, attributes.index(name)], values)


def test_whole_numbers_that_count_the_images_are_named(tmp_path):
    store, said = made(tmp_path, images=pictures(), smile=SMILES, identity=np.arange(COUNT))
    assert store.attributes == ("smile",)
    assert said == [
        "warning: columns that count rows are no labels: 'identity'; or name --attributes"
    ]
    store, said = made(
        tmp_path, ("identity",), images=pictures(), smile=SMILES, identity=np.arange(COUNT)
    )
    assert store.labels[:, 0].tolist() == [*range(COUNT)]
    assert said == []


@pytest.mark.parametrize(
    "array",
    [np.eye(3)[KINDS], np.eye(3, dtype="f4")[KINDS], np.cos(np.ones((12, 3))), KINDS[:, None]],
    ids=range(4),
)
def test_labels_in_the_file_are_what_they_are_in_a_file_beside_it(tmp_path, array):
    inside, said = made(tmp_path, images=pictures(), labels=array)
    np.save(tmp_path / "set-labels.npy", array)
    beside, _ = made(tmp_path, images=pictures())
    assert inside.attributes == beside.attributes
    assert len(inside.attributes) == 3
    np.testing.assert_array_equal(inside.labels, beside.labels)
    assert said == []


def test_rows_of_numbers_under_another_name_are_labels_with_it(tmp_path):
    rows = np.random.default_rng(0).random((COUNT, 2), np.float32)
    store, said = made(tmp_path, images=pictures(), pose=rows, label=KINDS)
    assert store.attributes == ("class0", "class1", "class2", "pose_0", "pose_1")
    np.testing.assert_array_equal(store.labels[:, 3:], rows)
    assert said == []


def test_text_is_said_to_be_no_label_and_holds_people_out(tmp_path):
    people = np.array([f"p{i % 4}" for i in range(COUNT)], "S")
    given = {"images": pictures(), "label": people}
    _, said = made(tmp_path, **given)
    assert said == ["warning: columns without numbers are no labels: 'label'; 1 and 0 would be"]
    recipe = folder("by", tmp_path / "set.h5", Split(0.5, by="label"))
    store = prepared(recipe, tmp_path / "sets")
    held = {index % 4 for index in store.split("val")}
    assert held.isdisjoint({index % 4 for index in store.split("train")})


@pytest.mark.parametrize(
    "wrong", [KINDS[:-1], np.arange(40), np.zeros((11, 3)), np.zeros((COUNT, 2, 2))]
)
def test_labels_of_other_images_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=r"holds labels .* \[.*\]: labels of 12 images are wanted"):
        made(tmp_path, images=pictures(), labels=wrong)


def test_arrays_that_are_nothing_of_the_images_are_named(tmp_path):
    more = {"mean": np.zeros(3), "latents": np.zeros((COUNT, 2000)), "version": 3}
    store, said = made(tmp_path, images=pictures(), smile=SMILES, **more)
    assert store.attributes == ("smile",)
    words = "arrays that are no labels of the images are left out: 'latents', 'mean', 'version'"
    assert said == [f"warning: {words}"]
    _, said = made(tmp_path, images=pictures(), **more)
    assert said == [f"warning: {words}"]


def test_labels_that_say_to_hold_far_more_than_the_file_are_not_read(tmp_path):
    path = file_of(tmp_path, images=np.zeros((100_000, 2, 2), np.uint8))
    with h5py.File(path, "a") as file:
        file.create_dataset("pose", (100_000, 1000), np.float64)
    with pytest.raises(InputError, match="it unpacks to 800,000,000 bytes: refused"):
        open_source(path).columns()
