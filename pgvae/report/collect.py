"""What is in a run directory, read without the engine that wrote it.

config.json and stats.jsonl must be there; whatever else is missing or damaged is left out, and
`Run.notes` says so.
"""

import contextlib
import dataclasses
import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pgvae.config import RunConfig
from pgvae.data.images import RejectError
from pgvae.errors import InputError, PgvaeError, one_line
from pgvae.files import content_of
from pgvae.request import FILE, Request
from pgvae.schedule import Schedule
from pgvae.snapshot import MALFORMED

_GRID = re.compile(r"(fakes|reconstructions)-(\d+)\.png")


@dataclass
class Run:
    """A run directory.

    values:      config.json as it is.
    schedule:    its schedule, checked; None where config.json is of another version.
    series:      by name in stats.jsonl: images seen and value of each line, NaN for null.
    images_seen: how far it is, by the log or the status, whichever knows more.
    times:       of the lines of the log that say theirs.
    grids:       by kind ("fakes", "reconstructions"): images seen and path, oldest first.
    evaluations: each evaluation*.json by its name, as it is.
    command:     that repeats the run; empty where it is not known.
    notes:       what could not be read.
    """

    path: Path
    values: dict[str, Any]
    schedule: Schedule | None = None
    status: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    images_seen: float = 0.0
    times: list[datetime] = field(default_factory=list)
    grids: dict[str, list[tuple[int, Path]]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    command: str = ""
    notes: list[str] = field(default_factory=list)

    def in_this_stage(self, name: str) -> list[float]:
        """Values of a curve at the resolution of its last one, oldest first."""
        points = self.series.get(name, [])
        return [v for _, v in self.in_stage_of(name, points[-1][0])] if points else []

    def in_stage_of(self, name: str, images: float) -> list[tuple[float, float]]:
        """As `series`, at the resolution that was trained at so many images alone."""
        points = self.series.get(name, [])
        if self.schedule is None:
            return points
        own, at = self.schedule.trained_at(round(images)), self.schedule.trained_at
        return [(seen, value) for seen, value in points if at(round(seen)) == own]

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Go on after an error of damaged or missing files, with a note of what is wrong."""
        try:
            yield
        except (PgvaeError, RejectError, OSError, *MALFORMED) as error:
            self.notes.append(f"{what} ({one_line(error)}).")


def read_run(path: Path) -> Run:
    """Read a run directory; InputError where it is none, or has nothing to show yet."""
    file = path / "config.json"
    if not file.is_file():
        raise InputError(f"{path} is not a run directory: it has no config.json; give one of runs/")
    try:
        run = Run(path, _object(file))
    except (OSError, *MALFORMED) as error:
        raise InputError(f"{file} cannot be read: {one_line(error)}; give another run") from error
    _read_log(run)
    with run.noting("config.json is not of this version of pgvae, so there is no timeline"):
        schedule = RunConfig.from_dict(run.values).schedule
        for index, stage in enumerate(schedule.stages):  # types are checked only in use
            schedule.at(schedule.start_of(index)), dict(stage.fading), dict(stage.settings)
        run.schedule = schedule
    with run.noting("status.json could not be read"):
        run.status = _object(path / "status.json")
        run.images_seen = max(run.images_seen, float(int(run.status["images_seen"])))
    with run.noting(f"{FILE} could not be read, so there is no command to repeat the run"):
        asked = dataclasses.replace(Request.read(path / FILE), hours=None)  # what they came to be
        run.command = shlex.join(("python", "train.py", *asked.words()))
    for file in sorted(path.glob("evaluation*.json")):
        with run.noting(f"{file.name} could not be read"):
            values = _object(file)
            values["metrics"].items()
            run.evaluations[file.name] = values
    named = ((file, _GRID.fullmatch(file.name)) for file in path.glob("*.png"))
    for images, kind, file in sorted((int(name[2]), name[1], f) for f, name in named if name):
        run.grids.setdefault(kind, []).append((images, file))
    return run


def _read_log(run: Run) -> None:
    """Add the numbers of stats.jsonl; InputError where there are none."""
    file = run.path / "stats.jsonl"
    try:
        lines = content_of(file).decode(errors="replace").splitlines() if file.exists() else []
    except OSError as error:
        raise InputError(f"{file} cannot be read: {one_line(error)}; bring it back") from error
    damaged = 0
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            images, seconds = float(record.pop("images")), float(record.pop("time", math.nan))
            known = {n: math.nan if v is None else v for n, v in record.items()}
            numbers = {n: float(v) for n, v in known.items() if type(v) in (int, float)}
            if not run.images_seen <= images < math.inf:
                raise ValueError("images seen never become fewer")
        except MALFORMED:
            damaged += number < len(lines)  # the last one may be cut short
            continue
        run.images_seen = images
        for name, value in numbers.items():
            run.series.setdefault(name, []).append((images, value))
        with contextlib.suppress(OSError, *MALFORMED):  # no clock shows such a time
            run.times.append(datetime.fromtimestamp(int(seconds), UTC))
    if not run.series:
        raise InputError(
            f"{run.path} has nothing to report yet: wait for a line in stats.jsonl, or bring the "
            "file back"
        )
    if damaged:
        run.notes.append(f"Lines of stats.jsonl that could not be read: {damaged:,}.")


def _object(file: Path) -> dict[str, Any]:
    return {**json.loads(content_of(file))}  # TypeError for a list or a number
