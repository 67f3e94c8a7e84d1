"""This process's open LMDB environments.

LMDB allows one environment per file and process, and none that was opened before a fork. So
stores share them here: by process, and by the file itself, as a path may come to name another.
"""

import os
import threading
import weakref
from pathlib import Path

import lmdb

from pgvae.data.pages import KEY, require_sound
from pgvae.errors import CorruptFileError, ResourceError
from pgvae.files import require_utf8

_lock = threading.Lock()
_open: "weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment]" = (
    weakref.WeakValueDictionary()
)


def environment_at(folder: Path, key_bytes: int | None = KEY) -> lmdb.Environment:
    """The read-only environment in `folder`; it closes when the last who hold it let go.

    key_bytes: as of `require_sound`. Needs no writable file system (no lock file). Raises
    CorruptFileError where it cannot open, ResourceError where the process may not have so many
    addresses.
    """
    file = folder / "data.mdb"
    require_utf8(file)
    try:
        status = file.stat()
        with _lock:
            key = (status.st_dev, status.st_ino)
            environment = _open.get(key)
            if environment is None:
                require_sound(file, key_bytes)
                environment = lmdb.open(
                    str(folder), readonly=True, lock=False, readahead=False, meminit=False
                )
                _open[key] = environment
            return environment
    except lmdb.MemoryError as error:
        raise ResourceError(
            f"{file} needs {status.st_size:,} bytes of address space: raise the limit (ulimit -v)"
        ) from error
    except (lmdb.Error, OSError) as error:
        raise CorruptFileError(f"{file} cannot be opened: {error}; prepare the set again") from (
            error
        )


def _forget_after_fork() -> None:
    """Close what the parent had open: LMDB forbids its use here, and a second opening beside it."""
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    for environment in list(_open.values()):
        environment.close()
    _open.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
