"""Run directories: numbered, locked while in use, with the request and the config of their run."""

import contextlib
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from pgvae import request
from pgvae.config import RunConfig
from pgvae.errors import CorruptFileError, InputError, ResourceError
from pgvae.files import (
    SUMS,
    atomic_path,
    content_of,
    locked,
    numbered_folder,
    remove,
    require_utf8,
    sums_of,
)
from pgvae.request import Request
from pgvae.snapshot import MALFORMED

CONFIG, _STATUS, _LOCK = "config.json", "status.json", ".lock"
PLANS = (CONFIG, request.FILE)


class RunDirectory:
    """One run's directory, locked for this process until `close`.

    lock: not where another process of the same run has it.
    is_guarded: whether the drive has locks, so that no second process can take it.
    Raises InputError where it cannot be written or another process has it.
    """

    def __init__(self, path: Path, lock: bool = True) -> None:
        require_utf8(path)
        self.path = path
        self.is_guarded = True
        self._lock = contextlib.ExitStack()
        if lock:
            self._take()

    def _take(self) -> None:
        try:
            self.is_guarded = self._lock.enter_context(locked(self.path / _LOCK))
        except BlockingIOError as error:
            raise InputError(
                f"run directory {self.path} is in use by {error.strerror}: stop it or start a new "
                "run"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot write to run directory {self.path}: {error.strerror}"
            ) from error
        # By a process that was killed; the second are safetensors' own.
        for half_written in (*self.path.glob(".*.tmp"), *self.path.glob(".tmp??????")):
            remove(half_written)

    @classmethod
    def create(
        cls, outdir: Path, config: RunConfig, asked: Request | None = None
    ) -> "RunDirectory":
        """A new directory `outdir/NNNNN-dataset-objective-Rpx` with request and config in it."""
        require_utf8(outdir)
        name = f"{config.dataset}{tail_of(config)}"
        try:
            run = cls(numbered_folder(outdir, name))
            run.write_plan(config, asked or Request())
        except OSError as error:
            raise InputError(
                f"cannot write to output directory {outdir}: {error.strerror}; choose another "
                "with --outdir"
            ) from error
        return run

    def write_plan(self, config: RunConfig, asked: Request) -> None:
        """Write `config.json` and `request.json`, each atomically, with their sums.

        Until both are there the sums are of the old ones too, so that a kill leaves none unsealed.
        """
        texts = {
            CONFIG: json.dumps(config.to_dict(), indent=2) + "\n",
            request.FILE: asked.recorded().to_json(),
        }
        new = "".join(f"{sha256(text.encode()).hexdigest()}  {n}\n" for n, text in texts.items())
        old = sums_of(self.path, [name for name in PLANS if (self.path / name).is_file()])
        self._write(SUMS, new + old.decode())
        for name, text in texts.items():
            self._write(name, text)
        self._write(SUMS, new)

    def _write(self, name: str, text: str) -> None:
        with atomic_path(self.path / name) as aside:
            aside.write_text(text, encoding="utf-8", newline="\n")

    def write_status(self, status: str, code: int, images_seen: int, message: str = "") -> None:
        """Say in `status.json` how the run stands: running, done, preempted or failed.

        images_seen: while it is running, those of the newest checkpoint.
        """
        values = {
            "status": status,
            "exit_code": code,
            "images_seen": images_seen,
            "message": message,
        }
        text = json.dumps(values) + "\n"
        try:
            self._write(_STATUS, text)
        except ResourceError:  # a full disk has room where the old one is
            if not (self.path / _STATUS).is_file():
                raise
            with (self.path / _STATUS).open("r+", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.truncate()

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()


def read_status(run_dir: Path) -> dict[str, Any]:
    """What `status.json` says; {"images_seen": 0} where it is not there or damaged."""
    try:
        status = json.loads(content_of(run_dir / _STATUS))
        return {**status, "images_seen": int(status["images_seen"])}
    except (OSError, *MALFORMED):
        return {"images_seen": 0}


def require_as_written(run_dir: Path) -> None:
    """Raise CorruptFileError where the plan of a run is not what was written; older runs pass."""
    try:
        expected = content_of(run_dir / SUMS)
    except OSError:
        return
    for name in PLANS:
        if (run_dir / name).is_file() and sums_of(run_dir, [name]) not in expected:
            raise CorruptFileError(
                f"{run_dir / name} is not as it was written: its SHA-256 is not that of {SUMS}; "
                f"bring it back, or remove {SUMS} to take it as it is"
            )


def require_writable(outdir: Path, cure: str) -> None:
    """Raise InputError at once, with the cure, where nothing can be made under `outdir`."""
    there = next(p for p in (outdir, *outdir.absolute().parents) if p.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise InputError(
            f"cannot write to output directory {outdir}: {there} is not a writable folder; {cure}"
        )


def tail_of(config: RunConfig) -> str:
    """How the name of a run directory ends, after that of the data: "-pioneer-64px"."""
    return f"-{config.objective['name']}-{config.model.resolution}px"


def runs_in(outdir: Path) -> list[Path]:
    """Run directories under `outdir`, newest first by number; `outdir` itself where it is one.

    Those too that have lost a part of their plan.
    """
    if any((outdir / name).is_file() for name in PLANS):
        return [outdir]
    found = {p.parent for name in (*PLANS, SUMS) for p in outdir.glob(f"[0-9]*/{name}")}
    return sorted(found, reverse=True)
