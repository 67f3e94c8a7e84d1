"""Settings of the objective that a user asked for, everywhere or for one resolution's stage."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from pgvae.config import nearest, require
from pgvae.errors import InputError
from pgvae.objectives import Objective, objective_class


class Settings(NamedTuple):
    """What `--set` said: settings of the objective, and those of one resolution's stage."""

    everywhere: dict[str, Any]
    at: dict[int, dict[str, Any]]


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


def phase_settings(
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
