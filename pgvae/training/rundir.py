"""Run directories: numbered, locked while in use, found again by their config."""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, TextIO

from pgvae.config import RunConfig
from pgvae.errors import InputError
from pgvae.files import atomic_path, remove

_CONFIG, _STATUS, _LOCK = "config.json", "status.json", ".lock"
# What may change between the first command and the one that goes on; the second are shares of
# the total by default, and stay what they were (see `with_shares_of`).
_SHARES = ("pretrain_kimg", "anneal_kimg", "milestones_kimg")
_MEASURES = ("metrics", "metric_kimg")
_FREE = (
    "snapshot_kimg",
    *_MEASURES,
    "schedule.total_kimg",
    *(f"schedule.{name}" for name in _SHARES),
)


class RunDirectory:
    """One run's directory, locked for this process until `close`.

    Raises InputError where it cannot be written or another process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._lock: TextIO = (path / _LOCK).open("a+")
        except OSError as error:
            raise InputError(f"cannot write to run directory {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            pid = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise InputError(
                f"run directory {path} is in use by process {pid}: stop it or start a new run"
            ) from error
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        for half_written in path.glob(".*.tmp"):  # by a process that was killed
            remove(half_written)

    @classmethod
    def create(cls, outdir: Path, config: RunConfig) -> "RunDirectory":
        """A new directory `outdir/NNNNN-dataset-objective-Rpx` with the config in it."""
        try:
            outdir.mkdir(parents=True, exist_ok=True)
            taken = [int(m[1]) for p in outdir.iterdir() if (m := re.match(r"(\d{5})-", p.name))]
            number = max(taken, default=-1) + 1
            name = f"{config.dataset}-{config.objective['name']}-{config.model.resolution}px"
            path = outdir / f"{number:05d}-{name}"
            path.mkdir()
            run = cls(path)
            run.write_config(config)
        except OSError as error:
            raise InputError(
                f"cannot write to output directory {outdir}: {error.strerror}; choose another "
                "with --outdir"
            ) from error
        return run

    def write_config(self, config: RunConfig) -> None:
        """Write `config.json` atomically."""
        with atomic_path(self.path / _CONFIG) as aside:
            aside.write_text(json.dumps(config.to_dict(), indent=2) + "\n")

    def write_status(self, status: str, code: int, images_seen: int, message: str = "") -> None:
        """Say in `status.json` how the run stands: running, done, preempted or failed."""
        values = {
            "status": status,
            "exit_code": code,
            "images_seen": images_seen,
            "message": message,
        }
        with atomic_path(self.path / _STATUS) as aside:
            aside.write_text(json.dumps(values) + "\n")

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()


def require_writable(outdir: Path) -> None:
    """Raise InputError at once where runs cannot be made under `outdir`; makes nothing."""
    there = next(p for p in (outdir, *outdir.absolute().parents) if p.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise InputError(
            f"cannot write to output directory {outdir}: {there} is not a writable folder; choose "
            "another with --outdir"
        )


def find_run(outdir: Path, config: RunConfig) -> Path | None:
    """The newest run under `outdir` (or `outdir` itself) with this config; None without any.

    Raises InputError with the fields that differ where there are runs but none fits.
    """
    itself = (outdir / _CONFIG).is_file()
    runs = [outdir] if itself else sorted(p.parent for p in outdir.glob(f"[0-9]*/{_CONFIG}"))
    wanted = _settings(config.to_dict())
    newest: tuple[str, str] | None = None  # the name of the newest run, and how it differs
    for path in reversed(runs):
        try:
            found = _settings(json.loads((path / _CONFIG).read_text()))
        except (OSError, ValueError, AttributeError):  # cut short, or not an object
            continue
        differences = [
            f"{name}: {found.get(name)} there, {wanted.get(name)} here"
            for name in sorted(wanted.keys() | found.keys())
            if name not in _FREE and found.get(name) != wanted.get(name)
        ]
        if not differences:
            return path
        newest = newest or (path.name, "; ".join(differences))
    if newest is None:
        return None
    raise InputError(
        f"no run to resume in {outdir}: {newest[0]} differs ({newest[1]}); "
        "give its options, or leave --resume out to start a new run"
    )


def with_shares_of(run_dir: Path, config: RunConfig, given: Collection[str] = ()) -> RunConfig:
    """`config` with the pre-training, annealing, milestones and metrics of the run it goes on with.

    given: those of them that the user asked for anew, which stay as they are.
    """
    found = json.loads((run_dir / _CONFIG).read_text())

    def kept(names: Collection[str], there: dict[str, Any]) -> dict[str, Any]:
        values = {name: there[name] for name in names if name in there and name not in given}
        return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}

    schedule = dataclasses.replace(config.schedule, **kept(_SHARES, found["schedule"]))
    return dataclasses.replace(config, schedule=schedule, **kept(_MEASURES, found))


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    """A config's JSON by "part.name"; what a run of an earlier version lacks has its default."""
    with contextlib.suppress(InputError, TypeError):  # else it is compared as it stands
        values = RunConfig.from_dict(values).to_dict()
    return _flatten(json.loads(json.dumps(values)))


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
