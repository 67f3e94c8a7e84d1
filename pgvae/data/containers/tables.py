"""Tables with a column of images: Parquet, and the Arrow files of Hugging Face's `datasets`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.containers.base import (
    MAX_VECTOR,
    FileSource,
    bad_record,
    checked_size,
    column_of,
    damaged,
    needed,
    no_cells,
    numbered,
    of_vectors,
    require_honest,
    united,
)
from pgvae.data.containers.messages import unpacked_bytes
from pgvae.data.labels import Columns
from pgvae.data.paths import some
from pgvae.errors import InputError

_IMAGE_COLUMNS = ("image", "img", "picture", "photo", "jpg", "png", "webp", "bytes", "data")
_DIVIDING = str.maketrans({",": ";", "=": ":"})  # of names of classes, which users cannot change
_MAX_ROWS = 5_000_000
_MAGIC, _START = b"ARROW1", 8  # of an Arrow file that has its stream inside
_MAX_GROUP = 2 << 30  # bytes of images that must be read at once


class ParquetSource(FileSource):
    """The images of a Parquet file, row by row; the other columns are labels.

    Its column of images holds files, as bytes or as Hugging Face's {bytes, path}. Raises
    InputError where there is none, and for damaged files.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with damaged(path, self._kind):
            self._schema, rows = self._described()
            self._column, self._inner, others = _image_column(path, self._schema)
        if others:
            said = f"images are those of the column {self._column!r}, none of {some(others)}"
            self.notes = [said]
        self._leaf = ".".join(filter(None, (self._column, self._inner)))
        self.close()  # it is opened again with that column in mind
        require(rows <= _MAX_ROWS, f"{path} has {rows:,} rows: at most {_MAX_ROWS:,}; refused")
        self.names = numbered(rows)

    _kind = "Parquet file"
    _leaf: str | None = None  # the column of bytes, once it is known

    def read(self, index: int) -> bytes:
        with bad_record():
            data = self._cell(index)
        if data is None:
            raise images.RejectError("the table has no bytes of it, at most a path")
        checked_size(len(data), self.names[index])
        return data

    def columns(self) -> Columns | None:
        """The columns of numbers and text; of classes by what Hugging Face noted of them.

        Lists of numbers are as many labels where all are of one length.
        """
        features, images_in = _features_of(self._schema), _images_in(self._schema)
        titles = [field.name for field in self._schema if _is_plain(field.type)]
        others = [f.name for f in self._schema if f.name not in (*titles, *images_in)]
        if not titles and not others:
            return None
        with damaged(self.path, self._kind):
            table = self._table(titles)
            cells = {title: table.column(title).to_pylist() for title in titles}
            rows = {title: self._rows_of(title) for title in others}
        noted = {t: features[t].get("names") for t in titles if t in features}
        noted = {t: own for t, own in noted.items() if own and isinstance(own, list)}
        names = {t: [str(name).translate(_DIVIDING) for name in own] for t, own in noted.items()}
        renamed = ("classes have ; and : in their names for , and =",) if names != noted else ()
        made = {title: column_of(title, cells[title], title in names) for title in titles}
        classes = {title: names.get(title, ()) for title, (_, is_class) in made.items() if is_class}
        own = Columns({title: column for title, (column, _) in made.items()}, classes)
        vectors = [of_vectors(title, found) for title, found in rows.items() if found is not None]
        left = [title for title, found in rows.items() if found is None]
        return replace(united(self.path, [own, *vectors]), notes=(*renamed, *no_cells(left)))

    def _rows_of(self, title: str) -> np.ndarray | None:
        """A column of lists of numbers, of one length, as [N, K]; None for any other."""
        if not _is_list(self._schema.field(title).type):
            return None
        compute = _arrow().compute
        for column in (self._first(title), self._table([title]).column(title)):
            widths = compute.unique(compute.list_value_length(column)).to_pylist()
            if len(widths) != 1 or not 0 < (widths[0] or 0) <= MAX_VECTOR:
                return None
        flat = compute.list_flatten(column)
        return None if flat.null_count else flat.to_numpy().reshape(-1, widths[0])

    def _described(self) -> tuple[Any, int]:
        """Schema and number of rows; InputError for what would not fit in memory."""
        file = self._file()
        total = 0
        for group in map(file.metadata.row_group, range(file.num_row_groups)):
            size = group.total_byte_size  # a look at its columns may end the process
            total += size
            require(
                size <= _MAX_GROUP,
                f"{self.path} has a row group of {size:,} bytes: at most {_MAX_GROUP:,} are read "
                "at once: write it with fewer rows in each",
            )
        require_honest(self.path, total)
        self._starts = [0]
        for group in range(file.num_row_groups):
            self._starts.append(self._starts[-1] + file.metadata.row_group(group).num_rows)
        return file.schema_arrow, file.metadata.num_rows

    def _cell(self, index: int) -> bytes | None:
        file = self._file()
        group = next(i for i, end in enumerate(self._starts[1:]) if index < end)
        if self._group is None or self._group[0] != group:
            self._group = None  # before the next one: two do not fit where one does
            table = file.read_row_group(group, columns=[self._leaf])
            table.validate(full=True)
            self._group = (group, table)
        return _bytes_of(self._group[1], self._column, self._inner, index - self._starts[group])

    def _table(self, titles: Sequence[str]) -> Any:
        return self._file().read(columns=list(titles))

    def _first(self, title: str) -> Any:
        """The first cell of a column, which shows what reading all would take."""
        batches = self._file().iter_batches(1, columns=[title])
        return next((batch.column(0) for batch in batches), _arrow().array([[]]))

    def _open(self) -> Any:
        self._group: tuple[int, Any] | None = None
        # As a dictionary, an image that stands in many rows is in memory once, as in the file.
        leaf = [self._leaf] if self._leaf else None
        return _parquet().ParquetFile(self.path, read_dictionary=leaf)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_group": None}

    def close(self) -> None:
        super().close()
        self._group = None


class ArrowSource(ParquetSource):
    """The images of an Arrow file, as `datasets.save_to_disk` writes them; mapped, not read."""

    _kind = "Arrow file"

    def _described(self) -> tuple[Any, int]:
        table = self._file().table
        return table.schema, table.num_rows

    def _cell(self, index: int) -> bytes | None:
        return _bytes_of(self._file().table, self._column, self._inner, index)

    def _table(self, titles: Sequence[str]) -> Any:
        return self._file().table.select(list(titles))

    def _first(self, title: str) -> Any:
        return self._file().table.column(title)[:1]

    def _open(self) -> "_Mapped":
        self._group = None
        return _Mapped(self.path)


class _Mapped:
    """An Arrow file in memory that is the file's own."""

    def __init__(self, path: Path) -> None:
        self._arrow, self._path = _arrow(), path

    @cached_property
    def table(self) -> Any:
        ipc, mapped = self._arrow.ipc, self._arrow.memory_map(str(self._path))
        start = _START if mapped.read(len(_MAGIC)) == _MAGIC else 0
        mapped.seek(start)
        end = start

        def messages() -> Iterator[Any]:
            nonlocal end
            for message in ipc.MessageReader.open_stream(mapped):
                end = mapped.tell()
                yield message

        require_honest(self._path, unpacked_bytes(messages()))
        marked, rest = mapped.tell() > end, mapped.read()[-len(_MAGIC) :]
        require(
            marked and rest == (_MAGIC if start else b""),
            f"{self._path} {'goes on behind its end' if rest else 'has no end'}: it was cut off, "
            "or several were joined",
        )
        mapped.seek(start)
        table = ipc.open_stream(mapped).read_all()
        table.validate(full=True)  # a damaged one would end the process when it is read
        return table

    def close(self) -> None:
        self.__dict__.pop("table", None)


def _bytes_of(table: Any, column: str, inner: str, row: int) -> bytes | None:
    cell = table.column(column)[row].as_py()
    return cell[inner] if inner and cell is not None else cell


def _image_column(path: Path, schema: Any) -> tuple[str, str, list[str]]:
    """The column of images, the field in it with their bytes or "", and others that may be such."""
    features, found = _features_of(schema), _images_in(schema)
    marked = [n for n in found if features.get(n, {}).get("_type") == "Image"]
    called = [name for name in _IMAGE_COLUMNS if name in found]
    candidates = marked or called or [*found]
    if not candidates or (len(candidates) > 1 and not (marked or called)):
        raise InputError(
            f"{path} has no column of images among {', '.join(schema.names)}: bytes of files, or "
            "Hugging Face's images, are wanted, best in one called image"
        )
    name = candidates[0]
    return name, found[name], [other for other in found if other != name]


def _images_in(schema: Any) -> dict[str, str]:
    """Columns that may hold images, and the field in each with their bytes or ""."""
    arrow, found = _arrow(), {}
    for field in schema:
        kind = field.type
        if arrow.types.is_struct(kind):
            inner = [kind.field(i) for i in range(kind.num_fields)]
            if any(f.name == "bytes" and _is_binary(f.type) for f in inner):
                found[field.name] = "bytes"
        elif _is_binary(kind):
            found[field.name] = ""
    return found


def _features_of(schema: Any) -> dict[str, Any]:
    """What Hugging Face notes of the columns, by name; {} where it did not write the file."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {k: v for k, v in noted.items() if isinstance(v, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _is_binary(kind: Any) -> bool:
    types = _arrow().types
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_plain(kind: Any) -> bool:
    """Whether cells are numbers, yes and no, or text, also by their number in a dictionary."""
    types = _arrow().types
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_decimal, types.is_string, types.is_large_string)
    return _is_number(kind) or any(test(kind) for test in tests)


def _is_number(kind: Any) -> bool:
    types = _arrow().types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _is_list(kind: Any) -> bool:
    """Whether cells are lists of numbers."""
    types = _arrow().types
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(test(kind) for test in tests) and _is_number(kind.value_type)


def _arrow() -> ModuleType:
    def load() -> ModuleType:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc

        return pyarrow

    return needed(load, "Parquet and Arrow")


def _parquet() -> ModuleType:
    def load() -> ModuleType:
        import pyarrow.parquet

        return pyarrow.parquet

    return needed(load, "Parquet")
