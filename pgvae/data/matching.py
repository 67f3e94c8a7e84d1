"""Which row of a table speaks of which image: by path, by part of a path, by name."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from pgvae.data.columns import is_nameless
from pgvae.data.kinds import IMAGE_SUFFIXES
from pgvae.data.paths import some
from pgvae.errors import InputError

NAME_COLUMNS = ("filename", "file_name", "file", "name", "image", "image_id")
_COUNTING = ("index", "idx", "row", "level_0")  # more likely numbers of rows than of images
_LOOKED_AT = 200  # rows that show which column has the names


def naming_column(
    header: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str]
) -> int:
    """Index of the column that names the most images, with their endings if any has them.

    Of equals it is one called so, then the first that does not seem to count rows.

    >>> naming_column(["g", "file", "name"], [["1", "b", "Ann"], ["0", "a", "Ann"]], ["a.png"])
    1
    """
    known = {_last(_plain(name)) for name in names}, {_last(_stem(name)) for name in names}

    def named(column: int) -> tuple[int, int]:
        """Images that its cells name with their endings, and without."""
        cells = [row[column] for row in rows[:_LOOKED_AT]]
        plain, stems = ({_last(key(cell)) for cell in cells} for key in (_plain, _stem))
        return len(plain & known[0]), len(stems & known[1])

    titles = [title.lower() for title in header]
    called = [titles.index(title) for title in NAME_COLUMNS if title in titles]
    counting = [i for i, title in enumerate(titles) if is_nameless(header[i]) or title in _COUNTING]
    others = [i for i in range(len(header)) if i not in counting]
    return max([*called, *others, *counting], key=named)


def bare(name: str) -> str:
    """The name of an image alone, without folder and ending.

    >>> bare("images/000001.jpg")
    '000001'
    """
    return _last(_stem(name))


def is_name_of(cell: str, names: Sequence[str]) -> bool:
    """Whether a cell names one of the images, with or without folder and ending."""
    return bare(cell) in {bare(name) for name in names}


def in_order(labelled: Sequence[str], names: Sequence[str]) -> list[int]:
    """For each image of `names` the index in `labelled` of what speaks of it.

    Names fit where one is the other, or its end from a folder on; with their endings, and only
    what is left over then without. Accents may be written as one character or as two. Raises
    InputError, with the first five names, unless each fits exactly one.

    >>> in_order(["images/b.png", "images/a.png", "images/a.jpg"], ["a.jpg", "a.png", "b.webp"])
    [2, 1, 0]
    """
    rows: dict[int, int] = {}  # by image
    for key in (_plain, _stem):
        used = set(rows.values())
        unused = [row for row in range(len(labelled)) if row not in used]
        images = [image for image in range(len(names)) if image not in rows]
        rows |= _fitting(unused, images, labelled, names, key)
    missing = [name for image, name in enumerate(names) if image not in rows]
    if missing:
        raise InputError(f"labels are missing for {some(missing)}")
    claims = Counter(rows.values())
    shared = [name for image, name in enumerate(names) if claims[rows[image]] > 1]
    if shared:
        raise InputError(
            f"labels: one row fits several images, give their folders and endings: {some(shared)}"
        )
    _check_all_used([label for row, label in enumerate(labelled) if row not in claims], names)
    return [rows[image] for image in range(len(names))]


def _check_all_used(extra: list[str], names: Sequence[str]) -> None:
    """InputError for labels that no image was left for."""
    stems = {_stem(name) for name in names} if extra else set()
    for label in extra:
        if _stem(label) in stems:
            raise InputError(f"labels: {label!r} stands twice")
    if extra:
        raise InputError(f"labels speak of images that are not there or not read: {some(extra)}")


def _fitting(
    rows: Sequence[int],
    images: Sequence[int],
    labelled: Sequence[str],
    names: Sequence[str],
    key: Callable[[str], str],
) -> dict[int, int]:
    """The row of each image that has one, both among those given."""
    by_label: dict[str, int] = {}
    by_end: dict[str, int | None] = {}  # None: of several labels
    for row in rows if images else ():
        label = key(labelled[row])
        if label in by_label:
            raise InputError(f"labels: {labelled[row]!r} stands twice")
        by_label[label] = row
        for end in _ends(label)[1:]:
            by_end[end] = None if end in by_end else row
    found = {}
    for image in images:
        name = key(names[image])
        row = next((by_label[end] for end in _ends(name) if end in by_label), by_end.get(name))
        if row is not None:
            found[image] = row
    return found


def _ends(path: str) -> list[str]:
    """ "a/b/c" -> "a/b/c", "b/c", "c"."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _plain(name: str) -> str:
    """Without what differs between systems: how accents are composed, which slash is used."""
    return unicodedata.normalize("NFC", name.strip()).replace("\\", "/")


def _stem(name: str) -> str:
    """`_plain`, without an image's ending."""
    stem, dot, ending = _plain(name).rpartition(".")
    return stem if dot and f".{ending.lower()}" in IMAGE_SUFFIXES else _plain(name)
