"""From what a user asked for to the config of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pgvae.config import (
    ModelConfig,
    RunConfig,
    check_resolution,
    from_dict,
    nearest,
    require,
    resolutions_between,
)
from pgvae.data import Store
from pgvae.errors import InputError
from pgvae.objectives import OBJECTIVES, Objective, settings_of
from pgvae.schedule import PRESETS, from_preset
from pgvae.snapshot import Snapshot

_MAX_SNAPSHOT_KIMG = 500.0


def build_config(
    store: Store,
    *,
    objective: str,
    settings: Mapping[str, Any],
    schedule: str,
    resolution: int | None,
    start_resolution: int | None,
    grow: bool | None,
    model: Mapping[str, Any],
    kimg_per_stage: float | None,
    total_kimg: float | None,
    batch: int | None,
    lr: float | None,
    snapshot_kimg: float | None,
    initial: Snapshot | None,
    **run: Any,
) -> RunConfig:
    """The `RunConfig` for a data set and a user's options; None means the preset's value.

    settings: of the objective. model: of `ModelConfig`. run: of `RunConfig`, as they are.
    Raises InputError for whatever cannot be.
    """
    chosen = _objective(objective, settings)
    final = check_resolution(resolution or store.resolutions[-1])
    require(
        final in store.resolutions,
        f"resolution {final} is above the data's {store.resolutions[-1]}: use "
        f"{store.resolutions[-1]}, or prepare {store.name} again at {final}",
    )
    grows = chosen.grows if grow is None else grow
    first = _first_resolution(final, start_resolution, grows, initial)
    model_config = ModelConfig(
        resolution=final, channels=store.channels, **chosen.model_settings(), **model
    )
    if initial is not None:
        _check_initial(initial, model_config)
    plan = from_preset(
        PRESETS[schedule],
        resolutions_between(first, final),
        kimg_per_stage=kimg_per_stage,
        total_kimg=total_kimg,
        batch_size=batch,
        lr=lr,
        grown_weights=chosen.grown_weights,
    )
    if snapshot_kimg is None:
        snapshot_kimg = min(_MAX_SNAPSHOT_KIMG, plan.total_kimg / 4)
    return RunConfig(
        dataset=store.name,
        dataset_digest=store.digest,
        model=model_config,
        schedule=plan,
        objective=settings_of(chosen),
        betas=chosen.betas,
        snapshot_kimg=snapshot_kimg,
        **run,
    )


def parse_settings(objective: str, texts: tuple[str, ...]) -> dict[str, Any]:
    """("beta_kl=0.5",) -> {"beta_kl": 0.5}, typed by the objective's own fields."""
    require(
        objective in OBJECTIVES,
        f"unknown objective {objective!r}: {nearest(objective, list(OBJECTIVES))}",
    )
    types = {f.name: type(f.default) for f in dataclasses.fields(OBJECTIVES[objective])}
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        require(bool(equals), f"--set {text!r} is not NAME=VALUE")
        require(name in types, f"unknown {objective} setting {name!r}: {nearest(name, [*types])}")
        try:
            values[name] = types[name](value)
        except ValueError as error:
            raise InputError(f"--set {name}: {value!r} is not a number") from error
    _objective(objective, values)  # refuses what is out of range
    return values


def _objective(name: str, settings: Mapping[str, Any]) -> Objective:
    require(name in OBJECTIVES, f"unknown objective {name!r}: {nearest(name, list(OBJECTIVES))}")
    return from_dict(OBJECTIVES[name], settings, f"{name} objective")


def _first_resolution(final: int, start: int | None, grows: bool, initial: Snapshot | None) -> int:
    """Where the run starts: asked for, or the snapshot's stage, or 4 px; final without growth."""
    given = initial.nets.generator.resolution if initial is not None else None
    if not grows:
        require(
            start in (None, final),
            f"--no-grow trains at {final} px alone: leave --start-resolution {start} out",
        )
        start = final
    if start is None:
        start = given or 4
    require(
        check_resolution(start, "start resolution") <= final,
        f"start resolution {start} is above the final resolution {final}: use {final} or less",
    )
    require(
        given is None or given == start,
        f"--init-from is a snapshot at {given} px but the run would start at {start} px: "
        f"use --start-resolution {given} with --grow",
    )
    return start


def _check_initial(initial: Snapshot, wanted: ModelConfig) -> None:
    """Raise InputError with the differing fields unless the snapshot's weights fit."""
    ours, theirs = dataclasses.asdict(wanted), dataclasses.asdict(initial.config)
    differing = [
        f"{name}: {theirs[name]} there, {ours[name]} here"
        for name in ours
        if name != "resolution" and ours[name] != theirs[name]
    ]
    require(not differing, f"--init-from does not fit: {'; '.join(differing)}")
