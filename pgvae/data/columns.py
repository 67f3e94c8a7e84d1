"""The columns of a csv: how its text is divided, and which numbers the cells mean."""

import csv
import io
import re
from collections.abc import Sequence

from pgvae.data.paths import some
from pgvae.errors import InputError

_DELIMITERS = ",;\t|"
_TRUTH = {"true": 1.0, "yes": 1.0, "y": 1.0, "false": 0.0, "no": 0.0, "n": 0.0}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # or a decimal comma: nobody can tell
_NAMELESS = re.compile(r"(Unnamed: \d+(_level_\d+)?)?")  # pandas names a nameless column so
_FEW = 10  # rows whose numbers may be in any order by chance
_LOOKED_AT = 20  # lines that show what divides the columns


def read_csv(text: str) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the rows: cells without spaces around them, blank rows left out.

    Commas, semicolons, tabs or bars divide them, whichever gives all rows the same number of
    cells. Raises InputError for less than two columns, or rows that are longer or shorter.

    >>> read_csv("name;g\\na;0,5\\n;\\n")
    (['name', 'g'], [['a', '0,5']])
    """
    if text.lower().startswith("sep="):  # written by Excel for itself
        text = text.partition("\n")[2]
    delimiter = _delimiter_of(text.splitlines()[:_LOOKED_AT])
    try:
        read = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [[cell.strip() for cell in row] for row in read]
    except csv.Error as error:
        raise InputError(f"the labels file is no csv: {error}; mend its quotes") from error
    rows = [row for row in rows if any(row)]
    if len(rows) < 2:
        raise InputError("the labels file has no rows: give a header and one row per image")
    header, *rows = rows
    if len(header) < 2:
        raise InputError(
            f"the labels file has one column, {some(header)}: give names and labels, with commas"
        )
    ragged = [row[0] for row in rows if len(row) != len(header)]
    if ragged:
        raise InputError(
            f"labels: rows without {len(header)} cells: {some(ragged)}; mend their commas"
        )
    return header, rows


def is_nameless(column: str) -> bool:
    """Whether nobody gave the column a name.

    >>> is_nameless(""), is_nameless("Unnamed: 0"), is_nameless("glasses")
    (True, True, False)
    """
    return _NAMELESS.fullmatch(column) is not None


def numbers_rows(cells: Sequence[str]) -> bool:
    """Whether a column counts its rows: whole numbers in a row, each once, in any order.

    >>> numbers_rows([str(i) for i in range(7, 20)]), numbers_rows(["1"] * 20)
    (True, False)
    """
    if len(cells) < _FEW or not all(cell.isdecimal() for cell in cells):
        return False
    counted = {int(cell) for cell in cells}
    return len(counted) == len(cells) == max(counted) - min(counted) + 1


def numbers_in(cells: Sequence[str]) -> list[float | None]:
    """What cells mean as numbers; None for what is none.

    A column of nothing but true and false, yes and no is 1 and 0; 0,5 is 0.5. But 1,234 is
    none: it may be a thousand and more.

    >>> numbers_in(["Yes", "no"]), numbers_in(["0,5", "1e-1", "", "yes", "1,234"])
    ([1.0, 0.0], [0.5, 0.1, None, None, None])
    """
    if all(cell.lower() in _TRUTH for cell in cells if cell):
        return [_TRUTH.get(cell.lower()) for cell in cells]
    return [_number(cell) for cell in cells]


def _number(cell: str) -> float | None:
    if _DECIMAL_COMMA.fullmatch(cell) and not _THOUSANDS.fullmatch(cell):
        cell = cell.replace(",", ".")
    try:
        return float(cell) if "_" not in cell else None  # 12_7 is a name, whatever Python says
    except ValueError:
        return None


def _delimiter_of(lines: Sequence[str]) -> str:
    def columns(delimiter: str) -> int:
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        except csv.Error:
            return 0
        return max(widths) if len(widths) == 1 and widths != {1} else 0

    return max(_DELIMITERS, key=columns)
