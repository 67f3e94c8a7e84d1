"""Going on with a run: by the request and the config that its directory keeps."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from pgvae import request
from pgvae.config import RunConfig
from pgvae.errors import CorruptFileError, InputError
from pgvae.objectives import objective_class
from pgvae.request import FREE, Request, kinds, option, spelled
from pgvae.snapshot import MALFORMED, snapshots_in
from pgvae.training.checkpoint import checkpoints_in
from pgvae.training.plan import require_batch
from pgvae.training.rundir import CONFIG, read_status, runs_in

# Where one of these differs, it is another run; where another option does, it may be a slip.
_IDENTITY = ("dataset", "objective", "resolution", "seed", "init_from")
_CHANGES = ("precision", "snapshot_kimg", "metrics", "metric_kimg")


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a run directory keeps of how the run was asked for and planned."""

    path: Path
    request: Request
    config: RunConfig

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """InputError where `path` is no run directory, CorruptFileError where it is damaged."""
        if not (path / CONFIG).is_file():
            raise InputError(
                f"{path} is not a run directory: it has no {CONFIG}; give one of runs/"
            )
        if not (path / request.FILE).is_file():
            raise InputError(
                f"{path} was made by an earlier version, which kept no {request.FILE}: start a "
                f"new run with --init-from {path}"
            )
        asked = Request.read(path / request.FILE)
        try:
            config = RunConfig.from_dict(json.loads((path / CONFIG).read_text(encoding="utf-8")))
        except (OSError, InputError, *MALFORMED) as error:
            raise CorruptFileError(f"{path / CONFIG} cannot be read: {error}") from error
        return cls(path, asked, config)

    @property
    def images_seen(self) -> int:
        """Those of the newest checkpoint, or where there is none what status.json says."""
        found = checkpoints_in(self.path)
        return int(found[0].name.split("-")[1]) if found else read_status(self.path)["images_seen"]

    def require_checkpoint(self) -> None:
        """Raise InputError where checkpoints were made and are gone: nothing starts over here."""
        if checkpoints_in(self.path):
            return
        snapshots = snapshots_in(self.path)
        seen = self.images_seen or max((int(p.stem[9:]) for p in snapshots), default=0)
        if seen or snapshots or any(self.path.glob("*.safetensors")):
            start = snapshots[-1] if snapshots else "a snapshot"
            raise InputError(
                f"run {self.path} at {seen:,} images has no checkpoint any more: bring its "
                f"checkpoint-* back, or start a new run, with --init-from {start} or from nothing"
            )

    def differences(self, asked: Request, digest: str, init_from: str | None) -> list[str]:
        """Options that `asked` has otherwise than this run, of those that must stay.

        digest: of the images asked for. init_from: SHA-256 of the weights asked for, where there
        is such a file.
        """
        found = [name for name in kinds() if name not in FREE and self._differs(name, asked)]
        if init_from is not None:  # the weights count, not where they are
            found = [name for name in found if name != "init_from"]
            found += ["init_from"] if init_from != self.config.init_from else []
        return found + (["dataset"] if digest != self.config.dataset_digest else [])

    def _differs(self, name: str, asked: Request) -> bool:
        here, there = getattr(asked, name), getattr(self.request, name)
        if here == there:
            return False
        # Said by one and left open by the other: equal if that is the value all the same.
        return (there if here is None else here) != self._in_force(name)

    def _in_force(self, name: str) -> Any:
        """The value that an option came to have; None where the config does not hold it as such."""
        config, stages = self.config, self.config.schedule.stages
        elsewhere = {
            "objective": config.objective["name"],
            "label_thresholds": (config.labels.no_below, config.labels.yes_above),
            "grow": len(stages) > 1,
            "start_resolution": stages[0].resolution,
        }
        parts = (config, config.model, config.labels)
        values = (getattr(part, name) for part in parts if hasattr(part, name))
        return elsewhere[name] if name in elsewhere else next(values, None)


def newest_like(outdir: Path, asked: Request, digest: str, init_from: str | None) -> Kept | None:
    """The newest run under `outdir` that this request made; None where there is none.

    Raises InputError, with the options, where the newest of the same data, objective, resolution,
    seed and weights differs in another option.
    """
    slips: tuple[Kept, list[str]] | None = None
    for path in runs_in(outdir):
        try:
            kept = Kept.read(path)
        except (InputError, CorruptFileError):
            continue
        found = kept.differences(asked, digest, init_from)
        if not found:
            return kept
        if slips is None and not set(found) & set(_IDENTITY):
            slips = (kept, found)
    if slips is None:
        return None
    kept, found = slips
    raise InputError(
        f"{kept.path} differs in {_told(kept, asked, found)}: give its options, or go on with it "
        f"by --resume {kept.path} alone, or leave --resume out to start a new run"
    )


def gone_on(
    kept: Kept, asked: Request, digest: str, init_from: str | None
) -> tuple[Request, RunConfig, list[str]]:
    """Request and config with which a run goes on, and what is otherwise than before, in words.

    What `asked` leaves open stays as it was. Raises InputError where an option asks for what can
    not change, or the images are others.
    """
    merged = dataclasses.replace(kept.request, **asked.asked())
    found = kept.differences(merged, digest, init_from)
    if "dataset" in found:
        raise InputError(
            f"the images of {merged.dataset} are not those of {kept.path} (digest {digest[:16]}, "
            f"there {kept.config.dataset_digest[:16]}): give the same ones with --dataset, or "
            f"start a new run with --init-from {kept.path}"
        )
    if found:
        raise InputError(
            f"{kept.path} cannot change in {_told(kept, merged, found)}: leave that out, or start "
            "a new run"
        )
    if asked.total_kimg is not None and asked.total_kimg * 1000 < kept.images_seen:
        raise InputError(
            f"--total-kimg {asked.total_kimg:g}: {kept.path} is at {kept.images_seen / 1000:g} of "
            f"{kept.config.schedule.total_kimg:g} kimg already; ask for more, or leave it out"
        )
    config = dataclasses.replace(
        kept.config,
        schedule=kept.config.schedule.changed(asked),
        **asked.given(*_CHANGES),
    )
    require_batch(objective_class(config.objective["name"]), config.schedule)
    changes = [
        f"{option(name)} {spelled(value)} (before: {_value(kept.request, name)})"
        for name, value in asked.asked().items()
        if name != "outdir" and value != getattr(kept.request, name)
    ]
    return merged, config, changes


def _told(kept: Kept, asked: Request, names: list[str]) -> str:
    """The options in words: what each is in the run, and what was asked for."""
    return ", ".join(
        f"{option(name)} ({_value(kept.request, name)} there, {_value(asked, name)} here)"
        for name in names
    )


def _value(asked: Request, name: str) -> str:
    value = getattr(asked, name)
    return "the default" if value is None else spelled(value)
