"""What is in a run directory, read without the engine that wrote it.

config.json and stats.jsonl must be there; whatever else is missing or damaged is left out, and
`Run.notes` says so.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pgvae.config import RunConfig
from pgvae.errors import InputError
from pgvae.schedule import Schedule, Stage
from pgvae.snapshot import MALFORMED

T = TypeVar("T")
_YEAR_9999 = 253_370_764_800  # in seconds since 1970
# What taking apart JSON that is not as it should be may raise.


@dataclass
class Series:
    """One quantity of the log: values at increasing counts of images, NaN and inf included."""

    images: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1]


@dataclass
class Stats:
    """stats.jsonl: a series for each name, and when it was written.

    images_seen: of the newest line.
    times:       seconds since 1970 of the first and the newest line; None where none says.
    damaged:     lines that could not be read, one cut short at the end left out.
    """

    series: dict[str, Series] = field(default_factory=dict)
    images_seen: float = 0.0
    times: tuple[float, float] | None = None
    damaged: int = 0


@dataclass(frozen=True)
class Picture:
    """A grid in the run directory, and after how many images it was made."""

    path: Path
    images_seen: int


@dataclass(frozen=True)
class Evaluation:
    """One evaluation*.json, as it is."""

    name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run directory.

    values:        config.json as it is.
    config:        the same, checked; None where it is of another version.
    fakes, reconstructions: the grids, oldest first.
    reals, interpolation:   pictures that there may be.
    notes:         what could not be read.
    """

    path: Path
    values: dict[str, Any]
    config: RunConfig | None
    status: dict[str, Any]
    stats: Stats
    fakes: list[Picture]
    reconstructions: list[Picture]
    reals: Path | None
    interpolation: Path | None
    evaluations: list[Evaluation]
    notes: list[str]

    @property
    def name(self) -> tuple[str, str, str]:
        """Data set, objective and resolution, as far as config.json has them."""
        values = self.values
        objective, model = values.get("objective"), values.get("model")
        kind = objective.get("name") if isinstance(objective, dict) else None
        side = model.get("resolution") if isinstance(model, dict) else None
        return str(values.get("dataset", "?")), str(kind or "?"), f"{side or '?'} px"

    @property
    def schedule(self) -> Schedule | None:
        """Its schedule, where the config is of this version."""
        return self.config.schedule if self.config else None

    @property
    def images_seen(self) -> float:
        """How far it is, by the log or the status, whichever knows more."""
        said = self.status.get("images_seen")
        return max(self.stats.images_seen, said if isinstance(said, int) else 0)


def read_run(path: Path) -> Run:
    """Read a run directory; InputError where it is none, or has nothing to show yet."""
    file = path / "config.json"
    if not file.is_file():
        raise InputError(f"{path} is not a run directory: it has no config.json; give one of runs/")
    try:
        values = _object(file)
    except (OSError, *MALFORMED) as error:
        raise InputError(f"{file} cannot be read: {_short(error)}; give another run") from error
    notes: list[str] = []
    stats = _read_stats(path / "stats.jsonl")
    if stats.damaged:
        lines = f"{stats.damaged:,} line{'s' if stats.damaged > 1 else ''}"
        notes.append(f"{lines} of stats.jsonl could not be read.")
    reals = path / "reals.png"
    between = sorted(path.glob("interpolation*.png"), key=lambda p: (p.stat().st_mtime, p.name))
    return Run(
        path=path,
        values=values,
        config=_checked(values, notes),
        status=_read_status(path / "status.json", notes),
        stats=stats,
        fakes=_pictures(path, "fakes"),
        reconstructions=_pictures(path, "reconstructions"),
        reals=reals if reals.is_file() else None,
        interpolation=between[-1] if between else None,
        evaluations=_read_evaluations(path, notes),
        notes=notes,
    )


def last_stage(schedule: Schedule, images_seen: int) -> Stage:
    """The stage of the newest batch of a run that has seen so many images: a grid shows that one.

    A batch that goes on past the end of its stage is of the stage in which it began.
    """
    seen = 0
    for index, batch in enumerate(schedule.batch_sizes[:-1]):
        seen += -(-max(0, schedule.start_of(index + 1) - seen) // batch) * batch
        if images_seen <= seen:
            return schedule.at(max(0, images_seen - batch))
    return schedule.at(max(0, images_seen - schedule.batch_sizes[-1]))


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` (2 or more) of the items, evenly chosen, the first and the last always."""
    if len(items) <= count:
        return list(items)
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def _read_stats(file: Path) -> Stats:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    stats = Stats()
    for number, line in enumerate(lines, start=1):
        if not _add_line(stats, line) and number < len(lines):
            stats.damaged += 1
    if not stats.series:
        why = "no line of it can be read" if stats.damaged else "it has no stats.jsonl with lines"
        raise InputError(
            f"{file.parent} has nothing to report yet: {why}; wait for its first log line"
        )
    return stats


def _add_line(stats: Stats, line: str) -> bool:
    """Add the numbers of one line; False where it cannot be read."""
    try:
        record = json.loads(line)
        images = float(record.pop("images"))
        seconds = float(record.pop("time", math.nan))
        numbers = {name: float(value) for name, value in record.items() if _is_number(value)}
    except MALFORMED:
        return False
    if not (math.isfinite(images) and images >= stats.images_seen):
        return False
    for name, value in numbers.items():
        series = stats.series.setdefault(name, Series())
        series.images.append(images)
        series.values.append(value)
    stats.images_seen = images
    if 0 <= seconds < _YEAR_9999:
        stats.times = (stats.times[0] if stats.times else seconds, seconds)
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(values: dict[str, Any], notes: list[str]) -> RunConfig | None:
    try:
        return RunConfig.from_dict(values)
    except (InputError, *MALFORMED) as error:
        notes.append(
            f"config.json is not of this version of pgvae ({_short(error)}): no timeline, and no "
            "command to repeat the run."
        )
        return None


def _read_status(file: Path, notes: list[str]) -> dict[str, Any]:
    try:
        return _object(file)
    except (OSError, *MALFORMED) as error:
        notes.append(f"status.json could not be read ({_short(error)}).")
        return {}


def _read_evaluations(path: Path, notes: list[str]) -> list[Evaluation]:
    found = []
    for file in sorted(path.glob("evaluation*.json")):
        try:
            values = _object(file)
            if not isinstance(values["metrics"], dict):
                raise TypeError("its metrics are not an object")
        except (OSError, *MALFORMED) as error:
            notes.append(f"{file.name} could not be read ({_short(error)}).")
            continue
        found.append(Evaluation(file.name, values))
    return found


def _pictures(path: Path, kind: str) -> list[Picture]:
    """Grids `kind-IMAGES.png`, by images."""
    found = ((p, re.fullmatch(kind + r"-(\d+)\.png", p.name)) for p in path.glob(f"{kind}-*.png"))
    pictures = [Picture(p, int(match[1])) for p, match in found if match]
    return sorted(pictures, key=lambda picture: picture.images_seen)


def _object(file: Path) -> dict[str, Any]:
    values = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise TypeError("it is not an object")
    return values


def _short(error: object) -> str:
    """One line of what went wrong, without the path that a caller names already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]
