"""From what a user asked for to the config of a run; nothing here reads or writes a file."""

import dataclasses
from typing import Any

from pgvae.checks import require
from pgvae.config import LabelConfig, ModelConfig, RunConfig, from_dict, usual_settings
from pgvae.data import Store
from pgvae.errors import InputError
from pgvae.objectives import Objective, Preset, objective_class, schedule_called, settings_of
from pgvae.request import Request, kinds
from pgvae.schedule import Schedule, Stage, from_preset
from pgvae.sizes import check_resolution, parse_size, resolutions_between, size_named
from pgvae.snapshot import Snapshot
from pgvae.training.settings import parse_settings
from pgvae.training.steering import LEAST_UNSEEN
from pgvae.values import option

_MAX_SNAPSHOT_KIMG = 500.0
_MODEL = (
    *("arch", "encoder_norm", "generator_norm", "latent_dim", "unit_variance"),
    *("fmap_base", "fmap_max"),
)
# What a snapshot that a run starts from decides about its networks.
_WITH_WEIGHTS = (*_MODEL, "order", "last_activation")
_RUN = (
    *("seed", "mirror", "augment", "precision", "ema_kimg"),
    *("snapshot_kimg", "keep_snapshots", "metrics", "metric_kimg"),
)


@dataclasses.dataclass(frozen=True)
class Initial:
    """Weights that a run starts from, and the SHA-256 of their file."""

    snapshot: Snapshot
    sha256: str


def plan(request: Request, store: Store, initial: Initial | None = None) -> RunConfig:
    """The `RunConfig` of a new run on a data set; None in a request means the preset's value.

    Raises InputError for whatever cannot be.
    """
    check_request(request)
    kind = objective_class(request.objective or "pioneer")
    final = _final_resolution(request, store)
    preset = kind.preset(final)
    _require_once(request.settings or ())
    everywhere, by_stage = parse_settings(kind, request.settings or ())
    objective = from_dict(kind, {**preset.settings, **everywhere}, f"{kind.name} objective")
    labels = _labels(request, store, kind)
    if request.augment:
        _require_augmentable(objective, final, store)
    start = initial.snapshot if initial else None
    resolutions = resolutions_between(_first_resolution(request, objective, final, start), final)
    model = _model(request, store, final, preset, objective, labels, start)
    schedule = _with_settings(
        _schedule(request, objective, preset, model, resolutions),
        objective,
        everywhere,
        by_stage,
        grew=initial is not None,
    )
    require_batch(kind, min(stage.batch_size for stage in schedule.stages))
    usual = min(_MAX_SNAPSHOT_KIMG, schedule.total_kimg / 4)
    often = request.snapshot_kimg or usual
    return RunConfig(
        dataset=store.name,
        dataset_digest=store.digest,
        model=model,
        schedule=schedule,
        objective=settings_of(objective),
        labels=labels,
        optimizer=request.optimizer or objective.optimizer,
        betas=objective.betas,
        init_from=initial.sha256 if initial else None,
        **{"snapshot_kimg": often, "metric_kimg": often, **request.given(*_RUN)},
    )


def check_request(request: Request) -> None:
    """Raise InputError for what no data set can make right: what the objective has not.

    Of a new request, and of one that a run goes on with: its settings, batch and pre-training.
    """
    kind = objective_class(request.objective or "pioneer")
    parse_settings(kind, request.settings or ())
    for batch in request.values_of("batch"):
        require_batch(kind, batch)
    require(
        not request.pretrain_kimg or kind.pretraining is not None,
        f"--pretrain-kimg {request.pretrain_kimg}: {kind.name} is not pre-trained; leave it out",
    )


def _require_once(settings: tuple[str, ...]) -> None:
    """Raise InputError where a setting is given twice, as the first would not count."""
    names = [text.partition("=")[0] for text in settings]
    for text, name in zip(settings, names, strict=True):
        require(names.count(name) == 1, f"--set {text}: {name} is given twice; leave one out")


def require_batch(kind: type[Objective], batch: int) -> None:
    """Raise InputError where a batch is too small for the objective."""
    require(
        batch >= kind.min_batch,
        f"--batch {batch} is too small for {kind.name}, whose statistics are over the batch: "
        f"use {kind.min_batch} or more",
    )


def _require_augmentable(objective: Objective, final: int, store: Store) -> None:
    require(
        objective.plays_at(final),
        f"--augment: {objective.name} as it is set has no critic that could learn images by heart; "
        "leave it out",
    )
    unseen = len(store.split("val"))
    require(
        unseen >= LEAST_UNSEEN,
        f"--augment goes by held-out images, and {store.name} has {unseen}: prepare it with a "
        f"--val-fraction that leaves {LEAST_UNSEEN} or more, or leave it out",
    )


def _final_resolution(request: Request, store: Store) -> int:
    most = store.resolutions[-1]
    final = check_resolution(request.resolution or most)
    require(
        final in store.resolutions,
        f"--resolution {final} is above the data's {most}: use {most}, or prepare {store.name} "
        f"again at {final}",
    )
    require(
        request.size is None or parse_size(request.size)[1] == store.base,
        f"--size {request.size} has not the ratio of {store.name}, {store.size} px: leave it out, "
        "or prepare another set with it",
    )
    return final


def _schedule(
    request: Request,
    objective: Objective,
    preset: Preset,
    model: ModelConfig,
    resolutions: tuple[int, ...],
) -> Schedule:
    lengths = schedule_called(request.schedule) if request.schedule else objective.schedule
    missing = lengths.settings.keys() - settings_of(objective).keys()
    require(
        not missing,
        f"--schedule {request.schedule} sets {', '.join(missing)}, which {objective.name} has not: "
        "use another, or leave it out",
    )
    if model.arch != preset.arch:
        # The paper's rate is for other networks: normalised weights want larger steps.
        normalised = model.generator_norm in ("pixel", "spectral")
        lengths = lengths.at_rate(1e-3 if normalised else 2e-4)
    if objective.pretraining is None:
        lengths = dataclasses.replace(lengths, pretrain_share=0.0)
    return from_preset(lengths, resolutions, request)


def _model(
    request: Request,
    store: Store,
    resolution: int,
    preset: Preset,
    objective: Objective,
    labels: LabelConfig,
    start: Snapshot | None,
) -> ModelConfig:
    """The networks: the architecture's usual ones, as the objective needs them, as the weights
    that they start from need them, as asked for."""
    given = request.given(*_MODEL)
    if start is not None:
        given = {**{name: getattr(start.config, name) for name in _WITH_WEIGHTS}, **given}
    arch = given.get("arch", preset.arch)
    model = ModelConfig(
        **{
            "resolution": resolution,
            "channels": store.channels,
            "base": store.base,
            "arch": arch,
            "latent_dim": preset.latent_dim,
            **usual_settings(arch, resolution),
            **objective.model_settings(len(labels.attributes)),
            **given,
        }
    )
    if start is not None:
        _require_fitting(start, model, labels)
    return model


def _labels(request: Request, store: Store, objective: type[Objective]) -> LabelConfig:
    """The labels of the run; InputError where the objective cannot learn from them."""
    chosen: dict[str, Any] = request.given("attributes", "balance")
    require(
        objective.needs_labels or "attributes" not in chosen or len(store.attributes) == 0,
        f"--attributes: {objective.name} does not learn labels; leave it out",
    )
    usual = (LabelConfig.no_below, LabelConfig.yes_above)
    require(
        objective.needs_labels or "balance" in chosen or request.label_thresholds in (None, usual),
        f"--label-thresholds: {objective.name} does not learn labels; leave it out",
    )
    asked = [f"--{name} {','.join(values)}" for name, values in chosen.items()]
    who = f"objective {objective.name}" if objective.needs_labels else " and ".join(asked)
    require(
        len(store.attributes) > 0 or not who,
        f"{who} needs labels and {store.name} has none: prepare it with --labels, or leave it out",
    )
    if request.label_thresholds:
        chosen |= dict(zip(("no_below", "yes_above"), request.label_thresholds, strict=True))
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


def _first_resolution(
    request: Request, objective: Objective, final: int, start: Snapshot | None
) -> int:
    """Where the run starts: asked for, or the snapshot's stage, or 4 px; final without growth."""
    asked, given = request.start_resolution, start.nets.generator.resolution if start else None
    require(
        given is None or given <= final,
        f"--init-from is a snapshot at {given} px, above the final resolution {final}: networks do "
        f"not shrink; use --resolution {given} or more, or a snapshot from an earlier stage",
    )
    if not (objective.grows if request.grow is None else request.grow):
        require(
            asked in (None, final),
            f"--no-grow trains at {final} px alone: leave --start-resolution {asked} out",
        )
        asked = final
    first = asked or given or 4
    require(
        first <= final,
        f"--start-resolution {first} is above the final resolution {final}: use {final} or less",
    )
    require(
        given in (None, first),
        f"--init-from is a snapshot at {given} px but the run would start at {first} px: "
        f"use --start-resolution {given} with --grow",
    )
    return first


def _require_fitting(start: Snapshot, wanted: ModelConfig, labels: LabelConfig) -> None:
    """Raise InputError with the differing fields unless the snapshot's weights fit."""
    there, here = (size_named(c.base, c.resolution) for c in (start.config, wanted))
    require(
        start.config.base == wanted.base,
        f"--init-from is of images of {there} px, and those here are of {here} px: networks keep "
        "the ratio; prepare the data in it, or leave --init-from out",
    )
    ours, theirs = dataclasses.asdict(wanted), dataclasses.asdict(start.config)
    differing = [
        f"{option(name) if name in kinds() else name} ({theirs[name]} there, {ours[name]} here)"
        for name in ours
        if ours[name] != theirs[name] and (name != "resolution" or wanted.arch == "residual")
    ]
    if wanted.classes and start.attributes != labels.attributes:
        there, here = (", ".join(names) for names in (start.attributes, labels.attributes))
        differing.append(f"--attributes ({there} there, {here} here)")
    require(not differing, f"--init-from does not fit: {', '.join(differing)}")


def _with_settings(
    schedule: Schedule,
    objective: Objective,
    everywhere: dict[str, Any],
    by_stage: dict[int, dict[str, Any]],
    grew: bool,
) -> Schedule:
    """The schedule with the objective's own settings by stage in the place of the preset's, and
    what the user asked for in the place of both.

    grew: whether the networks come from an earlier run.
    """
    for resolution in by_stage:
        require(
            resolution in schedule.resolutions,
            f"--set ...@{resolution}: the run's resolutions are "
            f"{', '.join(map(str, schedule.resolutions))}",
        )

    def settings(stage: Stage, faded: bool) -> dict[str, Any]:
        asked = by_stage.get(stage.resolution, {})
        is_last = stage is schedule.stages[-1]
        grown = faded and is_last and (grew or len(schedule.stages) > 1)
        own = objective.stage_settings(stage.resolution, faded=faded, grown=grown)
        own = {**(stage.settings if faded else {}), **own}
        found = {**{name: v for name, v in own.items() if name not in everywhere}, **asked}
        there = dataclasses.replace(objective, **found).model_settings()
        require(
            there == objective.model_settings(),
            f"--set {', '.join(asked)}@{stage.resolution}: networks are built for one value of it; "
            "leave the @ out",
        )
        return found

    stages = (
        dataclasses.replace(
            stage,
            fading=settings(stage, False) if stage.fade_kimg else {},
            settings=settings(stage, True),
        )
        for stage in schedule.stages
    )
    return dataclasses.replace(schedule, stages=tuple(stages))
