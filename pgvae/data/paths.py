"""Names, and looks at paths that never raise: what cannot be looked at is not there."""

import os
import reprlib
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from pgvae.errors import InputError

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


def is_file(path: Path) -> bool:
    """Whether it is a plain file, or a link to one."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one."""
    return stat.S_ISDIR(_mode(path))


def is_link(path: Path) -> bool:
    """Whether it is a link."""
    return stat.S_ISLNK(_mode(path, follow=False))


def exists(path: Path) -> bool:
    """Whether there is anything, or what a link leads to."""
    return _mode(path) != 0


def require_readable(file: Path) -> None:
    """InputError where the user has no right to read a file, or to look whether it is there."""
    for path, rights in ((file.parent, os.R_OK | os.X_OK), (file, os.R_OK)):
        if exists(path) and not os.access(path, rights):
            raise InputError(
                f"{path} may not be read: ask its owner for the right (`chmod -R a+rX FOLDER`)"
            )


def require_removable(folder: Path) -> None:
    """InputError where the user may not delete what is in a folder, which may not be there."""
    below = (Path(place, name) for place, names, _ in os.walk(folder) for name in names)
    for path in [] if is_link(folder) else [folder, *below]:
        if is_link(path) or not exists(path):  # another process may delete them too
            continue
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise InputError(
                f"{path} is write-protected or another user's, so {folder} can neither be replaced "
                "nor deleted: take another, or the protection off (`chmod -R u+w FOLDER`)"
            )


def nearest_parent(path: Path) -> str:
    """ "the nearest that exists is ...", to show where a path went wrong."""
    for parent in path.absolute().parents:
        if exists(parent):
            return f"the nearest that exists is {parent}"
    return "nothing of it exists"


def printable(name: str) -> str:
    """A name that any log or JSON file can hold, whatever bytes the file system gave."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def apart(stems: Iterable[str]) -> list[str]:
    """Names of files without clashes, in their order: a number after a second one.

    >>> apart(["a-2", "a", "a", "b"])
    ['a-2', 'a', 'a-3', 'b']
    """
    found: dict[str, None] = {}  # a set that keeps its order
    for stem in stems:
        name, number = stem, 1
        while name in found:
            number += 1
            name = f"{stem}-{number}"
        found[name] = None
    return [*found]


def _mode(path: Path, *, follow: bool = True) -> int:
    """0 for a path that is too long, in a folder without access, a link in a circle, ..."""
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (OSError, ValueError):
        return 0


def some(names: Sequence[str]) -> str:
    """The first five names, the middle of long ones left out, and how many more.

    >>> some(["a", "b"])
    "'a', 'b'"
    """
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(map(_SHORT.repr, names[:5])) + more
