"""Objectives: each declares its phases and the losses of each; see docs/objectives.md."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pgvae.config import from_dict, nearest, require
from pgvae.errors import InputError
from pgvae.objectives import terms
from pgvae.objectives.ae import Ae
from pgvae.objectives.age import Age
from pgvae.objectives.as_introvae import AsIntroVae
from pgvae.objectives.balanced_pioneer import BalancedPioneer
from pgvae.objectives.base import Context, Objective, Phase, Preset
from pgvae.objectives.introvac import IntroVac
from pgvae.objectives.introvae import IntroVae
from pgvae.objectives.pioneer import Pioneer
from pgvae.objectives.soft_introvae import SoftIntroVae
from pgvae.objectives.vac import Vac
from pgvae.objectives.vae import Vae

OBJECTIVES: Mapping[str, type[Objective]] = {
    objective.name: objective
    for objective in (
        Pioneer,
        BalancedPioneer,
        Age,
        Ae,
        Vae,
        IntroVae,
        SoftIntroVae,
        AsIntroVae,
        Vac,
        IntroVac,
    )
}

__all__ = [
    "OBJECTIVES",
    "Context",
    "Objective",
    "Phase",
    "Preset",
    "objective_class",
    "objective_from",
    "settings_of",
    "terms",
]


def objective_from(settings: Mapping[str, Any]) -> Objective:
    """The objective that `{"name": ..., its weights}` describes; InputError if unknown."""
    require("name" in settings, "the objective's settings have no name")
    rest = {key: value for key, value in settings.items() if key != "name"}
    return from_dict(objective_class(settings["name"]), rest, f"{settings['name']} objective")


def objective_class(name: str) -> type[Objective]:
    """The objective called `name`; InputError, with the nearest and all names, if unknown."""
    if name not in OBJECTIVES:
        hint = nearest(name, list(OBJECTIVES))
        known = "" if hint.startswith("known") else f" (known: {', '.join(OBJECTIVES)})"
        raise InputError(f"unknown objective {name!r}: {hint}{known}")
    return OBJECTIVES[name]


def settings_of(objective: Objective) -> dict[str, Any]:
    """The inverse of `objective_from`."""
    return {"name": objective.name, **asdict(objective)}
