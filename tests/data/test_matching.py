"""Each row finds its image, or the message says why not."""

import random
import unicodedata

import pytest

from pgvae.data.matching import in_order, naming_column
from pgvae.errors import InputError


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name,
        lambda name: name.removesuffix(".png"),
        lambda name: f"images/{name}",
        lambda name: f"./{name}",
        lambda name: f"/home/me/data/{name}",
        lambda name: "C:\\data\\" + name.replace("/", "\\"),
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: name.replace(".png", ".JPEG"),
        lambda name: name.rpartition("/")[2],
    ],
)
def test_a_name_is_known_however_it_is_spelled(spell, seed):
    names = [f"{folder}/Zoë-{folder}{i}.png" for folder in ("cat", "dog") for i in range(10)]
    order = list(range(20))
    random.Random(seed).shuffle(order)
    labelled = [spell(names[i]) for i in order]
    assert [order[row] for row in in_order(labelled, names)] == list(range(20))


def test_equal_names_with_other_endings_have_their_own_rows():
    assert in_order(["a.jpg", "a.png"], ["a.png", "a.jpg"]) == [1, 0]
    assert in_order(["a.jpg", "a.png"], ["a.png", "a.webp"]) == [1, 0]  # what is left over


@pytest.mark.parametrize("label", ["train/1.png", "rain/1.png", "x/val/1.png/2.png", "11.png"])
def test_another_folder_is_another_image(label):
    with pytest.raises(InputError, match=r"missing for 'val/1\.png'"):
        in_order([label], ["val/1.png"])


@pytest.mark.parametrize(
    ("labelled", "names", "words"),
    [
        (["a"], ["a.png", "a.jpg"], r"fits several images.* endings: 'a\.png', 'a\.jpg'"),
        (["x/a", "y/a"], ["a.png"], r"missing for 'a\.png'"),
        (["a.png", "a.png"], ["a.png"], "'a.png' stands twice"),
        (["a.png", "a"], ["a.png"], "'a' stands twice"),
        (["a.png", "b.png"], ["a.png"], "not there or not read: 'b.png'"),
    ],
)
def test_what_could_be_two_is_refused(labelled, names, words):
    with pytest.raises(InputError, match=words):
        in_order(labelled, names)


def test_numbers_that_happen_to_be_names_are_not_taken_for_them():
    names = [f"{i}.png" for i in range(30)]
    rows = [[str(i % 2), str(i % 7), f"{i}"] for i in range(30)]
    assert naming_column(["glasses", "age", "which"], rows, names) == 2


@pytest.mark.parametrize("title", ["", "Unnamed: 0", "index", "n"])
@pytest.mark.parametrize("ending", [".png", ""])
def test_row_numbers_are_not_taken_for_names(title, ending):
    names = [f"{i}.png" for i in range(30)]
    rows = [[str(i), f"{(i * 7) % 30}{ending}", "1"] for i in range(30)]
    if ending or title != "n":
        assert naming_column([title, "picture", "g"], rows, names) == 1
    assert naming_column([title, "image_id", "g"], rows, names) == 1
    assert naming_column([title, "h", "g"], [[a, "0.5", c] for a, _, c in rows], names) == 0
