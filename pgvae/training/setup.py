"""From what a user asked for to the config of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pgvae.config import (
    LabelConfig,
    ModelConfig,
    RunConfig,
    check_resolution,
    from_dict,
    require,
    resolutions_between,
    usual_settings,
)
from pgvae.data import Store
from pgvae.errors import InputError
from pgvae.objectives import Objective, Preset, objective_class, settings_of
from pgvae.schedule import PRESETS, from_preset
from pgvae.snapshot import Snapshot
from pgvae.training.settings import Settings, phase_settings

_MAX_SNAPSHOT_KIMG = 500.0


def check_batch(objective: str, batch: int) -> None:
    """Raise InputError where a batch is too small for the objective."""
    least = objective_class(objective).min_batch
    require(
        batch >= least,
        f"batch size {batch} is too small for {objective}, whose statistics are over the batch: "
        f"use {least} or more",
    )


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
    metric_kimg: float | None = None,
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
    model_config = _model_config(store, final, preset, chosen, label_config, model)
    if initial is not None:
        _check_initial(initial, model_config, label_config)
    if lr is None and model_config.arch != preset.arch:
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
        settings=phase_settings(chosen, settings, resolutions, initial is not None),
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
        metric_kimg=snapshot_kimg if metric_kimg is None else metric_kimg,
        **run,
    )


def _model_config(
    store: Store,
    resolution: int,
    preset: Preset,
    objective: Objective,
    labels: LabelConfig,
    asked: Mapping[str, Any],
) -> ModelConfig:
    """The networks: the architecture's usual ones, as the objective needs them, as asked for."""
    given = {name: value for name, value in asked.items() if value is not None}
    arch = given.get("arch", preset.arch)
    return ModelConfig(
        **{
            "resolution": resolution,
            "channels": store.channels,
            "arch": arch,
            "latent_dim": preset.latent_dim,
            **usual_settings(arch, resolution),
            **objective.model_settings(len(labels.attributes)),
            **given,
        }
    )


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
