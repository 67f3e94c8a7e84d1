"""What each option of training may be: its name, its choices and its bounds."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pgvae.checks import nearest
from pgvae.choices import MOST_SEED, TrackerKind
from pgvae.config import Arch, EncoderNorm, GeneratorNorm, OptimizerKind, Precision
from pgvae.errors import InputError
from pgvae.sizes import check_resolution

OBJECTIVES = (  # each the name of its module in pgvae/objectives
    *("pioneer", "balanced_pioneer", "age", "ae", "vae"),
    *("introvae", "soft_introvae", "as_introvae", "vac", "introvac", "rivae"),
    *("pggan", "ali"),
)
_CHOICES = {
    "objective": OBJECTIVES,
    "arch": get_args(Arch),
    "encoder_norm": get_args(EncoderNorm),
    "generator_norm": get_args(GeneratorNorm),
    "precision": get_args(Precision),
    "optimizer": get_args(OptimizerKind),
    "tracker": get_args(TrackerKind),
}
_METAVARS = {
    **{name: "|".join(choices) for name, choices in _CHOICES.items()},
    **dict.fromkeys(("resolution", "start_resolution"), "R"),
    **dict.fromkeys(("kimg_per_stage", "total_kimg", "pretrain_kimg"), "K"),
    **dict.fromkeys(("ema_kimg", "snapshot_kimg", "metric_kimg"), "K"),
    **dict.fromkeys(("attributes", "balance", "metrics"), "NAME,..."),
    "dataset": "NAME|PATH",
    "size": "WxH",
    "settings": "NAME=VALUE",
    "batch": "N|R:N,...",
    "lr": "X|R:X,...",
    **dict.fromkeys(("batch_gpu", "keep_snapshots"), "N"),
    **dict.fromkeys(("hours", "max_hours"), "H"),
    "lr_milestones": "K,K,...",
    "label_thresholds": "LOW,HIGH",
    "device": "auto|cpu|cuda[:I]|mps",
    "resume": "[RUN]",
    "init_from": "PATH",
    "inception_weights": "FILE",
}
BY_STAGE = ("batch", "lr")  # one value, or one of each resolution that is named
_POSITIVE = frozenset(
    {
        *("kimg_per_stage", "total_kimg", "lr", "lr_milestones"),
        *("ema_kimg", "snapshot_kimg", "metric_kimg", "hours", "max_hours"),
    }
)
_LEAST = {
    **dict.fromkeys(("seed", "workers", "pretrain_kimg"), 0),
    **dict.fromkeys(("batch", "batch_gpu", "fmap_base", "fmap_max", "keep_snapshots"), 1),
    "latent_dim": 2,
}
_MOST: dict[str, float] = {  # far beyond what any machine holds, or what any run counts
    **dict.fromkeys(("batch", "batch_gpu", "latent_dim", "fmap_max"), 2**16),
    **dict.fromkeys(("fmap_base", "keep_snapshots"), 2**30),
    "workers": 2**10,
    **dict.fromkeys(("kimg_per_stage", "total_kimg", "pretrain_kimg", "lr_milestones"), 1e9),
    **dict.fromkeys(("ema_kimg", "snapshot_kimg", "metric_kimg", "hours", "max_hours"), 1e9),
    "seed": MOST_SEED,
}
_RENAMED = {"settings": "--set"}


def option(name: str) -> str:
    """What the command line calls a field: "lr_milestones" -> "--lr-milestones"."""
    return _RENAMED.get(name) or f"--{name.replace('_', '-')}"


def metavar(name: str) -> str | None:
    """What the help shows in the place of an option's value; None: its type."""
    return _METAVARS.get(name)


def items_of(value: Any) -> tuple[Any, ...]:
    """The single values of an option."""
    if isinstance(value, Mapping):
        return tuple(value.values())
    return value if isinstance(value, tuple) else (value,)


def typed(name: str, kind: Any, value: Any) -> Any:
    """`value` as its option holds it; InputError for one of another type."""
    if name in BY_STAGE and isinstance(value, Mapping) and value:
        return {_stage(name, stage): typed(name, kind, item) for stage, item in value.items()}
    if get_origin(kind) is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise InputError(f"{option(name)} {value!r}: give a tuple")
        return tuple(typed(name, get_args(kind)[0], item) for item in value)
    if kind is str and isinstance(value, Path):
        return str(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(f"{option(name)} {value!r}: give a value of type {kind.__name__}")
    return value


def _stage(name: str, stage: Any) -> int:
    """A resolution that an option speaks of; JSON has it as text."""
    if not re.fullmatch(r"\d{1,9}", str(stage)):
        raise InputError(f"{option(name)} {stage}: name a resolution, such as 64")
    return check_resolution(int(stage), f"{option(name)} at resolution")


def wrong_with(name: str, value: Any) -> str | None:
    """What is wrong with a value of an option; None where nothing is."""
    if value == "":
        return "it is empty: give a value, or leave it out"
    if name in _CHOICES and value not in _CHOICES[name]:
        hint = nearest(value, [*_CHOICES[name]])
        known = "" if hint.startswith("known") else f" (known: {', '.join(_CHOICES[name])})"
        return f"unknown; {hint}{known}"
    if name in ("resolution", "start_resolution"):
        try:
            check_resolution(value)
        except InputError as error:
            return str(error).partition(" is ")[2]
    if name == "device" and not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        return "use auto, cpu, mps or cuda:I"
    if isinstance(value, float) and not math.isfinite(value):
        return "use a finite number"
    if name in _POSITIVE and value <= 0:
        return "use a positive number"
    if name in _LEAST and value < _LEAST[name]:
        return f"use {_LEAST[name]} or more"
    if name in _MOST and value > _MOST[name]:
        return f"use {int(_MOST[name])} at most"
    return None


def spelled(value: Any) -> str:
    """A value as the command line takes it: 6 for 6.0, a,b for a list."""
    if isinstance(value, tuple):
        return ",".join(map(spelled, value)) or "none"
    if isinstance(value, Mapping):
        return ",".join(f"{stage}:{spelled(item)}" for stage, item in value.items())
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
