"""Labels are matched by name and refused by name; splits are seeded and keep groups whole."""

import json

import numpy as np
import pytest

from pgvae.data.labels import (
    Columns,
    from_celeba,
    from_columns,
    from_csv,
    from_dataset_json,
    some,
    split_by_fraction,
)
from pgvae.errors import InputError

NAMES = [f"{i}.png" for i in range(8)]


def csv_of(rows: dict[str, object], header: str = "name,g") -> str:
    return "\n".join([header, *(f"{name},{value}" for name, value in rows.items())]) + "\n"


# csv: which row speaks of which image


@pytest.mark.parametrize(
    ("labelled", "names"),
    [
        (["a.png", "b.jpg"], ["a.png", "b.jpg"]),
        (["a", "b"], ["a.png", "b.jpg"]),
        (["a.png", "b.png"], ["a.jpg", "b.webp"]),
        (["a", "b"], ["folder/a.png", "folder/b.png"]),
        (["x/a.png", "y/a.png"], ["x/a.png", "y/a.png"]),
        (["x/a", "y/a"], ["x/a.png", "y/a.png"]),
        (["Jr._0001", "Jr._0002"], ["Jr._0001.jpg", "Jr._0002.jpg"]),
        (["Jr._0001.jpg", "Jr._0002.jpg"], ["f/Jr._0001.jpg", "f/Jr._0002.jpg"]),
        (["Robert_Downey_Jr._0001", "v1.2_a"], ["Robert_Downey_Jr._0001.png", "v1.2_a.png"]),
        (["Zoë 顔", "b"], ["Zoë 顔.png", "b.png"]),
        (["A.PNG", "b"], ["A.PNG", "b.JPG"]),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_row_finds_its_image_by_name(labelled, names, turned):
    rows = dict(zip(labelled, (1.5, -2.0), strict=True))
    rows = dict(reversed(rows.items())) if turned else rows
    table = from_csv(csv_of(rows), names)
    assert table.attributes == ("g",)
    assert table.values.dtype == np.float32
    assert table.values.tolist() == [[1.5], [-2.0]]


@pytest.mark.parametrize("column", ["name", "file", "filename", "image", "image_id"])
def test_the_column_of_names_may_stand_anywhere_and_without_one_is_the_first(column):
    table = from_csv(f"g,{column},h\n1,b,3\n2,a,4\n", ["a.png", "b.png"])
    assert table.attributes == ("g", "h")
    assert table.values.tolist() == [[2, 4], [1, 3]]
    assert from_csv("picture,g\nb,1\na,2\n", ["a", "b"]).values.tolist() == [[2], [1]]


def test_quotes_spaces_and_blank_lines_are_read_as_csv():
    text = 'name,g\r\n"a, the first",1\r\n\r\n b , 2 \r\n'
    assert from_csv(text, ["a, the first.png", "b.png"]).values.tolist() == [[1], [2]]


@pytest.mark.parametrize(("names", "group"), [(("Ann", "Bob"), None), (("17", "18"), "person")])
def test_columns_of_words_and_what_the_split_goes_by_are_no_attributes(names, group):
    text = "name,person,g\na,{},1\nb,{},0\n".format(*names)
    table = from_csv(text, ["a", "b"], group=group)
    assert table.attributes == ("g",)
    assert tuple(table.columns["person"]) == names
    assert any("divides the set" in note for note in table.notes) == names[0].isdecimal()


def test_numbers_of_a_set_s_own_that_divide_it_are_named():
    columns = Columns({"age": np.array([1.0, 2.0]), "smile": np.array([0.5, 1.0])})
    table = from_columns(columns, ["a.png", "b.png"], group="age")
    assert table.attributes == ("smile",)
    assert any("no label: 'age'" in note for note in table.notes)


def test_chosen_columns_are_kept_in_the_order_chosen():
    table = from_csv("name,f,g,h\na,1,2,3\n", ["a"], chosen=("h", "f"))
    assert table.attributes == ("h", "f")
    assert table.values.tolist() == [[3, 1]]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,name,g", "{0}.png,Ann,{1}"),
        ("g,file_name", "{1},{0}.png"),
        ("g,where", "{1},/home/me/photos/{0}.png"),
        (",g", "{0}.png,{1}"),
        ("Name,g", "{0},{1}"),
    ],
)
def test_the_column_of_names_is_the_one_that_fits_the_images(header, row):
    names = [f"im{i}.png" for i in range(4)]
    text = "\n".join([header, *(row.format(f"im{i}", i) for i in range(4))])
    table = from_csv(text, names)
    assert table.attributes == ("g",)
    assert table.values.ravel().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "words", [("True", "False"), ("yes", "no"), ("Y", "N"), ("TRUE", "FALSE"), ("1.0", "0")]
)
def test_yes_and_no_in_words_are_1_and_0(words):
    table = from_csv(csv_of({"a": words[0], "b": words[1], "c": words[0]}), ["a", "b", "c"])
    assert table.values.tolist() == [[1], [0], [1]]
    assert table.notes == ()


def test_columns_that_are_no_labels_are_named():
    rows = [f"{i},{(7 * i) % 16},im{i},{'fm'[i % 2]},,{i % 2},p{i}" for i in range(16)]
    text = "\n".join([",index,name,sex,empty,g,person", *rows])
    names = [f"im{i}.png" for i in range(16)]
    table = from_csv(text, names, group="person")
    assert table.attributes == ("g",)
    (words, counts, nameless) = table.notes
    assert "'sex', 'empty'" in words
    assert "person" not in words
    assert "'index'" in counts
    assert "without a name" in nameless
    assert from_csv(text, names, chosen=("index",)).values[:3].ravel().tolist() == [0, 7, 14]


def test_columns_without_name_or_cells_are_no_news():
    table = from_csv("name,g,,\na,1,,\nb,0,,\n", ["a", "b"])
    assert (table.attributes, table.notes) == (("g",), ())


# csv: what is refused


@pytest.mark.parametrize("bad", ["nan", "NaN", "inf", "-inf", "", "yes", "1e39", "--"])
def test_a_value_that_is_no_finite_number_is_refused_by_name(bad):
    rows = dict.fromkeys(NAMES, 1) | {"3.png": bad, "5.png": bad}
    with pytest.raises(InputError) as caught:
        from_csv(csv_of(rows), NAMES)
    assert "'3.png'" in str(caught.value)
    assert "'5.png'" in str(caught.value)
    assert "'4.png'" not in str(caught.value)


FIRST_FIVE = "'0.png', '1.png', '2.png', '3.png', '4.png' and 3 more$"


@pytest.mark.parametrize(
    ("rows", "chosen", "words"),
    [
        (dict.fromkeys(NAMES, "nan"), (), FIRST_FIVE),
        (dict.fromkeys(NAMES, "inf"), (), FIRST_FIVE),
        (dict.fromkeys(NAMES, "so"), ("g",), "'g' is 'so', not a number, for " + FIRST_FIVE),
        (dict.fromkeys(NAMES, ""), ("g",), "'g' is empty for " + FIRST_FIVE),
        ({"0.png": 1}, (), r"missing for '1\.png', .*'5\.png' and 2 more$"),
        (
            dict.fromkeys([*NAMES, *(f"extra{i}" for i in range(7))], 1),
            (),
            "not there or not read: 'extra0', .*'extra4' and 2 more$",
        ),
    ],
    ids=["nan", "infinite", "words", "empty", "missing", "extra"],
)
def test_of_many_that_are_wrong_the_first_five_are_named(rows, chosen, words):
    with pytest.raises(InputError, match=words):
        from_csv(csv_of(rows), NAMES, chosen)


@pytest.mark.parametrize("second", ["0.png", "0", "0.jpg", " 0.png "])
def test_a_name_that_stands_twice_is_refused(second):
    text = csv_of(dict.fromkeys(NAMES, 1)) + f"{second},2\n"
    with pytest.raises(InputError, match="twice"):
        from_csv(text, NAMES)


def test_a_row_that_fits_two_images_is_refused():
    with pytest.raises(InputError, match=r"'cat/1\.png', 'dog/1\.png'"):
        from_csv("name,g\n1,0\n", ["cat/1.png", "dog/1.png"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no rows"),
        ("name,g\n", "no rows"),
        ("name,g\na,1\nb\n", "without 2 cells: 'b'"),
        ("name,g\na,1,5\nb,1\n", "without 2 cells: 'a'"),
        ("name,g,g\na,1,2\nb,1,2\n", "column stands twice"),
        ("name g\na 1\nb 2\n", "one column, 'name g'"),
        ("a,1\nb,2\n", "first row names an image, 'a': put a header"),
        ("a.png,1,1\nb.png,2,2\n", "first row names an image, 'a.png'"),
        ('name,g\na,"' + "x" * 200_000, "labels"),
    ],
    ids=[
        "nothing",
        "header",
        "short row",
        "long row",
        "column twice",
        "spaces",
        "no header",
        "no header, same cells",
        "open quote",
    ],
)
def test_a_malformed_csv_is_refused(text, reason):
    with pytest.raises(InputError, match=reason):
        from_csv(text, ["a", "b"])


def test_an_unknown_chosen_column_is_refused_with_a_hint():
    with pytest.raises(InputError, match=r"'glases'.*glasses"):
        from_csv("name,glasses\na,1\n", ["a"], chosen=("glases",))


# dataset.json


def labels_json(labels: object) -> str:
    return json.dumps({"labels": labels})


@pytest.mark.parametrize(
    ("labels", "attributes", "values"),
    [
        ([["b.png", 2], ["a.png", 0]], ("class0", "class1", "class2"), [[1, 0, 0], [0, 0, 1]]),
        ([["b.png", [0.5, -1]], ["a.png", [2, 3]]], ("label0", "label1"), [[2, 3], [0.5, -1]]),
    ],
)
def test_classes_become_an_attribute_each_and_vectors_their_components(labels, attributes, values):
    table = from_dataset_json(labels_json(labels), ["a.png", "b.png"])
    assert table.attributes == attributes
    assert table.values.tolist() == values
    assert table.values.dtype == np.float32


def test_attributes_are_chosen_of_a_dataset_json_too():
    text = labels_json([["b.png", 2], ["a.png", 0]])
    table = from_dataset_json(text, ["a.png", "b.png"], ("class2", "class0"))
    assert table.attributes == ("class2", "class0")
    assert table.values.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(InputError, match=r"no label 'clas2' .* did you mean 'class2'"):
        from_dataset_json(text, ["a.png", "b.png"], ("clas2",))


@pytest.mark.parametrize("text", ['{"labels": null}', "{}"])
def test_null_is_a_set_without_labels(text):
    table = from_dataset_json(text, ["a", "b"])
    assert table.attributes == ()
    assert table.values.shape == (2, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no json", "cannot be read"),
        ("[]", "cannot be read"),
        (labels_json([["a"], ["b"]]), "cannot be read"),
        (labels_json(7), "cannot be read"),
        (labels_json([["a", 0]]), "missing for 'b'"),
        (labels_json([["a", 0], ["b", 1], ["c", 1]]), "not there or not read: 'c'"),
        (labels_json([["a", 0], ["b", 1], ["b", 0]]), "'b' stands twice"),
        (labels_json([["a", 0], ["b", -1]]), "must be 0, 1, 2"),
        (labels_json([["a", 0], ["b", 10**9]]), "must be 0, 1, 2"),
        (labels_json([["a", 0], ["b", [1.0]]]), "must all be"),
        (labels_json([["a", [1.0, 2.0]], ["b", [1.0]]]), "must all be"),
        (labels_json([["a", "x"], ["b", "y"]]), "must all be"),
        (labels_json([["a", None], ["b", None]]), "must all be"),
        (labels_json([["a", [1.0]], ["b", [float("nan")]]]), "NaN or infinite for 'b'"),
        (labels_json([["a", [float("inf")]], ["b", [0.0]]]), "NaN or infinite for 'a'"),
        (labels_json([[1, 0], [2, 0]]), "dataset.json|missing"),
        (labels_json([["a", True], ["b", False]]), "must all be"),
    ],
)
def test_a_wrong_dataset_json_is_refused(text, reason):
    with pytest.raises(InputError, match=reason):
        from_dataset_json(text, ["a", "b"])


# CelebA's attribute file

CELEBA = """3
Bald Smiling
000001.jpg -1  1
000002.jpg  1 -1
000003.jpg  1  1
"""


def test_celebas_attributes_are_read_as_0_and_1_and_can_be_chosen():
    names = ["img/000002.jpg", "img/000001.jpg"]
    table = from_celeba(CELEBA, names)
    assert table.attributes == ("Bald", "Smiling")
    assert table.values.tolist() == [[1, 0], [0, 1]]
    assert from_celeba(CELEBA, names, chosen=("Smiling",)).values.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CELEBA, r"no row for '000009\.jpg'"),
        ("", "list_attr_celeba"),
        ("3\n", "list_attr_celeba"),
        (CELEBA.replace(" -1  1", " -1"), "000001.jpg"),
    ],
)
def test_a_wrong_attribute_file_is_refused(text, reason):
    with pytest.raises(InputError, match=reason):
        from_celeba(text, ["000009.jpg"])


# Splits


@pytest.mark.parametrize(("count", "fraction"), [(100, 0.05), (1000, 0.3), (40, 0.5)])
def test_a_fraction_is_held_out_and_the_seed_says_which(count, fraction):
    split = split_by_fraction(count, fraction, seed=1)
    assert split.dtype == np.uint8
    assert split.sum() == round(count * fraction)
    np.testing.assert_array_equal(split, split_by_fraction(count, fraction, seed=1))
    assert (split != split_by_fraction(count, fraction, seed=2)).any()


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(2, 0.01, 1), (2, 0.99, 1), (10, 0.001, 1), (10, 0.999, 9), (1, 0.5, 0), (10, 0.0, 0)],
)
def test_each_side_has_at_least_one(count, fraction, held):
    assert split_by_fraction(count, fraction, seed=0).sum() == held


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_on_one_side(seed):
    people = [f"person{i % 17}" for i in range(200)]
    split = split_by_fraction(200, 0.3, seed, people)
    held, kept = ({p for p, s in zip(people, split, strict=True) if s == k} for k in (1, 0))
    assert held.isdisjoint(kept)
    assert len(held) == round(17 * 0.3)


def test_two_groups_are_one_on_each_side_and_one_is_kept_for_training():
    assert split_by_fraction(4, 0.01, 0, ["a", "b", "a", "b"]).sum() == 2
    assert split_by_fraction(4, 0.5, 0, ["a"] * 4).sum() == 0


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "'0'"), (5, "'0', '1', '2', '3', '4'"), (1006, "'0', '1', '2', '3', '4' and 1,001 more")],
)
def test_five_names_stand_for_all(count, text):
    assert some([str(i) for i in range(count)]) == text
