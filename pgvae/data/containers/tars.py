"""Images in a tar, such as WebDataset's shards; it is never extracted."""

import json
import os
import posixpath
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.containers.base import FileSource, checked_size, columns_of, damaged
from pgvae.data.folders import classes_by_folder, held_by_folder
from pgvae.data.kinds import (
    HIDDEN,
    MASK,
    PACKED,
    is_container,
    is_hidden,
    is_hidden_away,
    is_mask,
    is_table,
    may_be_image,
)
from pgvae.data.labels import Columns
from pgvae.data.paths import printable, some
from pgvae.errors import InputError

_MAX_FILES = 5_000_000
_MAX_TEXT = 1 << 20  # bytes of a json or cls beside an image
_BLOCK = 512
_PIECE = 1 << 20  # bytes that are looked at at a time


class TarSource(FileSource):
    """Every image in a tar without compression, sorted by name.

    Labels are what WebDataset puts beside an image: KEY.cls, a class, and KEY.json, an object. KEY
    is the image's name without its ending, or where there is none such, up to its first dot. Where
    there are none of these, folders say what is held out, and classes, as in a zip.
    Raises InputError for a damaged or packed tar, links, devices, and a name that stands twice.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with damaged(path, "tar"):
            members, hidden = _members_of(path)
        self._texts = {n: m for n, m in members.items() if n.endswith((".cls", ".json"))}
        with damaged(path, "tar"), path.open("rb") as file:
            found = sorted(
                name
                for name, place in members.items()
                if may_be_image(name, lambda place=place: _read(file, place[0], 16))
            )
        left = dict.fromkeys(hidden, HIDDEN)
        left |= {name: MASK for name in found if is_mask(name)}
        left |= {name: PACKED for name in members if is_container(name)}
        self.skipped = [{"name": printable(n), "reason": reason} for n, reason in left.items()]
        self._places = [(name, members[name]) for name in found if name not in left]
        self.names = [printable(name) for name, _ in self._places]
        self.held = held_by_folder(self.names)

    def read(self, index: int) -> bytes:
        name, (offset, size) = self._places[index]
        checked_size(size, name)
        data = _read(self._file(), offset, size)
        if len(data) < size:
            raise images.RejectError("the tar ends before it")
        return data

    def side_file(self, name: str) -> bytes | None:
        """Such as a dataset.json."""
        place = self._texts.get(name)
        return None if place is None else _read(self._file(), *place)

    def columns(self) -> Columns | None:
        """Of the .cls and .json of each image; where there are none, of its folder."""
        images = [name for name, _ in self._places]
        beside = {name: self._beside(name) for name in images}
        used = {text for texts in beside.values() for text in texts}
        unused = [name for name in self._texts if name not in used and not is_table(name)]
        if not used and not unused:
            return classes_by_folder(self.names)
        rows = [self._row(beside[name]) for name in images]
        titles = dict.fromkeys(title for row in rows for title in row)
        made = columns_of(self.path, {t: [row.get(t) for row in rows] for t in titles})
        lost = f"{len(unused):,} files of labels fit no image: {some(unused)}"
        return replace(made, notes=(*made.notes, lost)) if unused else made

    def _beside(self, image: str) -> list[str]:
        """Names of the files of labels of an image."""
        keys = (posixpath.splitext(image)[0], _key(image))
        names = [[f"{key}{end}" for key in keys] for end in (".json", ".cls")]
        found = (next((name for name in both if name in self._texts), "") for both in names)
        return [*filter(None, found)]

    def _row(self, texts: Sequence[str]) -> dict[str, Any]:
        """What the files beside an image say, by title."""
        row: dict[str, Any] = {}
        for name in texts:
            place = self._texts[name]
            require(place[1] <= _MAX_TEXT, f"{name} in {self.path} is too long: refused")
            try:
                value = json.loads(_read(self._file(), *place))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{name} in {self.path} cannot be read: {error}") from error
            row |= value if isinstance(value, dict) else {"class": value}
        return row

    def _open(self) -> BinaryIO:
        return self.path.open("rb")


def _members_of(path: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Offset and size of each file of a tar, by name; and the images in hidden folders.

    InputError where it stops within: Python's tarfile takes a damaged header for the end.
    """
    found: dict[str, tuple[int, int]] = {}
    hidden: list[str] = []
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            archive.members.clear()  # else it keeps them all
            name = member.name.removeprefix("./")
            problem = _problem_of(member, name in found, len(found))
            require(not problem, f"{path} holds {problem}: {printable(name)!r}; refused")
            if member.isfile() and not any(map(is_hidden, PurePosixPath(name).parts)):
                found[name] = (member.offset_data, member.size)
            elif member.isfile() and is_hidden_away(name):
                hidden.append(name)
        end = archive.offset
    _require_end(path, end, len(found))
    return found, hidden


def _require_end(path: Path, end: int, count: int) -> None:
    """InputError where the files of a tar stop without its mark of zeros, or others follow it."""
    with path.open("rb") as file:
        file.seek(end)
        mark = file.read(_BLOCK)
        where = f"after {count:,} files, at byte {end:,}"
        require(not any(mark), f"{path} is damaged {where}")
        require(len(mark) == _BLOCK, f"{path} ends without a mark of its end, {where}: cut off?")
        while piece := file.read(_PIECE):
            require(
                not any(piece),
                f"{path} has an end {where}, and goes on behind it: several were joined, or a part "
                "is lost; pack the files anew",
            )


def _problem_of(member: tarfile.TarInfo, again: bool, count: int) -> str:
    if again:
        return "a name twice"
    if not (member.isfile() or member.isdir()):
        return "a link or device"
    if member.sparse is not None:
        return "a file with holes"
    return f"more than {_MAX_FILES:,} files" if count > _MAX_FILES else ""


def _key(name: str) -> str:
    """WebDataset's: the path up to the first dot of the file's name.

    >>> _key("./a.b/000.left.png")
    './a.b/000'
    """
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, offset)
