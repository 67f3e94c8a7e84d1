"""Objectives: each declares its phases and the losses of each; see docs/objectives.md."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pgvae.config import from_dict, nearest, require
from pgvae.objectives import terms
from pgvae.objectives.age import Age
from pgvae.objectives.base import Context, Objective, Phase
from pgvae.objectives.pioneer import Pioneer
from pgvae.objectives.vae import Vae

OBJECTIVES: Mapping[str, type[Objective]] = {o.name: o for o in (Pioneer, Age, Vae)}

__all__ = ["OBJECTIVES", "Context", "Objective", "Phase", "objective_from", "settings_of", "terms"]


def objective_from(settings: Mapping[str, Any]) -> Objective:
    """The objective that `{"name": ..., its weights}` describes; InputError if unknown."""
    require("name" in settings, "the objective's settings have no name")
    name = settings["name"]
    require(name in OBJECTIVES, f"unknown objective {name!r}: {nearest(name, list(OBJECTIVES))}")
    rest = {key: value for key, value in settings.items() if key != "name"}
    return from_dict(OBJECTIVES[name], rest, f"{name} objective")


def settings_of(objective: Objective) -> dict[str, Any]:
    """The inverse of `objective_from`."""
    return {"name": objective.name, **asdict(objective)}
