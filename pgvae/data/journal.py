"""What a preparation has done so far, noted beside its files, for one that goes on after a kill.

The first line says what is prepared and how; each further one what a commit to LMDB added.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgvae.data.paths import is_file

JOURNAL = "journal.jsonl"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Journal:
    """The journal in a folder. `lines` are those of a preparation of the same, to go on with.

    what: all that the files depend on, for JSON.
    """

    def __init__(self, folder: Path, what: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self._head = {"what": dict(what), "boot": _boot()}
        lines = _lines_of(self._path)
        self.lines = lines[1:] if lines[:1] == [self._head] else []
        if not self.lines:
            self._path.write_text(json.dumps(self._head) + "\n", encoding="utf-8")

    def add(self, line: Mapping[str, Any]) -> None:
        """Note what was committed since the last line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def remove(self) -> None:
        """Once all else is written."""
        self._path.unlink(missing_ok=True)


def may_go_on(folder: Path, what: Mapping[str, Any]) -> bool:
    """Whether a preparation of the same was killed there, since the system started.

    After a crash of the system itself nobody knows which files had reached the disk.
    """
    lines = _lines_of(folder / JOURNAL)
    return len(lines) > 1 and lines[0] == {"what": dict(what), "boot": _boot()} and bool(_boot())


def _boot() -> str:
    """Names the time since the system was started; "" where that is not known."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _lines_of(path: Path) -> list[Any]:
    """Whole lines; the last one may have been cut off by the kill."""
    if not is_file(path):
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
