"""A csv of any dialect is read as what it was meant, or refused."""

import csv
import io

import pytest

from pgvae.data.columns import is_nameless, numbers_in, numbers_rows, read_csv
from pgvae.errors import InputError

TABLE = [["name", "a note", "g"], ["x.png", "one, two; three", "1"], ["y.png", "", "0"]]


def written(delimiter: str, end: str = "\r\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(TABLE)
    return out.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_is_the_same_whatever_divides_it(delimiter, end):
    assert read_csv(written(delimiter, end)) == (TABLE[0], TABLE[1:])


def test_what_excel_adds_is_no_table():
    text = "sep=;\n" + written(";") + ";;\r\n" * 3 + "\r\n"
    assert read_csv(text) == (TABLE[0], TABLE[1:])


def test_commas_inside_of_cells_divide_nothing():
    assert read_csv("name;g\na;0,5\nb;0,7\n")[1] == [["a", "0,5"], ["b", "0,7"]]
    assert read_csv('name,"a;b;c;d"\nx,1\n')[0] == ["name", "a;b;c;d"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("name,g\n,,\n", "no rows"),
        ("name\na\nb\n", "one column, 'name'"),
        (f'name,g\na,1\n"b,{"x" * 9999}\n', r"without 2 cells: 'b,x+\.\.\.x+'; mend their commas$"),
        ("name;g\na;1\nb\nc;2;3\n", "one column|without 2 cells"),
        ("name,g\na,1\nb\n", "without 2 cells: 'b'"),
    ],
)
def test_what_is_no_table_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        read_csv(text)


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1", 1), ("-2.5", -2.5), ("1e-3", 0.001), ("0,5", 0.5), (",5", 0.5), ("-12,25", -12.25),
        ("0,125", 0.125), ("1,5", 1.5), ("1,234", None), ("12,345,678", None), ("12_7", None),
        ("", None), ("yes", None), ("50%", None), ("1;2", None),
    ],
)  # fmt: skip
def test_a_cell_is_a_number_only_where_all_would_read_the_same(cell, number):
    assert numbers_in(["7", cell]) == [7, number]


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["True", "false", "TRUE"], [1, 0, 1]),
        (["yes", "No", ""], [1, 0, None]),
        (["n", "Y"], [0, 1]),
        (["yes", "maybe"], [None, None]),
        (["yes", "1"], [None, 1]),
        (["f", "m"], [None, None]),
        (["f", "f"], [None, None]),
    ],
)
def test_words_are_numbers_only_where_all_of_a_column_are_yes_or_no(cells, numbers):
    assert numbers_in(cells) == numbers


@pytest.mark.parametrize("start", [0, 1, 1000])
def test_a_column_that_counts_is_seen_in_any_order(start):
    cells = [str(start + (i * 7) % 20) for i in range(20)]
    assert numbers_rows(cells)
    assert not numbers_rows([*cells[:-1], cells[0]])
    assert not numbers_rows([*cells[:-1], "9999"])
    assert not numbers_rows([*cells[:-1], "0.5"])
    assert not numbers_rows(cells[:5])  # by chance


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 12", "Unnamed: 0_level_0"])
def test_what_pandas_calls_a_nameless_column_is_nameless(name):
    assert is_nameless(name)
    assert not is_nameless(f"{name}x")
