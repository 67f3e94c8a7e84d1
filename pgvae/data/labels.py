"""Labels of a set, and its split into training and validation images."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from pgvae.config import nearest, require
from pgvae.data.sources import IMAGE_SUFFIXES
from pgvae.errors import InputError

_NAME_COLUMNS = ("name", "file", "filename", "image", "image_id")


@dataclass(frozen=True)
class Table:
    """Labels for each image, in the order of its names.

    attributes: names of the numeric columns.
    values:     float32 [N, K].
    columns:    every column as text, by name: what `--split-by` can group on.
    """

    attributes: tuple[str, ...]
    values: np.ndarray
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


def no_labels(count: int) -> Table:
    """The table of a set without labels: [N, 0]."""
    return Table((), np.zeros((count, 0), np.float32))


def from_csv(
    text: str, names: Sequence[str], chosen: Sequence[str] = (), group: str | None = None
) -> Table:
    """Labels from a csv whose first row has the column names.

    The file name is in the column called name, file, filename, image or image_id, else in the
    first; with or without folder and extension. Columns of numbers are attributes (but not
    `group`, which the split goes by), or those of `chosen`. Raises InputError for images without
    a row, rows without an image, a name that stands twice or fits two images, and values that
    are empty or not finite, with the first five names.

    >>> table = from_csv("name,person,glasses\\nb,Ann,1\\na,Bob,0\\n", ["a.png", "b.png"])
    >>> table.attributes, table.values.tolist(), table.columns["person"]
    (('glasses',), [[0.0], [1.0]], ['Bob', 'Ann'])
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise InputError(f"the labels file is no csv: {error}; mend its quotes") from error
    if len(rows) < 2:
        raise InputError("the labels file has no rows: give a header and one row per image")
    header = [cell.strip() for cell in rows[0]]
    require(len(set(header)) == len(header), f"labels: a column stands twice: {', '.join(header)}")
    ragged = [row[0] for row in rows[1:] if len(row) != len(header)]
    if ragged:
        raise InputError(f"labels: rows without {len(header)} cells: {some(ragged)}")
    name_column = next((header.index(c) for c in _NAME_COLUMNS if c in header), 0)
    ordered = _in_order([row[name_column] for row in rows[1:]], names)
    columns = {
        column: [rows[1 + row][i].strip() for row in ordered]
        for i, column in enumerate(header)
        if i != name_column
    }
    return _numeric(columns, names, chosen, group)


def from_celeba(text: str, names: Sequence[str], chosen: Sequence[str] = ()) -> Table:
    """CelebA's list_attr_celeba.txt: a count, 40 names, then a name and 40 values of +-1.

    -> 1 where it says 1, 0 where it says -1. Rows of other images are passed over.

    >>> from_celeba("1\\nBald Smiling\\n000001.jpg -1 1\\n", ["000001.jpg"]).values.tolist()
    [[0.0, 1.0]]
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    attributes = lines[1] if len(lines) > 2 else []
    wrong = [row[0] for row in lines[2:] if len(row) != 1 + len(attributes)]
    if wrong or not attributes:
        raise InputError(
            "list_attr_celeba.txt is not CelebA's: a count, a line of attribute names, then a "
            f"name and as many values are wanted; wrong: {some(wrong) or 'its first lines'}"
        )
    by_name = {row[0]: row[1:] for row in lines[2:]}
    missing = [name for name in names if PurePosixPath(name).name not in by_name]
    if missing:
        raise InputError(f"list_attr_celeba.txt has no row for {some(missing)}")
    rows = [by_name[PurePosixPath(name).name] for name in names]
    columns = {a: [str(int(r[i] == "1")) for r in rows] for i, a in enumerate(attributes)}
    return _numeric(columns, names, chosen)


def from_dataset_json(text: str, names: Sequence[str]) -> Table:
    """StyleGAN's dataset.json: {"labels": [[name, int or [float, ...]], ...]}.

    A class becomes one 0/1 attribute for each class (class0, class1, ...), a vector label0,
    label1, ...; "labels": null is a set without labels. InputError as for `from_csv`.

    >>> from_dataset_json('{"labels": [["b.png", 1], ["a.png", 0]]}', ["a.png", "b.png"]).attributes
    ('class0', 'class1')
    """
    try:
        pairs = json.loads(text).get("labels")
        if pairs is None:
            return no_labels(len(names))
        labelled, labels = [str(name) for name, _ in pairs], [label for _, label in pairs]
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"dataset.json cannot be read: {error}") from error
    values = [labels[i] for i in _in_order(labelled, names)]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        classes = max(values) + 1
        if min(values) < 0 or classes > 10_000:
            raise InputError("dataset.json: classes must be 0, 1, 2, ...")
        return Table(
            tuple(f"class{i}" for i in range(classes)),
            np.eye(classes, dtype=np.float32)[values],
        )
    try:
        array = _float32(values)
    except (ValueError, TypeError) as error:
        raise InputError("dataset.json: labels must all be ints, or vectors of one length") from (
            error
        )
    if array.ndim != 2:
        raise InputError("dataset.json: labels must all be ints, or vectors of one length")
    _check_finite(array, names)
    return Table(tuple(f"label{i}" for i in range(array.shape[1])), array)


def decide(values: np.ndarray, no_below: float, yes_above: float) -> np.ndarray:
    """What labels [N, K] say: float32, 1 above `yes_above`, 0 below `no_below`, else NaN.

    >>> decide(np.array([[0.1], [0.5], [0.9]]), no_below=0.3, yes_above=0.7).tolist()
    [[0.0], [nan], [1.0]]
    """
    said = np.full(values.shape, np.nan, np.float32)
    said[values > yes_above] = 1
    said[values < no_below] = 0
    return said


def balanced_weights(said: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Probabilities [N] under which each column of `said` [N, K] is as often 1 as 0.

    By raking: column after column, the weights of its yes and of its no are scaled to equal
    sums, until all agree (or as nearly as the images allow); images of unknown label keep theirs.
    Every column must hold both.

    >>> balanced_weights(np.array([[1], [0], [0], [0], [0]])).round(3).tolist()
    [0.5, 0.125, 0.125, 0.125, 0.125]
    """
    weights = np.ones(len(said))
    for _ in range(rounds):
        for column in said.T:
            yes, no = column == 1, column == 0
            half = (weights[yes].sum() + weights[no].sum()) / 2
            weights[yes] *= half / weights[yes].sum()
            weights[no] *= half / weights[no].sum()
    return weights / weights.sum()


def split_by_fraction(
    count: int, fraction: float, seed: int, groups: Sequence[str] | None = None
) -> np.ndarray:
    """uint8 [N], 1 for validation: about `fraction` of the images, or of the groups.

    All images of a group (one person, say) fall on one side. At least one image or group on
    each side where there are two or more.

    >>> split = split_by_fraction(4, 0.5, seed=0, groups=["Ann", "Bob", "Ann", "Bob"])
    >>> int(split.sum()), bool(split[0] == split[2])
    (2, True)
    """
    units, of_image = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    order = np.random.default_rng([seed, 0x5B117]).permutation(len(units))
    held = min(max(round(fraction * len(units)), 1), len(units) - 1) if fraction > 0 else 0
    chosen = np.zeros(len(units), np.uint8)
    chosen[order[:held]] = 1
    return chosen[of_image]


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more


def _stem(name: str) -> str:
    path = PurePosixPath(name.strip())
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def _in_order(labelled: Sequence[str], names: Sequence[str]) -> list[int]:
    """For each of `names` the row that speaks of it: by path, or by the file's own name."""
    by_stem: dict[str, int] = {}
    for row, label in enumerate(labelled):
        if _stem(label) in by_stem:
            raise InputError(f"labels: {label!r} stands twice")
        by_stem[_stem(label)] = row
    rows = [by_stem.get(_stem(n), by_stem.get(PurePosixPath(_stem(n)).name)) for n in names]
    missing = [name for name, row in zip(names, rows, strict=True) if row is None]
    if missing:
        raise InputError(f"labels are missing for {some(missing)}")
    claims = Counter(rows)
    shared = [name for name, row in zip(names, rows, strict=True) if claims[row] > 1]
    if shared:
        raise InputError(f"labels: one row fits several images, give their folders: {some(shared)}")
    used = set(rows)
    extra = [label for row, label in enumerate(labelled) if row not in used]
    if extra:
        raise InputError(f"labels speak of images that are not there: {some(extra)}")
    return [row for row in rows if row is not None]


def _numeric(
    columns: Mapping[str, Sequence[str]],
    names: Sequence[str],
    chosen: Sequence[str],
    group: str | None = None,
) -> Table:
    """The columns of numbers (or the chosen ones) as attributes."""
    for name in chosen:
        require(name in columns, f"no label column {name!r}: {nearest(name, [*columns])}")
    attributes, values = [], []
    for name in chosen or [column for column in columns if column != group]:
        numbers = [_number(cell) for cell in columns[name]]
        words = sum(n is None and c != "" for n, c in zip(numbers, columns[name], strict=True))
        if words >= len(numbers) - numbers.count(None) and name not in chosen:
            continue  # a column of words: of use to --split-by alone
        wrong = [n for n, number in zip(names, numbers, strict=True) if number is None]
        if wrong:
            raise InputError(f"label {name!r} is empty or not a number for {some(wrong)}")
        attributes.append(name)
        values.append(numbers)
    array = _float32(values).reshape(len(values), len(names)).T.copy()
    _check_finite(array, names)
    return Table(tuple(attributes), array, columns)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _float32(values: Sequence[object]) -> np.ndarray:
    """As an array; what is beyond float32 becomes infinite, to be refused by name."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def _check_finite(values: np.ndarray, names: Sequence[str]) -> None:
    wrong = [names[i] for i in np.flatnonzero(~np.isfinite(values).all(axis=1))]
    if wrong:
        raise InputError(f"labels are NaN or infinite for {some(wrong)}")
