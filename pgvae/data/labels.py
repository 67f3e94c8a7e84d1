"""Labels of a set, and its split into training and validation images."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pgvae.checks import nearest, require
from pgvae.data.columns import is_nameless, numbers_in, numbers_rows, read_csv
from pgvae.data.matching import NAME_COLUMNS, bare, in_order, is_name_of, naming_column
from pgvae.data.paths import some
from pgvae.errors import InputError

MAX_CLASSES = 10_000
_CLASS_TITLES = ("class", "classes", "cls", "label", "labels", "category", "target", "targets", "y")


@dataclass(frozen=True)
class Table:
    """Labels for each image, in the order of its names.

    attributes: names of the numeric columns.
    values:     float32 [N, K].
    columns:    every column as text, by name: what `--split-by` can group on.
    notes:      what a user should be told, such as that a column was left out.
    """

    attributes: tuple[str, ...]
    values: np.ndarray
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def take(self, images: Sequence[int]) -> "Table":
        """That of some of the images, by index."""
        columns = {name: [cells[i] for i in images] for name, cells in self.columns.items()}
        return replace(self, values=self.values[images], columns=columns)


@dataclass(frozen=True)
class Columns:
    """What a set says of its images by itself.

    cells:   by column: text of each image, or an array of numbers [N].
    classes: of the columns that number a class, the names of the classes; () without names.
    notes:   what a user should be told, such as what is no label; the cells may be none then.
    """

    cells: Mapping[str, Sequence[str] | np.ndarray]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def says_class(title: str) -> bool:
    """Whether whole numbers under that title are classes, and the title no name of a label.

    >>> says_class("Label"), says_class("image/class/label"), says_class("age")
    (True, True, False)
    """
    return title.rpartition("/")[2].lower() in _CLASS_TITLES


def check_names(attributes: Sequence[str]) -> None:
    """InputError for names that `--attributes A,B` and `--with A=1,B=0` cannot hold.

    >>> check_names(["smile", "big smile"])
    """
    wrong = [
        name
        for name in attributes
        if not name.isprintable() or not name or name != name.strip() or {*name} & {*",="}
    ]
    require(
        not wrong,
        f"labels that no option could name: {some(wrong)}; rename their columns or folders, "
        "without commas, =, signs that are not printed and spaces at the ends",
    )
    twice = sorted({name for name in attributes if attributes.count(name) > 1})
    require(not twice, f"labels that are there twice: {some(twice)}; leave one of each out")


def no_labels(count: int) -> Table:
    """The table of a set without labels: [N, 0]."""
    return Table((), np.zeros((count, 0), np.float32))


def from_csv(
    text: str, names: Sequence[str], chosen: Sequence[str] = (), group: str | None = None
) -> Table:
    """Labels from a csv whose first row has the column names.

    File names are in the column that fits the most images, with or without folder and ending
    (`matching.in_order`). Columns of numbers, of true and false, or of yes and no are attributes
    (but not `group`, which the split goes by), or those of `chosen`; notes name the columns that
    are not. Raises InputError for images without a row, rows without an image, a name that
    stands twice or fits two images, and values that are empty or not finite, with the first
    five names.

    >>> table = from_csv("name,person,glasses\\nb,Ann,1\\na,Bob,0\\n", ["a.png", "b.png"])
    >>> table.attributes, table.values.tolist(), table.columns["person"]
    (('glasses',), [[0.0], [1.0]], ['Bob', 'Ann'])
    """
    header, rows = read_csv(text)
    naming = naming_column(header, rows, names)
    title = header[naming]
    require(
        title.lower() in NAME_COLUMNS or not is_name_of(title, names),
        f"labels: the first row names an image, {title!r}: put a header before it, name,LABEL,...",
    )
    named = [i for i, column in enumerate(header) if i != naming and not is_nameless(column)]
    titles = [header[i] for i in named]
    require(len({*titles}) == len(titles), f"labels: a column stands twice: {', '.join(titles)}")
    ordered = in_order([row[naming] for row in rows], names)
    columns = {header[i]: [rows[row][i] for row in ordered] for i in named}
    table = _numeric(columns, names, chosen, group)
    lost = any(row[i] for i, column in enumerate(header) if is_nameless(column) for row in rows)
    note = ("a column without a name is left out: such as the row numbers of pandas",)
    return replace(table, notes=table.notes + note * (lost and not is_nameless(title)))


def from_celeba(text: str, names: Sequence[str], chosen: Sequence[str] = ()) -> Table:
    """CelebA's list_attr_celeba.txt: a count, 40 names, then a name and 40 values of +-1.

    -> 1 where it says 1, 0 where it says -1. Rows of other images are passed over, and endings:
    there are PNGs of CelebA too.

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
    by_name = {bare(row[0]): row[1:] for row in lines[2:]}
    missing = [name for name in names if bare(name) not in by_name]
    if missing:
        raise InputError(f"list_attr_celeba.txt has no row for {some(missing)}")
    rows = [by_name[bare(name)] for name in names]
    columns = {a: [str(int(r[i] == "1")) for r in rows] for i, a in enumerate(attributes)}
    return _numeric(columns, names, chosen)


def from_dataset_json(text: str, names: Sequence[str], chosen: Sequence[str] = ()) -> Table:
    """StyleGAN's dataset.json: {"labels": [[name, int or [float, ...]], ...]}.

    A class becomes one 0/1 attribute for each class (class0, class1, ...), a vector label0,
    label1, ...; of these those of `chosen`, if any; "labels": null is a set without labels.
    InputError as for `from_csv`.

    >>> from_dataset_json('{"labels": [["b.png", 1], ["a.png", 0]]}', ["a.png", "b.png"]).attributes
    ('class0', 'class1')
    """
    try:
        pairs = json.loads(text).get("labels")
        if pairs is None:
            require(not chosen, f"no labels in dataset.json: {', '.join(chosen)} cannot be kept")
            return no_labels(len(names))
        labelled, labels = [str(name) for name, _ in pairs], [label for _, label in pairs]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"dataset.json cannot be read: {error}") from error
    values = [labels[i] for i in in_order(labelled, names)]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return of_classes(values, chosen=chosen)
    array = _vectors(values)
    _check_finite(array, names)
    return _only(Table(tuple(f"label{i}" for i in range(array.shape[1])), array), chosen)


def of_classes(
    classes: Sequence[int], names: Sequence[str] = (), chosen: Sequence[str] = ()
) -> Table:
    """A 0/1 attribute for each class, by name, or class0, class1, ...; of these those `chosen`.

    >>> of_classes([1, 0], ["cat", "dog"]).attributes
    ('cat', 'dog')
    """
    least, most = min(classes), max(classes)
    known = least >= 0 and most < (len(names) or MAX_CLASSES)
    require(known, f"classes must be 0, 1, 2, ...: they go from {least} to {most}")
    names = tuple(names) or tuple(f"class{i}" for i in range(most + 1))
    values = np.eye(len(names), dtype=np.float32)[np.asarray(classes, np.int64)]
    return _only(Table(names, values), chosen)


def from_columns(
    columns: Columns, names: Sequence[str], chosen: Sequence[str] = (), group: str | None = None
) -> Table:
    """Labels that a set brings: its classes, numbers, yes and no; of these those of `chosen`.

    `chosen` may name a column of classes, for all of them. InputError as for `from_csv`.

    >>> cells = {"label": np.array([1, 0]), "age": np.array([0.5, 0.25])}
    >>> table = from_columns(Columns(cells, {"label": ("cat", "dog")}), ["a.png", "b.png"])
    >>> table.attributes, table.values.tolist()
    (('cat', 'dog', 'age'), [[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]])
    """
    of_column = {
        name: of_classes(columns.cells[name], _class_names(columns, name))
        for name in columns.classes
    }
    others = {k: v for k, v in columns.cells.items() if k not in columns.classes}
    numbers = {k: v for k, v in others.items() if isinstance(v, np.ndarray)}
    text = {k: v for k, v in others.items() if k not in numbers}
    empty, counts = [], []
    for name, array in numbers.items():
        if name == group and name not in chosen:
            continue
        counting = array.dtype.kind in "iu" and numbers_rows([str(v) for v in array.tolist()])
        if name in chosen or not (counting or np.isnan(array.astype(np.float64)).all()):
            of_column[name] = Table((name,), _float32(array).reshape(-1, 1))
        else:
            (counts if counting else empty).append(name)
    words = [name for name in chosen if name in text]
    rest = _numeric(text, names, words, group) if words or not chosen else no_labels(len(names))
    parts = [*of_column.values(), rest]
    table = Table(
        tuple(name for part in parts for name in part.attributes),
        np.concatenate([part.values for part in parts], axis=1),
        columns.cells,
        ()
        if chosen
        else (*columns.notes, *_notes(empty, counts), *_group_notes(group, numbers), *rest.notes),
    )
    wanted = [
        a for name in chosen for a in (of_column[name].attributes if name in of_column else [name])
    ]
    table = _only(table, wanted, "the set")
    _check_finite(table.values, names)
    return table


def _class_names(columns: Columns, name: str) -> Sequence[str]:
    """Of a column of classes, apart from those of another; its title is in them if it names one."""
    known = columns.classes[name]
    if len(columns.classes) == 1 and (known or says_class(name)):
        return known
    names = known or [str(i) for i in range(int(np.max(columns.cells[name], initial=0)) + 1)]
    return [f"{name}_{own}" for own in names]


def joined(tables: Sequence[Columns], counts: Sequence[int]) -> Columns:
    """Of several parts of a set, of so many images each; what a part does not say is empty."""
    cells: dict[str, list] = {name: [] for table in tables for name in table.cells}
    classes: dict[str, Sequence[str]] = {}
    for table, count in zip(tables, counts, strict=True):
        for name, column in cells.items():
            column += list(table.cells.get(name, [""] * count))
        for name, own in table.classes.items():
            classes[name] = max(own, classes.get(name, ()), key=len)
    cells_of = {name: _column(values) for name, values in cells.items()}
    return Columns(cells_of, classes, gathered(tables))


def gathered(tables: Sequence[Columns]) -> tuple[str, ...]:
    """The notes of several parts of a set: each once, and the first five."""
    notes = [*dict.fromkeys(note for table in tables for note in table.notes)]
    more = f"and {len(notes) - 5:,} more such warnings"
    return (*notes[:5], more) if len(notes) > 5 else tuple(notes)


def _column(values: list) -> Sequence[str] | np.ndarray:
    """Numbers as an array, and anything else as text."""
    if all(isinstance(value, np.number | np.bool_) for value in values):
        return np.array(values)
    return [str(value) for value in values]


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


def _numeric(
    columns: Mapping[str, Sequence[str]],
    names: Sequence[str],
    chosen: Sequence[str],
    group: str | None = None,
) -> Table:
    """The columns of numbers (or the chosen ones) as attributes."""
    for name in chosen:
        require(name in columns, f"no label column {name!r}: {nearest(name, [*columns])}")
    attributes, values, words, counts = [], [], [], []
    for name in chosen or [column for column in columns if column != group]:
        cells = columns[name]
        numbers = numbers_in(cells)
        filled, known = sum(cell != "" for cell in cells), len(cells) - numbers.count(None)
        if name not in chosen and (numbers_rows(cells) or filled >= 2 * known):
            (words if filled >= 2 * known else counts).append(name)
            continue
        _check_numbers(name, cells, numbers, names)
        attributes.append(name)
        values.append(numbers)
    array = _float32(values).reshape(len(values), len(names)).T.copy()
    _check_finite(array, names)
    notes = (*_notes(words, counts), *(() if chosen else _group_notes(group, columns)))
    return Table(tuple(attributes), array, columns, notes)


def _group_notes(group: str | None, columns: Mapping[str, Iterable[object]]) -> tuple[str, ...]:
    """What to say of the column that the split goes by, where it would be a label otherwise."""
    cells = [str(cell) for cell in columns.get(group or "", ())]
    if not cells or None in numbers_in(cells) or numbers_rows(cells):
        return ()
    return (f"the column that divides the set is no label: {group!r}; or name it in --attributes",)


def _notes(words: Sequence[str], counts: Sequence[str]) -> tuple[str, ...]:
    """What to say of columns that are no attributes."""
    notes = []
    if words:
        notes.append(f"columns without numbers are no labels: {some(words)}; 1 and 0 would be")
    if counts:
        notes.append(f"columns that count rows are no labels: {some(counts)}; or name --attributes")
    return tuple(notes)


def _check_numbers(
    name: str, cells: Sequence[str], numbers: Sequence[float | None], names: Sequence[str]
) -> None:
    """InputError for cells of a label that are no numbers."""
    wrong = [i for i, number in enumerate(numbers) if number is None]
    if wrong:
        found = f"{cells[wrong[0]]!r}, not a number," if cells[wrong[0]] else "empty"
        raise InputError(f"label {name!r} is {found} for {some([names[i] for i in wrong])}")


def _only(table: Table, chosen: Sequence[str], place: str = "dataset.json") -> Table:
    """Those attributes of a table, all without any; InputError for one that it does not have."""
    known = list(table.attributes)
    for name in chosen:
        require(name in known, f"no label {name!r} in {place}: {nearest(name, known)}")
    picked = [known.index(name) for name in chosen or known]
    return replace(
        table, attributes=tuple(known[i] for i in picked), values=table.values[:, picked]
    )


def _vectors(values: Sequence[object]) -> np.ndarray:
    """Labels of dataset.json that are no classes: float32 [N, K]."""
    try:
        array = _float32(values)
    except (ValueError, TypeError):
        array = np.zeros(0)
    require(array.ndim == 2, "dataset.json: labels must all be ints, or vectors of one length")
    return array


def _float32(values: Sequence[object]) -> np.ndarray:
    """As an array; what is beyond float32 becomes infinite, to be refused by name."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def _check_finite(values: np.ndarray, names: Sequence[str]) -> None:
    wrong = [names[i] for i in np.flatnonzero(~np.isfinite(values).all(axis=1))]
    if wrong:
        raise InputError(f"labels are NaN or infinite for {some(wrong)}")
