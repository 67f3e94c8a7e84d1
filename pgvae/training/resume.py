"""Going on with a run: by the request and the config that its directory keeps."""

import contextlib
import dataclasses
import functools
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pgvae import request
from pgvae.config import RunConfig
from pgvae.errors import CorruptFileError, InputError
from pgvae.files import SUMS, content_of
from pgvae.objectives import OBJECTIVES, settings_of
from pgvae.request import FREE, NEWEST, Request, kinds, over
from pgvae.sizes import size_at
from pgvae.snapshot import MALFORMED, snapshots_in
from pgvae.training.budget import FITTED
from pgvae.training.checkpoint import checkpoints_in, is_whole
from pgvae.training.plan import check_request
from pgvae.training.rundir import (
    CONFIG,
    PLANS,
    read_status,
    require_as_written,
    runs_in,
    tail_of,
)
from pgvae.values import BY_STAGE, option, spelled

# Where one of these differs, it is another run; where another option does, it may be a slip.
_IDENTITY = ("dataset", "objective", "resolution", "seed", "init_from")
_CHANGES = ("precision", "snapshot_kimg", "keep_snapshots", "metrics", "metric_kimg")


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a run directory keeps of how the run was asked for and planned."""

    path: Path
    request: Request
    config: RunConfig

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """InputError where `path` is no run directory, CorruptFileError where it is damaged."""
        lost = [name for name in PLANS if not (path / name).is_file()]
        if lost and (len(lost) < len(PLANS) or checkpoints_in(path)) and (path / SUMS).is_file():
            raise CorruptFileError(
                f"{path} has lost its {lost[0]}: bring it back, or start a new run with "
                f"--init-from {path}"
            )
        if CONFIG in lost:
            raise InputError(f"{path} is no run directory: it has no {CONFIG}; give one of runs/")
        if lost:
            raise InputError(
                f"{path} was made by an earlier version, which kept no {request.FILE}: start a "
                f"new run with --init-from {path}"
            )
        require_as_written(path)
        asked = Request.read(path / request.FILE)
        try:
            config = RunConfig.from_dict(json.loads(content_of(path / CONFIG)))
        except (OSError, InputError, *MALFORMED) as error:
            raise CorruptFileError(f"{path / CONFIG} cannot be read: {error}") from error
        return cls(path, asked, config)

    @functools.cached_property
    def images_seen(self) -> int:
        """Those of the newest whole checkpoint, where none is whole of the newest, and where there
        is none what status.json says."""
        found = checkpoints_in(self.path)
        if not found:
            return read_status(self.path)["images_seen"]
        return int(next(filter(is_whole, found), found[0]).name.split("-")[1])

    @property
    def ended_well(self) -> bool:
        """Whether all was written that is after the last checkpoint: snapshot, grids, figures."""
        return read_status(self.path).get("status") == "done"

    def require_checkpoint(self) -> None:
        """Raise InputError where checkpoints were made and are gone: nothing starts over here.

        CorruptFileError where all that there are are damaged.
        """
        found = checkpoints_in(self.path)
        if found:
            if not any(map(is_whole, found)):
                raise CorruptFileError(f"all {len(found)} checkpoints of {self.path} are damaged")
            return
        snapshots = snapshots_in(self.path)
        # A run that failed before its first checkpoint has seen images and has nothing to lose.
        failed = read_status(self.path).get("status") == "failed"
        seen = (0 if failed else self.images_seen) or max(
            (int(p.stem[9:]) for p in snapshots), default=0
        )
        if seen or snapshots or any(self.path.glob("*.safetensors")):
            start = snapshots[-1] if snapshots else "a snapshot"
            raise InputError(
                f"run {self.path} at {seen:,} images has no checkpoint any more: bring its "
                f"checkpoint-* back, or start a new run, with --init-from {start} or from nothing"
            )

    def is_asked_by(self, asked: Request, digest: str, start: str | None) -> bool:
        """Whether this run was asked for in the same words, and its images and weights are those.

        digest: of the images. start: SHA-256 of the weights to start from, where they are there; of
        a run directory they may have become others since.
        """
        same = all(getattr(asked, n) == getattr(self.request, n) for n in kinds() if n not in FREE)
        known = start in (None, self.config.init_from) or Path(asked.init_from or "").is_dir()
        return same and known and digest == self.config.dataset_digest


def in_force(config: RunConfig) -> dict[str, Any]:
    """What each option that must stay came to be, the digest for the data set."""
    stages, labels, model = config.schedule.stages, config.labels, config.model
    networks = ("resolution", "arch", "latent_dim", "unit_variance", "fmap_base", "fmap_max")
    return {
        "dataset": config.dataset_digest,
        "objective": config.objective["name"],
        "seed": config.seed,
        "init_from": config.init_from,
        **{name: getattr(model, name) for name in (*networks, "encoder_norm", "generator_norm")},
        "grow": len(stages) > 1,
        "size": "{1}x{0}".format(*size_at(config.model.base, config.model.resolution)),
        "start_resolution": stages[0].resolution,
        "settings": (_whole(config.objective), [(s.fading, s.settings) for s in stages]),
        "kimg_per_stage": [(stage.fade_kimg, stage.stable_kimg) for stage in stages[:-1]],
        "attributes": labels.attributes,
        "balance": labels.balance,
        "label_thresholds": (labels.no_below, labels.yes_above),
        "optimizer": config.optimizer,
        "mirror": config.mirror,
        "augment": config.augment,
        "ema_kimg": config.ema_kimg if config.schedule.ema_decay is None else None,
    }


def _whole(objective: Mapping[str, Any]) -> dict[str, Any]:
    """Its settings, the defaults of those included that a run from before them has not."""
    kind = OBJECTIVES.get(objective.get("name", ""))
    return {**(settings_of(kind()) if kind else {}), **objective}


def newest_like(
    outdir: Path,
    asked: Request,
    digest: str,
    start: str | None,
    planned: RunConfig | None,
    say: Callable[[str], None],
) -> Kept | None:
    """The newest run under `outdir` that this request made; None where there is none.

    digest, start: see `Kept.is_asked_by`. planned: the plan of the request; None where it cannot be
    made, as the weights that it starts from are gone. say: told of runs whose plan is damaged.

    Raises InputError, with the options, where the newest of the same data, objective, resolution,
    seed and weights differs in another option; where its images have changed in their place; for a
    run of an earlier version. CorruptFileError where there is none and a damaged one may be it.
    """
    slips: tuple[Kept, list[str]] | None = None
    unread: list[CorruptFileError] = []
    for path in runs_in(outdir):
        try:
            kept = Kept.read(path)
        except CorruptFileError as error:
            say(f"warning: {path} is passed over: {error}")
            if planned is None or path.name.endswith(tail_of(planned)):
                unread.append(error)
            continue
        except InputError:
            if planned and _is_older(path, planned):
                raise
            continue
        if kept.is_asked_by(asked, digest, start):
            return kept
        if planned is None:
            continue
        here, there = in_force(planned), in_force(kept.config)
        found = [name for name in there if there[name] != here[name]]
        if not found:
            return kept
        others = set(found) & set(_IDENTITY)
        same = asked.dataset in (kept.request.dataset, kept.config.dataset)
        grown = others == {"dataset"} and same
        if slips is None and (grown or not others):
            slips = (kept, found)
    if slips is None and unread:
        raise CorruptFileError(f"{unread[0]}; or leave --resume out to start a new run")
    if slips is None:
        return None
    kept, found = slips
    way_on = f"--resume {shlex.quote(str(kept.path))} alone"
    if "dataset" in found:
        raise InputError(
            f"the images, labels or split of {asked.dataset} have changed since {kept.path} began: "
            f"go on with those of before by {way_on}, or leave --resume out to "
            "start a new run"
        )
    raise InputError(
        f"{kept.path} differs in {_told(kept, asked, found)}: give its options, or go on with it "
        f"by {way_on}, or leave --resume out to start a new run"
    )


def fitted_before(outdir: Path, asked: Request, digest: str, start: str | None) -> Request | None:
    """A request to go on, with what its `hours` came to be in the newest run that it made.

    digest, start: see `Kept.is_asked_by`.
    """
    for path in runs_in(outdir) if asked.resume == NEWEST else ():
        with contextlib.suppress(InputError, CorruptFileError):  # told where it is looked for
            kept = Kept.read(path)
            fitted = dataclasses.replace(asked, **kept.request.given(*FITTED))
            if kept.is_asked_by(fitted.recorded(), digest, start):
                return fitted
    return None


def _is_older(path: Path, planned: RunConfig) -> bool:
    """Whether a run directory of an earlier version is for the same run, as far as one can tell."""
    try:
        values = json.loads(content_of(path / CONFIG))
        there = (
            *(values["dataset_digest"], values["objective"]["name"]),
            *(values["model"]["resolution"], values["seed"]),
        )
    except (OSError, *MALFORMED):
        return False
    here = (planned.dataset_digest, planned.objective["name"], planned.model.resolution)
    return there == (*here, planned.seed) and bool(checkpoints_in(path))


def gone_on(
    kept: Kept, asked: Request, digest: str, start: str | None, since: str = ""
) -> tuple[Request, RunConfig, list[str]]:
    """Request and config with which a run goes on, and what is otherwise than before, in words.

    What `asked` leaves open stays as it was. Raises InputError where an option asks for what cannot
    change or what its objective has not, or the images, labels or split are others; since: what is
    known of how they changed.
    """
    merged = _merged(kept, asked)
    check_request(merged)
    if digest != kept.config.dataset_digest:
        digests = f"digest {digest[:16]}, there {kept.config.dataset_digest[:16]}"
        raise InputError(
            f"the images, labels or split of {merged.dataset} are not those of {kept.path} "
            f"({digests}{since and f'; {since}'}): give the same ones with --dataset or "
            f"--data-root, or start a new run with --init-from {kept.path}"
        )
    now = {**in_force(kept.config), **({"init_from": asked.init_from} if start else {})}
    found = [
        name
        for name, value in asked.asked().items()
        if name not in FREE and value not in (getattr(kept.request, name), now.get(name))
    ]
    if start not in (None, kept.config.init_from):
        found.append("init_from")
    if found:
        raise InputError(
            f"{kept.path} cannot change in {_told(kept, merged, found)}: leave that out, or start "
            "a new run"
        )
    total, before = asked.total_kimg, kept.config.schedule.total_kimg
    if total not in (None, before) and total * 1000 < kept.images_seen:
        raise InputError(
            f"--total-kimg {total:g}: {kept.path} is at {kept.images_seen / 1000:g} of {before:g} "
            "kimg already; ask for more, or leave it out"
        )
    config = dataclasses.replace(
        kept.config,
        schedule=kept.config.schedule.changed(asked),
        **asked.given(*_CHANGES),
    )
    changes = [
        f"{option(name)} {spelled(value)} (before: {_value(kept.request, name)})"
        for name, value in asked.asked().items()
        if name != "outdir" and value != getattr(kept.request, name)
    ]
    return merged, config, changes


def _merged(kept: Kept, asked: Request) -> Request:
    """The request of a run that goes on: as it was, with what is asked for now."""
    resolutions = kept.config.schedule.resolutions
    by_stage = {
        name: over(getattr(kept.request, name), getattr(asked, name), resolutions)
        for name in BY_STAGE
    }
    return dataclasses.replace(kept.request, **{**asked.asked(), **by_stage})


def _told(kept: Kept, asked: Request, names: list[str]) -> str:
    """The options in words: what each is in the run, and what was asked for.

    Where the words for these are the same, the options that are in other words made them differ.
    """
    worded = [n for n in kinds() if n not in FREE and getattr(kept.request, n) != getattr(asked, n)]
    if "hours" in worded:
        worded = [name for name in worded if name not in FITTED]  # which come of it
    names = [name for name in names if name in worded] or worded or names
    return ", ".join(
        f"{option(name)} ({_value(kept.request, name)} there, {_value(asked, name)} here)"
        for name in names
    )


def _value(asked: Request, name: str) -> str:
    value = getattr(asked, name)
    return "the default" if value is None else spelled(value)
