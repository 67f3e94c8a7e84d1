"""The command that repeats a run: options of train.py from its config, as few as will do."""

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgvae.config import ModelConfig, RunConfig, usual_settings
from pgvae.objectives import Objective, objective_from
from pgvae.schedule import PRESETS, Schedule, from_preset

_MODEL_OPTIONS = ("arch", "encoder_norm", "generator_norm", "latent_dim", "fmap_base", "fmap_max")
_MAX_SNAPSHOT_KIMG = 500.0
# Of `RunConfig`: what an option sets; what follows from the data, the objective or other options.
_RUN_OPTIONS = ("seed", "precision", "ema_kimg")
_ACCOUNTED = frozenset(
    {
        *("dataset", "dataset_digest", "model", "schedule", "objective", "labels", "mirror"),
        *("betas", "snapshot_kimg", "metrics", "metric_kimg", "init_from", *_RUN_OPTIONS),
    }
)


@dataclass(frozen=True)
class Command:
    """Words after `python train.py`, and what they do not repeat.

    missing: settings of the run that no option gives, or whose value is not recorded in full.
    """

    words: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def shell_words(self) -> list[str]:
        """The words of the whole command, each quoted for a shell."""
        return [shlex.quote(word) for word in ("python", "train.py", *self.words)]


def command_of(config: RunConfig) -> Command:
    """The command that makes a run with this config; InputError for an unknown objective.

    Where options differ from what they are by default, the line has them.
    """
    objective = objective_from(config.objective)
    words = ["--dataset", config.dataset, "--objective", objective.name]
    words += ["--resolution", str(config.model.resolution)]
    words += _growth(config.schedule.resolutions, objective, config.init_from is not None)
    missing: list[str] = []
    for more, lost in (
        _settings(config, objective),
        _model(config, objective),
        _schedule(config, objective),
        _labels(config, objective),
        _run(config, objective),
    ):
        words += more
        missing += lost
    return Command(tuple(words), tuple(missing))


Part = tuple[list[str], list[str]]  # words of the command, and what they do not repeat


def _growth(resolutions: tuple[int, ...], objective: Objective, continued: bool) -> list[str]:
    if len(resolutions) == 1:
        return ["--no-grow"] if objective.grows else []
    words = [] if objective.grows else ["--grow"]
    start = resolutions[0]
    return words if start == 4 and not continued else [*words, "--start-resolution", str(start)]


def _settings(config: RunConfig, objective: Objective) -> Part:
    """--set, for all stages where a setting is not the preset's, and for one where it is not."""
    preset = objective.preset(config.model.resolution).settings
    usual = {**dataclasses.asdict(type(objective)()), **preset}
    chosen = {n: v for n, v in dataclasses.asdict(objective).items() if v != usual[n]}
    own = _own_phases(config, objective)
    found = config.schedule.settings or ({},) * len(own)
    for (_, settings), there in zip(own, found, strict=True):
        # Only a setting that was asked for has one value where the objective has several.
        chosen |= {n: getattr(objective, n) for n in settings if n not in there}
    at: dict[int, dict[str, Any]] = {}
    for (resolution, settings), there in zip(own, found, strict=True):
        for name, value in there.items():
            if name in chosen or settings.get(name) != value:
                at.setdefault(resolution, {})[name] = value
    words = [f"{name}={_text(value)}" for name, value in chosen.items()]
    words += [f"{n}@{r}={_text(v)}" for r, settings in at.items() for n, v in settings.items()]
    again = [
        {**{n: v for n, v in settings.items() if n not in chosen}, **at.get(resolution, {})}
        for resolution, settings in own
    ]
    exact = again == [dict(there) for there in found]
    lost = [] if exact else ["settings that differ between a fade and the rest of its stage"]
    return [word for setting in words for word in ("--set", setting)], lost


def _own_phases(config: RunConfig, objective: Objective) -> list[tuple[int, Mapping[str, Any]]]:
    """Resolution and the objective's own settings of the first stage and each fade and stay."""
    resolutions = config.schedule.resolutions
    last = len(resolutions) - 1
    grew = last > 0 or config.init_from is not None
    return [
        (r, objective.stage_settings(r, faded=faded, grown=faded and index == last and grew))
        for index, r in enumerate(resolutions)
        for faded in ((False, True) if index else (True,))
    ]


def _model(config: RunConfig, objective: Objective) -> Part:
    """Options of the networks that are not the architecture's and the objective's own."""
    model, preset = config.model, objective.preset(config.model.resolution)
    usual = {
        **dataclasses.asdict(ModelConfig(model.arch, model.resolution, model.channels)),
        "latent_dim": preset.latent_dim,
        **usual_settings(model.arch, model.resolution),
        **objective.model_settings(len(config.labels.attributes)),
        "arch": preset.arch,
    }
    found = dataclasses.asdict(model)
    differing = [name for name in found if found[name] != usual[name]]
    words = [
        word
        for name in differing
        if name in _MODEL_OPTIONS
        for word in (_option(name), _text(found[name]))
    ]
    return words, [f"{n} {found[n]}" for n in differing if n not in _MODEL_OPTIONS]


def _schedule(config: RunConfig, objective: Objective) -> Part:
    """Stage lengths, batch sizes and rates: by the preset that needs the fewest options."""
    tried = [_from_preset(name, config, objective) for name in PRESETS]
    return min(tried, key=lambda part: (len(part[1]), len(part[0])))


def _from_preset(name: str, config: RunConfig, objective: Objective) -> Part:
    wanted, preset = config.schedule, PRESETS[name]
    options: dict[str, Any] = {}
    if wanted.fade_kimg + wanted.stable_kimg != preset.kimg_per_stage:
        options["kimg_per_stage"] = wanted.fade_kimg + wanted.stable_kimg
    usual_lr = _usual_lr(config, objective)

    def made() -> Schedule:
        return from_preset(preset, wanted.resolutions, **{"lr": usual_lr, **options})

    if made().total_kimg != wanted.total_kimg:
        options["total_kimg"] = wanted.total_kimg
    plan = made()
    # An option has one value for all stages; where they differ as no preset has it, none will do.
    if plan.batch_sizes != wanted.batch_sizes:
        options["batch_size"] = wanted.batch_sizes[0]
    if plan.learning_rates != wanted.learning_rates:
        options["lr"] = wanted.learning_rates[0]
    pretrained = objective.pretraining is not None
    if pretrained and plan.pretrain_kimg != wanted.pretrain_kimg:
        options["pretrain_kimg"] = wanted.pretrain_kimg
    if plan.milestones_kimg != wanted.milestones_kimg and wanted.milestones_kimg:
        options["milestones_kimg"] = wanted.milestones_kimg
    plan = made() if pretrained else dataclasses.replace(made(), pretrain_kimg=0.0)
    words = [] if name == objective.schedule else ["--schedule", name]
    for option, value in options.items():
        words += [_option(option), _listed(value) if isinstance(value, tuple) else _text(value)]
    return words, _differences(plan, wanted)


def _usual_lr(config: RunConfig, objective: Objective) -> float | None:
    """The rate for networks that are not the preset's; None: the schedule's."""
    if config.model.arch == objective.preset(config.model.resolution).arch:
        return None
    return 1e-3 if config.model.generator_norm in ("pixel", "spectral") else 2e-4


def _differences(plan: Schedule, wanted: Schedule) -> list[str]:
    """Fields of a schedule that are not what the options give, with their values."""
    return [
        f"{field.name} {_listed(there) if isinstance(there, tuple) else _text(there)}"
        for field in dataclasses.fields(Schedule)
        if field.name != "settings"
        and (there := getattr(wanted, field.name)) != getattr(plan, field.name)
        and not (field.name == "anneal_kimg" and there in (0, wanted.total_kimg))
    ]


def _labels(config: RunConfig, objective: Objective) -> Part:
    labels = config.labels
    words = []
    if objective.needs_labels and labels.attributes:
        words += ["--attributes", ",".join(labels.attributes)]
    if (labels.no_below, labels.yes_above) != (0.5, 0.5):
        words += ["--label-thresholds", _listed((labels.no_below, labels.yes_above))]
    if labels.balance:
        words += ["--balance", ",".join(labels.balance)]
    return words, []


def _run(config: RunConfig, objective: Objective) -> Part:
    usual = {f.name: f.default for f in dataclasses.fields(RunConfig)}
    words = ["--mirror"] if config.mirror else []
    for name in _RUN_OPTIONS:
        if getattr(config, name) != usual[name]:
            words += [_option(name), _text(getattr(config, name))]
    if config.snapshot_kimg != min(_MAX_SNAPSHOT_KIMG, config.schedule.total_kimg / 4):
        words += ["--snapshot-kimg", _text(config.snapshot_kimg)]
    if config.metrics:
        words += ["--metrics", ",".join(config.metrics)]
        if config.metric_kimg != config.snapshot_kimg:
            words += ["--metric-kimg", _text(config.metric_kimg)]
    missing = []
    if config.init_from is not None:
        words += ["--init-from", config.init_from]
        missing.append(f"the folder and the contents of {config.init_from}")
    if config.betas != objective.betas:
        missing.append(f"betas {_listed(config.betas)}")
    missing += [
        f"{name} {getattr(config, name)}"
        for name, value in usual.items()
        if name not in _ACCOUNTED and getattr(config, name) != value
    ]
    return words, missing


def _option(name: str) -> str:
    """What train.py calls a setting."""
    renamed = {"batch_size": "batch", "milestones_kimg": "lr_milestones"}
    return f"--{renamed.get(name, name).replace('_', '-')}"


def _listed(values: tuple[Any, ...]) -> str:
    return ",".join(map(_text, values))


def _text(value: object) -> str:
    """A value as an option takes it: 6 for 6.0."""
    return str(value).removesuffix(".0")
