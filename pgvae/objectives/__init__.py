"""Objectives: each declares its phases and the losses of each; see docs/objectives.md."""

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pgvae import values
from pgvae.checks import nearest, require
from pgvae.config import from_dict
from pgvae.errors import InputError
from pgvae.objectives import terms
from pgvae.objectives.base import Context, Objective, Phase, Preset
from pgvae.schedule import SCHEDULES, SchedulePreset


def _find(name: str) -> type[Objective]:
    """The objective of that name, in the module of that name."""
    module = importlib.import_module(f"pgvae.objectives.{name}")
    return next(kind for kind in vars(module).values() if getattr(kind, "name", None) == name)


OBJECTIVES: Mapping[str, type[Objective]] = {name: _find(name) for name in values.OBJECTIVES}

__all__ = [
    "OBJECTIVES",
    "Context",
    "Objective",
    "Phase",
    "Preset",
    "objective_class",
    "objective_from",
    "schedule_called",
    "settings_of",
    "terms",
]


def objective_from(settings: Mapping[str, Any]) -> Objective:
    """The objective that `{"name": ..., its weights}` describes; InputError if unknown.

    >>> objective_from({"name": "vae", "beta_kl": 0.5})
    Vae(rec='mse', beta_kl=0.5)
    """
    require("name" in settings, "the objective's settings have no name")
    rest = {key: value for key, value in settings.items() if key != "name"}
    return from_dict(objective_class(settings["name"]), rest, f"{settings['name']} objective")


def objective_class(name: str) -> type[Objective]:
    """The objective called `name`; InputError, with the nearest and all names, if unknown.

    >>> [phase.name for phase in objective_class("pioneer").phases]
    ['encoder', 'generator']
    """
    if name not in OBJECTIVES:
        hint = nearest(name, list(OBJECTIVES))
        known = "" if hint.startswith("known") else f" (known: {', '.join(OBJECTIVES)})"
        raise InputError(f"unknown objective {name!r}: {hint}{known}")
    return OBJECTIVES[name]


def schedule_called(name: str) -> SchedulePreset:
    """The schedule of `SCHEDULES` or of the objective called `name`; InputError if unknown.

    >>> schedule_called("introvae").kimg_per_stage
    5800
    """
    known = {**SCHEDULES, **{kind.name: kind.schedule for kind in OBJECTIVES.values()}}
    require(name in known, f"--schedule {name}: unknown; {nearest(name, [*known])}")
    return known[name]


def settings_of(objective: Objective) -> dict[str, Any]:
    """The inverse of `objective_from`.

    >>> settings_of(objective_from({"name": "vae"}))
    {'name': 'vae', 'rec': 'mse', 'beta_kl': 1.0}
    """
    return {"name": objective.name, **asdict(objective)}
