"""What `pgvae check` finds: every file of a run, or a snapshot or a set, read and not changed."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pgvae.checks import require
from pgvae.data import Store
from pgvae.data.images import RejectError, decode
from pgvae.data.manifest import may_be_set
from pgvae.data.paths import is_file, is_link
from pgvae.errors import CorruptFileError, PgvaeError, one_line
from pgvae.files import SUMS, content_of, require_utf8
from pgvae.inference.directions import directions_path, load_directions
from pgvae.seal import is_sealed
from pgvae.snapshot import MALFORMED, PRETRAINED, load_snapshot, snapshots_in
from pgvae.training.checkpoint import checkpoints_in, require_whole
from pgvae.training.resume import Kept
from pgvae.training.rundir import CONFIG, PLANS

# What each file of JSON that we write has; of .jsonl each line.
_HAVE = {
    "stats.jsonl": {"images": (int, float)},
    "status.json": {"status": str, "images_seen": int},
    "best.json": {"metric": str, "value": (int, float)},
    "evaluation.json": {"metrics": dict},
    "config.json": {"model": dict},
}
_OF_RUN = (*PLANS, SUMS, "log.txt", "stats.jsonl", "status.json")  # and of no mere snapshots
_HEAD = 1 << 16  # bytes in which a snapshot says that it is one
_UNSEALED = "written before files had a digest: a changed number would not be seen"


@dataclass(frozen=True)
class Part:
    """Something that was checked.

    kind:    plan, checkpoint, snapshot, directions, log, picture or set.
    problem: what is wrong with it; empty where it is whole. note: what could not be checked.
    """

    kind: str
    path: Path
    problem: str = ""
    note: str = ""


def is_run(path: Path) -> bool:
    """Whether this is a run directory, or what is left of one."""
    described = is_file(path / CONFIG) and not is_model(path)
    return described or bool(checkpoints_in(path) or snapshots_in(path))


def is_model(path: Path) -> bool:
    """Whether this is a folder that a model was written to, to be given away."""
    return is_file(path / PRETRAINED)


def others_in(folder: Path) -> list[Path]:
    """Files that may be snapshots by names of their own, such as best.safetensors."""
    found = {*folder.glob("*.safetensors")} - {*snapshots_in(folder)}
    return sorted(path for path in found if not path.name.startswith("directions-"))


def is_ours(file: Path) -> bool:
    """Whether a file seems to be a snapshot, and not another program's, or cannot be read."""
    try:
        with file.open("rb") as opened:
            return b'"pgvae"' in opened.read(_HEAD)
    except OSError:
        return True  # looking at all of it will tell


def check(path: Path) -> Iterator[Part]:
    """Read all of a run, a checkpoint, a snapshot, a model or a set; -> what was found, in turn.

    InputError where it is none of these.
    """
    require_utf8(path)
    if path.name.startswith("checkpoint-") and path.is_dir():
        yield _tried("checkpoint", path, lambda: require_whole(path))
    elif may_be_set(path):
        yield _tried("set", path, lambda: Store(path).verify())
    elif is_run(path):
        yield from _of_run(path)
    elif is_model(path):
        yield from _of_snapshot(path / PRETRAINED)
        yield from _of_logs(path)
    else:
        require(path.exists(), f"there is no {path}: give a run, a snapshot or a prepared set")
        known = path.is_file() and path.suffix == ".safetensors"
        require(known, f"{path} is no run, no checkpoint, no snapshot and no prepared set")
        yield from _of_snapshot(path)


def usable(parts: list[Part]) -> tuple[Path | None, Path | None]:
    """The checkpoint that `--resume` would go on from, and the newest whole snapshot, of a run.

    parts: as `check` found them. What a run that trains has replaced since counts: newer is there.
    """
    whole = [part for part in parts if not part.problem]
    kinds = {part.kind for part in whole}
    checkpoints, snapshots = (
        [part.path for part in whole if part.kind == kind and part.path.name.startswith(kind)]
        for kind in ("checkpoint", "snapshot")  # newest first, oldest first; but for best
    )
    newest = checkpoints[0] if checkpoints and "plan" in kinds else None
    return newest, snapshots[-1] if snapshots else None


def _of_run(run: Path) -> Iterator[Part]:
    note = "" if (run / SUMS).is_file() else f"there is no {SUMS}: a changed option is not seen"
    if checkpoints_in(run) or any((run / name).exists() for name in _OF_RUN):  # not snapshots alone
        yield _tried("plan", run / CONFIG, lambda: Kept.read(run), note)
    yield from _checkpoints_of(run)
    for path in [*snapshots_in(run), *others_in(run)]:
        for part in _of_snapshot(path):
            yield from _if_there(part)
    yield from _of_logs(run)


def _of_logs(folder: Path) -> Iterator[Part]:
    """What is JSON, TensorBoard's or a picture, but for a run's plan."""
    logs = (*folder.glob("stats.jsonl"), *folder.glob("*.json"))
    for path in sorted(path for path in logs if path.name not in PLANS or is_model(folder)):
        yield _tried("log", path, lambda path=path: _read_json(path))
    for path in folder.glob("log.txt"):
        yield _tried("log", path, lambda path=path: content_of(path))
    for path in sorted(folder.glob("events.out.tfevents.*")):
        yield _tried("log", path, lambda path=path: _read_events(path))
    for path in sorted(folder.glob("*.png")):
        yield _tried("picture", path, lambda path=path: decode(content_of(path)))


def _checkpoints_of(run: Path) -> Iterator[Part]:
    """Newest first; newer ones where a run that trains has replaced all before they were read."""
    found: list[Part] = []
    paths = checkpoints_in(run)
    while paths and not found:
        for path in paths:
            part = _tried("checkpoint", path, lambda path=path: require_whole(path))
            found += _if_there(part)
        paths = [path for path in checkpoints_in(run) if path not in paths]
    yield from found


def _if_there(part: Part) -> Iterator[Part]:
    """Unless a run that trains has removed it meanwhile."""
    if not part.problem or part.path.exists() or is_link(part.path):
        yield part


def _of_snapshot(path: Path) -> Iterator[Part]:
    """A snapshot and the directions beside it."""
    part = _tried("snapshot", path, lambda: load_snapshot(path))
    try:
        note = "" if part.problem or is_sealed(path) else _UNSEALED
    except FileNotFoundError:  # a run that trains has deleted it since
        return
    yield Part(part.kind, path, part.problem, note)
    beside = directions_path(path)
    if beside.is_file() and not part.problem:
        d = load_snapshot(path).config.latent_dim
        yield _tried("directions", beside, lambda: load_directions(beside, path, d))


def _read_json(path: Path) -> None:
    """Raise CorruptFileError for what is no JSON or not as we write it: a file, or of .jsonl a
    line but for the last."""
    text = content_of(path).decode()
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    for number, line in enumerate(lines, start=1):
        try:
            _require_ours(path.name, json.loads(line))
        except MALFORMED as error:
            if 1 < number == len(lines):  # cut short by a kill, and dropped on --resume
                return
            raise CorruptFileError(f"{path} is damaged in line {number}: {error}") from error


def _require_ours(name: str, found: object) -> None:
    """Raise ValueError unless a file of that name has this in it, where we write one so called."""
    wanted = _HAVE.get(name, {})
    if wanted and not isinstance(found, dict):
        raise ValueError(f"not {{...}} with {', '.join(wanted)}")
    for key, kind in wanted.items():
        if not isinstance(found.get(key), kind) or isinstance(found[key], bool):
            raise ValueError(f"{key} is {found.get(key)!r}")


def _read_events(path: Path) -> None:
    """Raise CorruptFileError for an event whose sum is wrong; a kill may cut the last one short."""
    from tensorboard.compat.tensorflow_stub import errors
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    content_of(path)  # OSError for what is no file
    reader = PyRecordReader_New(str(path))
    with contextlib.suppress(errors.OutOfRangeError):  # the end
        while True:
            try:
                reader.GetNext()
            except errors.DataLossError as error:
                if "truncated" in str(error):
                    return
                raise CorruptFileError(f"{path} is damaged: {error}") from error


def _tried(kind: str, path: Path, read: Callable[[], object], note: str = "") -> Part:
    try:
        read()
    except (PgvaeError, RejectError, OSError, UnicodeError) as error:
        words = one_line(error) if isinstance(error, OSError) else str(error)
        return Part(kind, path, words if str(path) in words else f"{path}: {words}")
    return Part(kind, path, note=note)
