"""From what a user asked for to the config of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from pgvae.config import (
    LabelConfig,
    ModelConfig,
    RunConfig,
    check_resolution,
    from_dict,
    nearest,
    require,
    resolutions_between,
    usual_settings,
)
from pgvae.data import Store
from pgvae.errors import InputError
from pgvae.objectives import Objective, objective_class, settings_of
from pgvae.schedule import PRESETS, from_preset
from pgvae.snapshot import Snapshot

_MAX_SNAPSHOT_KIMG = 500.0


def check_batch(objective: str, batch: int) -> None:
    """Raise InputError where a batch is too small for the objective."""
    least = objective_class(objective).min_batch
    require(
        batch >= least,
        f"batch size {batch} is too small for {objective}, whose statistics are over the batch: "
        f"use {least} or more",
    )


class Settings(NamedTuple):
    """What `--set` said: settings of the objective, and those of one resolution's stage."""

    everywhere: dict[str, Any]
    at: dict[int, dict[str, Any]]


def build_config(
    store: Store,
    *,
    objective: str,
    settings: Settings,
    schedule: str | None,
    resolution: int | None,
    start_resolution: int | None,
    grow: bool | None,
    model: Mapping[str, Any],
    labels: Mapping[str, Any],
    kimg_per_stage: float | None,
    total_kimg: float | None,
    pretrain_kimg: float | None,
    lr_milestones: tuple[float, ...] | None,
    batch: int | None,
    lr: float | None,
    snapshot_kimg: float | None,
    initial: Snapshot | None,
    **run: Any,
) -> RunConfig:
    """The `RunConfig` for a data set and a user's options; None means the preset's value.

    model: of `ModelConfig`. labels: of `LabelConfig`. run: of `RunConfig`, as they are.
    Raises InputError for whatever cannot be.
    """
    kind = objective_class(objective)
    final = check_resolution(resolution or store.resolutions[-1])
    require(
        final in store.resolutions,
        f"resolution {final} is above the data's {store.resolutions[-1]}: use "
        f"{store.resolutions[-1]}, or prepare {store.name} again at {final}",
    )
    preset = kind.preset(final)
    chosen = from_dict(kind, {**preset.settings, **settings.everywhere}, f"{objective} objective")
    label_config = _labels(store, kind, {k: v for k, v in labels.items() if v is not None})
    grows = chosen.grows if grow is None else grow
    resolutions = resolutions_between(
        _first_resolution(final, start_resolution, grows, initial), final
    )
    asked = {name: value for name, value in model.items() if value is not None}
    arch = asked.get("arch", preset.arch)
    model_config = ModelConfig(
        **{
            "resolution": final,
            "channels": store.channels,
            "arch": arch,
            "latent_dim": preset.latent_dim,
            **usual_settings(arch, final),
            **chosen.model_settings(len(label_config.attributes)),
            **asked,
        }
    )
    if initial is not None:
        _check_initial(initial, model_config, label_config)
    if lr is None and arch != preset.arch:
        # The preset's rate is for other networks: normalised weights want larger steps.
        lr = 1e-3 if model_config.generator_norm in ("pixel", "spectral") else 2e-4
    require(
        chosen.pretraining is not None or not pretrain_kimg,
        f"--pretrain-kimg {pretrain_kimg}: {objective} is not pre-trained; leave it out",
    )
    plan = from_preset(
        PRESETS[schedule or chosen.schedule],
        resolutions,
        kimg_per_stage=kimg_per_stage,
        total_kimg=total_kimg,
        batch_size=batch,
        lr=lr,
        pretrain_kimg=pretrain_kimg if chosen.pretraining else 0.0,
        milestones_kimg=lr_milestones,
        settings=_phase_settings(chosen, settings, resolutions, initial is not None),
    )
    check_batch(objective, min(plan.batch_sizes))
    if snapshot_kimg is None:
        snapshot_kimg = min(_MAX_SNAPSHOT_KIMG, plan.total_kimg / 4)
    return RunConfig(
        dataset=store.name,
        dataset_digest=store.digest,
        model=model_config,
        schedule=plan,
        objective=settings_of(chosen),
        labels=label_config,
        betas=chosen.betas,
        snapshot_kimg=snapshot_kimg,
        **run,
    )


def parse_settings(objective: str, texts: tuple[str, ...]) -> Settings:
    """("beta_kl=0.5", "margin@64=0.1") -> settings, typed by the objective's own fields."""
    kind = objective_class(objective)
    types = {f.name: type(f.default) for f in dataclasses.fields(kind)}
    found = Settings({}, {})
    for text in texts:
        target, equals, value = text.partition("=")
        name, at, stage = target.partition("@")
        require(bool(equals), f"--set {text!r} is not NAME=VALUE")
        require(name in types, f"unknown {objective} setting {name!r}: {nearest(name, [*types])}")
        require(
            not at or (stage.isascii() and stage.isdecimal() and len(stage) <= 4),
            f"--set {text!r}: after @ goes a resolution",
        )
        try:
            typed = types[name](value)
        except ValueError as error:
            raise InputError(f"--set {name}: {value!r} is not a number") from error
        kind(**{name: typed})  # refuses what is out of range
        stage_settings = found.at.setdefault(int(stage), {}) if at else found.everywhere
        stage_settings[name] = typed
    return found


def _labels(store: Store, objective: type[Objective], chosen: Mapping[str, Any]) -> LabelConfig:
    """The labels of the run; InputError where the objective cannot learn from them."""
    require(
        objective.needs_labels or "attributes" not in chosen or len(store.attributes) == 0,
        f"--attributes: {objective.name} does not learn labels; leave it out",
    )
    asked = [f"--{n} {','.join(chosen[n])}" for n in ("attributes", "balance") if n in chosen]
    who = f"objective {objective.name}" if objective.needs_labels else " and ".join(asked)
    require(
        len(store.attributes) > 0 or not who,
        f"{who} needs labels and {store.name} has none: prepare it with --labels, or leave it out",
    )
    labels = LabelConfig(**{"attributes": store.attributes, **chosen})
    said = store.said(labels)[store.split("train")]
    for name in labels.attributes if objective.needs_labels else labels.balance:
        column = said[:, labels.attributes.index(name)]
        if not ((column == 0).any() and (column == 1).any()):
            raise InputError(
                f"label {name!r} does not say both yes and no in the training images of "
                f"{store.name}: leave it out with --attributes, or change --label-thresholds"
            )
    return labels


def _phase_settings(
    objective: Objective, asked: Settings, resolutions: tuple[int, ...], grew: bool
) -> tuple[Mapping[str, Any], ...]:
    """`Schedule.settings`: the objective's own by stage, then what the user asked for.

    grew: whether the networks come from an earlier run.
    """
    for resolution in asked.at:
        require(
            resolution in resolutions,
            f"--set ...@{resolution}: the run's resolutions are {', '.join(map(str, resolutions))}",
        )
    last = len(resolutions) - 1
    phases = []
    for index, resolution in enumerate(resolutions):
        for faded in (False, True) if index else (True,):
            grown = faded and index == last and (grew or last > 0)
            own = objective.stage_settings(resolution, faded=faded, grown=grown)
            kept = {name: v for name, v in own.items() if name not in asked.everywhere}
            phases.append({**kept, **asked.at.get(resolution, {})})
            there = dataclasses.replace(objective, **phases[-1]).model_settings()
            require(
                there == objective.model_settings(),
                f"--set {', '.join(asked.at.get(resolution, {}))}@{resolution}: networks are built "
                "for one value of it; leave the @ out",
            )
    return tuple(phases) if any(phases) else ()


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


def _check_initial(initial: Snapshot, wanted: ModelConfig, labels: LabelConfig) -> None:
    """Raise InputError with the differing fields unless the snapshot's weights fit."""
    ours, theirs = dataclasses.asdict(wanted), dataclasses.asdict(initial.config)
    differing = [
        f"{name}: {theirs[name]} there, {ours[name]} here"
        for name in ours
        if ours[name] != theirs[name] and (name != "resolution" or wanted.arch == "residual")
    ]
    if wanted.classes and initial.attributes != labels.attributes:
        there, here = (", ".join(names) for names in (initial.attributes, labels.attributes))
        differing.append(f"attributes: {there} there, {here} here")
    require(not differing, f"--init-from does not fit: {'; '.join(differing)}")
