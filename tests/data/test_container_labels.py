"""Labels in tars, tables and records: each is taken, or named where it is none."""

import datetime
import decimal
import json
import struct

import numpy as np
import pytest
from making import encoded, noise, prepared, write_tar

from pgvae.data.recipes import Split, folder
from pgvae.errors import InputError

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("google_crc32c", reason="google-crc32c is not installed")

import pyarrow.parquet
from packing import example, files, write_arrow, write_records

COUNT = 12
FILES, KINDS = files(COUNT), [i % 3 for i in range(COUNT)]
ROWS = [[i % 2, 1, i / 4] for i in range(COUNT)]
ODD = [[1] * (i % 3) for i in range(COUNT)]
NO_CELLS = "warning: columns that are neither numbers nor text, nor a list of as many numbers"


def table_of(path, kind, **columns):
    table = pyarrow.table({"image": FILES, **columns})
    if kind == "arrow":
        return write_arrow(path / "set.arrow", table)
    pyarrow.parquet.write_table(table, path / "set.parquet", row_group_size=5)
    return path / "set.parquet"


def made(path, **options):
    said = []
    recipe = folder("set", path, Split(), **options)
    return prepared(recipe, path.parent / "sets", said=said, force=True), said


kinds_of_table = pytest.mark.parametrize("kind", ["parquet", "arrow"])


# Tables


@kinds_of_table
def test_numbers_of_any_type_and_lists_of_one_length_are_labels(tmp_path, kind):
    columns = {
        "price": pyarrow.array([decimal.Decimal(i) / 4 for i in range(COUNT)]),
        "pose": ROWS,
        "fixed": pyarrow.array(ROWS, pyarrow.list_(pyarrow.float32(), 3)),
        "yes": [[i % 2 == 0] for i in range(COUNT)],
        "level": pyarrow.array([i % 4 for i in range(COUNT)]).dictionary_encode(),
    }
    store, said = made(table_of(tmp_path, kind, **columns))
    assert said == []
    found = dict(zip(store.attributes, store.labels.T.tolist(), strict=True))
    assert found["price"] == [i / 4 for i in range(COUNT)]
    assert found["level"] == [i % 4 for i in range(COUNT)]
    assert found["yes"] == [i % 2 == 0 for i in range(COUNT)]
    for name in ("pose", "fixed"):
        assert [found[f"{name}_{k}"] for k in range(3)] == np.transpose(ROWS).tolist()
    assert len(found) == 9


@kinds_of_table
def test_a_list_called_label_is_a_class_or_a_vector_as_in_other_files(tmp_path, kind):
    store, _ = made(table_of(tmp_path, kind, label=np.eye(3)[KINDS].tolist()))
    assert store.attributes == ("class0", "class1", "class2")
    assert store.labels.argmax(1).tolist() == KINDS
    store, _ = made(table_of(tmp_path, kind, label=ROWS))
    assert store.attributes == ("label0", "label1", "label2")


@kinds_of_table
def test_text_in_a_dictionary_is_text(tmp_path, kind):
    people = pyarrow.array([f"p{i % 4}" for i in range(COUNT)]).dictionary_encode()
    path = table_of(tmp_path, kind, label=people)
    _, said = made(path)
    assert said == ["warning: columns without numbers are no labels: 'label'; 1 and 0 would be"]
    store = prepared(folder("by", path, Split(0.5, by="label")), tmp_path / "sets")
    held = {index % 4 for index in store.split("val")}
    assert held.isdisjoint({index % 4 for index in store.split("train")})


@kinds_of_table
@pytest.mark.parametrize("labelled", [False, True])
def test_columns_that_are_no_labels_are_named(tmp_path, kind, labelled):
    columns = {
        "when": [datetime.datetime(2020, 1, 1 + i) for i in range(COUNT)],
        "odd": ODD,
        "hole": [*ROWS[:-1], None],
        "part": [*ROWS[:-1], [1, None, 1]],
        "words": [["a"]] * COUNT,
        "long": pyarrow.array([[0.5] * 2000] * COUNT),
        **({"smile": [i % 2 for i in range(COUNT)]} if labelled else {}),
    }
    store, said = made(table_of(tmp_path, kind, **columns))
    assert store.attributes == ("smile",) * labelled
    (line,) = said
    assert line.startswith(NO_CELLS)
    assert line.endswith("'when', 'odd', 'hole', 'part', 'words' and 1 more")


@kinds_of_table
def test_a_second_column_of_images_is_named_whatever_labels_are_given(tmp_path, kind):
    path = table_of(tmp_path, kind, mask=FILES[::-1], smile=[i % 2 for i in range(COUNT)])
    note = "warning: images are those of the column 'image', none of 'mask'"
    store, said = made(path)
    assert (store.attributes, said) == (("smile",), [note])
    (tmp_path / "l.csv").write_text("name,hat\n" + "".join(f"{i:06d},1\n" for i in range(COUNT)))
    store, said = made(path, label_file=tmp_path / "l.csv")
    assert (store.attributes, said) == (("hat",), [note])
    (tmp_path / "in").mkdir()
    for split in ("train", "test"):
        (tmp_path / "in" / f"{split}.{kind}").write_bytes(path.read_bytes())
    _, said = made(tmp_path / "in")
    assert said[0] == note
    assert note not in said[1:]


@kinds_of_table
def test_classes_of_hugging_face_can_be_named_by_options(tmp_path, kind):
    noted = {"label": {"names": ["tench, Tinca tinca", "a=b", "owl"], "_type": "ClassLabel"}}
    table = pyarrow.table({"image": FILES, "label": KINDS})
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": noted}})}
    )
    pyarrow.parquet.write_table(table, tmp_path / "set.parquet")
    path = tmp_path / "set.parquet"
    if kind == "arrow":
        path = write_arrow(tmp_path / "set.arrow", table)
    store, said = made(path)
    assert store.attributes == ("tench; Tinca tinca", "a:b", "owl")
    assert said == ["warning: classes have ; and : in their names for , and ="]


@pytest.mark.parametrize("names", [3, "owl", {"a": 1}, None, []])
def test_classes_that_hugging_face_noted_otherwise_are_numbers(tmp_path, names):
    noted = {"g": {"names": names, "_type": "ClassLabel"}}
    table = pyarrow.table({"image": FILES, "g": [i % 2 for i in range(COUNT)]})
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": noted}})}
    )
    pyarrow.parquet.write_table(table, tmp_path / "set.parquet")
    assert made(tmp_path / "set.parquet")[0].attributes == ("g",)


def test_numbers_that_count_rows_or_are_all_unknown_are_named(tmp_path):
    columns = {
        "row": [*range(COUNT)],
        "nothing": [float("nan")] * COUNT,
        "g": [i % 2 for i in range(COUNT)],
    }
    path = table_of(tmp_path, "parquet", **columns)
    store, said = made(path)
    assert store.attributes == ("g",)
    assert said == [
        "warning: columns without numbers are no labels: 'nothing'; 1 and 0 would be",
        "warning: columns that count rows are no labels: 'row'; or name --attributes",
    ]
    store, said = made(path, chosen=("row",))
    assert (store.labels[:, 0].tolist(), said) == ([*range(COUNT)], [])


# Tars


def tar_of(path, named, texts):
    entries = {}
    for i, file in enumerate(FILES):
        entries[f"{named.format(i)}.png"] = file
    return write_tar(path / "set.tar", entries | texts)


@pytest.mark.parametrize(
    ("named", "key"),
    [("{:03d}", "{:03d}"), ("a.b{:03d}", "a.b{:03d}"), ("{:03d}.left", "{:03d}")],
)
@pytest.mark.parametrize("end", ["cls", "json"])
def test_labels_are_those_of_the_image_s_name_or_of_its_start(tmp_path, named, key, end):
    said_of = {"cls": str, "json": lambda number: json.dumps({"class": number})}[end]
    texts = {f"{key.format(i)}.{end}": said_of(k).encode() for i, k in enumerate(KINDS)}
    store, said = made(tar_of(tmp_path, named, texts))
    assert store.attributes == ("class0", "class1", "class2")
    assert store.labels.argmax(1).tolist() == KINDS
    assert said == []


@pytest.mark.parametrize("shards", [1, 2])
def test_folders_in_a_tar_say_what_is_held_out_and_classes_as_in_a_folder(tmp_path, shards):
    names = [
        f"{side}/{kind}/{i}.png"
        for side in ("train", "val")
        for kind in ("cat", "dog")
        for i in range(3)
    ]
    files = {name: encoded(noise(i, 8, 8)) for i, name in enumerate(names)}
    (tmp_path / "in").mkdir()
    for shard in range(shards):
        write_tar(tmp_path / f"in/{shard}.tar", dict([*files.items()][shard::shards]))
    store, said = made(tmp_path / "in")
    own = [name.split(".tar/")[-1] for name in store.names()]
    assert sorted(own) == sorted(names)
    assert store.attributes == ("cat", "dog")
    for name, row, held in zip(
        own, store.labels, np.isin(range(12), store.split("val")), strict=True
    ):
        assert held == name.startswith("val/")
        assert row.tolist() == ([1, 0] if "cat" in name else [0, 1])
    assert said == []


def test_the_nearest_label_is_taken(tmp_path):
    texts = {"a.cls": b"0", "a.b003.cls": b"2", "a.b004.cls": b"1"}
    store, said = made(tar_of(tmp_path, "a.b{:03d}", texts))
    assert store.labels.argmax(1).tolist() == [0, 0, 0, 2, 1, *[0] * 7]
    assert said == []


@pytest.mark.parametrize("labelled", [False, True])
def test_files_of_labels_that_fit_no_image_are_counted(tmp_path, labelled):
    texts = {f"x{i}.cls": b"1" for i in range(7)} | {"notes.json": b"{}", "labels.csv": b""}
    texts |= {f"{i:03d}.cls": b"%d" % k for i, k in enumerate(KINDS)} if labelled else {}
    store, said = made(tar_of(tmp_path, "{:03d}", texts))
    assert len(store.attributes) == 3 * labelled
    first = "'x0.cls', 'x1.cls', 'x2.cls', 'x3.cls', 'x4.cls' and 3 more"
    assert said == [f"warning: 8 files of labels fit no image: {first}"]


def test_lists_in_json_are_labels_and_what_is_none_is_named(tmp_path):
    texts = {
        f"{i:03d}.json": json.dumps({"pose": row, "odd": odd, "more": {"a": 1}}).encode()
        for i, (row, odd) in enumerate(zip(ROWS, ODD, strict=True))
    }
    store, said = made(tar_of(tmp_path, "{:03d}", texts))
    assert store.attributes == ("pose_0", "pose_1", "pose_2")
    assert store.labels.tolist() == ROWS
    (line,) = said
    assert line.startswith(NO_CELLS)
    assert line.endswith("'odd', 'more'")


def test_of_many_shards_the_first_five_warnings_are_said(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(8):
        write_tar(tmp_path / "in" / f"{i}.tar", {"0.png": FILES[i], f"x{i}.cls": b"1"})
    _, said = made(tmp_path / "in")
    assert [line.rpartition(": ")[2] for line in said[:5]] == [f"'x{i}.cls'" for i in range(5)]
    assert said[5:] == ["warning: and 3 more such warnings"]


# Records


def records_of(path, **features):
    """Each feature a function of an image's index."""
    rows = [
        example(
            **{"image/encoded": file}, **{n.replace("_in_", "/"): f(i) for n, f in features.items()}
        )
        for i, file in enumerate(FILES)
    ]
    return write_records(path / "set.tfrecord", rows)


@pytest.mark.parametrize(
    ("value", "attributes"),
    [
        (lambda i: [KINDS[i]], ("class0", "class1", "class2")),
        (lambda i: [int(k == KINDS[i]) for k in range(3)], ("class0", "class1", "class2")),
        (lambda i: [int(x) for x in ROWS[i][:2]], ("label0", "label1")),
        (lambda i: ROWS[i][2:], ("label",)),
    ],
)
def test_the_class_or_vector_of_a_record_is_its_label(tmp_path, value, attributes):
    store, said = made(records_of(tmp_path, label=value))
    assert store.attributes == attributes
    assert said == []
    rows = store.labels.argmax(1)[:, None] if attributes[0] == "class0" else store.labels
    wanted = [KINDS[i : i + 1] if attributes[0] == "class0" else value(i) for i in range(COUNT)]
    assert rows.tolist() == wanted


def test_fields_of_numbers_that_are_not_taken_are_named(tmp_path):
    more = {"height": lambda i: [8], "age": lambda i: [i], "pose": lambda i: [0.5, i / 2]}
    words = "warning: fields that are not taken as labels: {}; such are image/class/label, label, "
    _, said = made(records_of(tmp_path, label=lambda i: b"cat", **more))
    assert said == [words.format("'age', 'label', 'pose'") + "class"]
    store, said = made(records_of(tmp_path, label=lambda i: [KINDS[i]], **more))
    assert len(store.attributes) == 3
    assert said == [words.format("'age', 'pose'") + "class"]
    _, (line,) = made(records_of(tmp_path, label=lambda i: [1] * (i % 3 + 1)))
    assert line.startswith(NO_CELLS)
    with pytest.raises(InputError, match="label 'label' is empty for '000003'"):
        made(records_of(tmp_path, label=lambda i: [] if i == 3 else [1]))


def test_labels_are_not_lost_where_the_first_record_is_bad(tmp_path):
    path = records_of(tmp_path, label=lambda i: [KINDS[i]])
    data = bytearray(path.read_bytes())
    data[struct.calcsize("<QI") + 40] ^= 1
    path.write_bytes(data)
    recipe = folder("set", path, Split())
    store = prepared(recipe, tmp_path / "sets", skip_bad=True)
    assert store.labels.argmax(1).tolist() == KINDS[1:]
