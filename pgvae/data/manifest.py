"""What a prepared set says of itself: `manifest.json`, and the files beside it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pgvae.data.paths import is_file, is_folder, require_readable
from pgvae.errors import CorruptFileError, InputError
from pgvae.sizes import SQUARE, Base

FORMAT = 1
MANIFEST, HASHES, LABELS, SPLIT, NAMES, REJECTS = (
    "manifest.json",
    "hashes.npy",
    "labels.npy",
    "split.npy",
    "names.json",
    "rejects.jsonl",
)
_ENTRIES = (
    *("name", "count", "digest", "channels", "attributes", "codecs", "splits", "files", "checksum"),
)


def folder_of(resolution: int) -> str:
    """Name of the LMDB environment of a resolution: "0064"."""
    return f"{resolution:04d}"


def checksum_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest's entries, but for the one that holds this sum."""
    entries = {k: v for k, v in manifest.items() if k != "checksum"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def manifest_of(base: Base) -> dict[str, Any]:
    """What a manifest says of the shape of images: nothing of squares."""
    return {} if base == SQUARE else {"base": list(base)}


def has_set(path: Path) -> bool:
    """Whether a set is there, or what is left of one that lost its manifest."""
    return is_file(path / MANIFEST) or is_file(path / folder_of(4) / "data.mdb")


def may_be_set(path: Path) -> bool:
    """As `has_set`, or a folder that may not be looked into."""
    return has_set(path) or (is_folder(path) and not os.access(path, os.R_OK | os.X_OK))


def read_manifest(path: Path) -> dict[str, Any]:
    """That of a set, whole by its own sum.

    InputError where there is no (finished) set of this format, CorruptFileError where it is gone
    or damaged.
    """
    file = path / MANIFEST
    require_readable(file)
    if not is_file(file):
        if path.name.endswith(".tmp"):
            raise InputError(
                f"{path} is half-prepared: rerun `pgvae data prepare` and let it finish"
            )
        if has_set(path):
            raise CorruptFileError(
                f"{file} is gone: bring it back, or prepare the set again with --force"
            )
        raise InputError(
            f"{path} is not a prepared set (no {MANIFEST}): run `pgvae data prepare` first"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        found = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{file} cannot be read: {error}; prepare the set again") from error
    if found != FORMAT:
        raise InputError(
            f"{path} has data format {found}, this version reads {FORMAT}: prepare it again"
        )
    missing = [entry for entry in _ENTRIES if entry not in manifest]
    if missing:
        raise CorruptFileError(f"{file} lacks {', '.join(missing)}; prepare the set again")
    if manifest["checksum"] != checksum_of(manifest):
        raise CorruptFileError(f"{file} is damaged: its own sum is wrong; prepare the set again")
    return manifest


def check_size(file: Path, size: int) -> None:
    """LMDB reads past the end of a truncated file, which kills the process: look first."""
    require_readable(file)
    found = file.stat().st_size if is_file(file) else 0
    if found != size:
        raise CorruptFileError(
            f"{file} is truncated or missing: {found:,} bytes of {size:,}; prepare the set again"
        )


def require_sum(file: Path, found: str | list[str], expected: str | list[str]) -> None:
    """Raise CorruptFileError unless the sum of a file, or those of its parts, are as expected."""
    if found != expected:
        raise CorruptFileError(
            f"{file} is damaged: its SHA-256 is not the manifest's; prepare the set again"
        )
