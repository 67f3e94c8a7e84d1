"""LSUN's LMDB folders: encoded images under keys that say nothing."""

from pathlib import Path
from typing import Any

from pgvae.checks import require
from pgvae.data import images
from pgvae.data.containers.base import FileSource, bad_record, checked_size, damaged
from pgvae.data.environments import environment_at
from pgvae.data.paths import printable
from pgvae.errors import CorruptFileError, InputError

_MAX_ENTRIES = 20_000_000


class LmdbSource(FileSource):
    """Every value of an LMDB environment as an image, in the order of its keys.

    path: its data.mdb. Raises InputError for a damaged or truncated one, which LMDB itself would
    fault on.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with damaged(path, "LMDB file"):
            environment = self._file()
            held = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            size = path.stat().st_size
            require(size >= held, f"{path} is cut off: {size:,} bytes of {held:,}")
            count = environment.stat()["entries"]
            require(count <= _MAX_ENTRIES, f"{path} has {count:,} entries: refused")
            with environment.begin() as txn:
                self._keys = [*txn.cursor().iternext(keys=True, values=False)]
        self.names = [printable(key.decode("utf-8", "surrogateescape")) for key in self._keys]

    def read(self, index: int) -> bytes:
        with bad_record(), self._file().begin(buffers=True) as txn:
            value = txn.get(self._keys[index])
            if value is None:
                raise images.RejectError("it is gone")
            checked_size(len(value), self.names[index])
            return bytes(value)

    def _open(self) -> Any:
        try:  # shared: LMDB opens a file once in a process
            return environment_at(self.path.parent, key_bytes=None)
        except CorruptFileError as error:
            raise InputError(str(error)) from error

    def close(self) -> None:
        self._opened = None
