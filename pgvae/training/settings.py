"""`--set NAME=VALUE` and `NAME@R=VALUE`: from words to settings of an objective."""

import dataclasses
from typing import Any

from pgvae.checks import nearest, require
from pgvae.errors import InputError
from pgvae.objectives import Objective


def parse_settings(
    kind: type[Objective], texts: tuple[str, ...]
) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """("beta_kl=0.5", "margin@64=0.1") -> settings, and those of one resolution's stage.

    Typed by the objective's own fields; InputError for what is not one of them.
    """
    types = {f.name: type(f.default) for f in dataclasses.fields(kind)}
    everywhere: dict[str, Any] = {}
    by_stage: dict[int, dict[str, Any]] = {}
    require(bool(types) or not texts, f"--set {' '.join(texts)}: {kind.name} has no settings")
    for text in texts:
        target, equals, value = text.partition("=")
        name, at, stage = target.partition("@")
        require(bool(equals), f"--set {text!r} is not NAME=VALUE")
        require(name in types, f"unknown {kind.name} setting {name!r}: {nearest(name, [*types])}")
        require(
            not at or (stage.isascii() and stage.isdecimal() and len(stage) <= 4),
            f"--set {text!r}: after @ goes a resolution",
        )
        typed = _typed(name, types[name], value)
        kind(**{name: typed})  # refuses what is out of range
        (by_stage.setdefault(int(stage), {}) if at else everywhere)[name] = typed
    return everywhere, by_stage


def _typed(name: str, kind: type, value: str) -> Any:
    """The value of a setting as its objective holds it."""
    if kind is bool:
        require(value in ("true", "false"), f"--set {name}: {value!r} is not true or false")
        return value == "true"
    try:
        return kind(value)
    except ValueError as error:
        raise InputError(f"--set {name}: {value!r} is not a number") from error
