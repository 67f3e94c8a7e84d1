"""Points of the latent space as a page names them: whose latent it is, and the moves from there.

What a browser sends is checked here, and nothing of it is ever a path.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pgvae.checks import require, require_choice
from pgvae.choices import Prior

Kind = Literal["seed", "image", "unseen"]
MOST_POINTS, MOST_FRAMES = 64, 256
FARTHEST = 100.0  # deviations
_MOST_SEED = 2**32 - 1
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Point:
    """A sample of a seed, an image that was sent, or an unseen one of the data set, moved.

    kind, key:         "seed" and the seed, "image" and its id, "unseen" and its place in the split.
    prior, truncation: of a seed; None: the model's default.
    attributes:        moves by name, in deviations of the prior.
    components:        moves by index, in deviations of each component.
    """

    kind: Kind
    key: int | str
    prior: Prior | None = None
    truncation: float = 1.0
    attributes: Mapping[str, float] | None = None
    components: Mapping[int, float] | None = None

    @property
    def source(self) -> "Point":
        """The same without its moves."""
        return Point(self.kind, self.key, self.prior, self.truncation)

    def words(self) -> str:
        """As JSON.

        >>> Point("seed", 3, components={0: 1.5}).words()
        '{"seed": 3, "components": {"0": 1.5}}'
        """
        said = {self.kind: self.key}
        if self.prior:
            said["prior"] = self.prior
        if self.truncation < 1:
            said["truncation"] = self.truncation
        if self.attributes:
            said["attributes"] = dict(self.attributes)
        if self.components:
            said["components"] = {str(k): v for k, v in self.components.items()}
        return json.dumps(said)


def read_point(value: Any) -> Point:
    """A point of JSON; InputError for anything else.

    >>> read_point({"seed": 3, "truncation": 0.5}).truncation
    0.5
    """
    value = entry({"point": value}, "point", dict)
    kinds = [kind for kind in get_args(Kind) if kind in value]
    require(len(kinds) == 1, f"a point has one of {', '.join(get_args(Kind))}: got {short(value)}")
    [kind] = kinds
    if kind == "image":
        key = entry(value, "image", str)
        require(bool(_ID.fullmatch(key)), f"no such image: {short(key)}")
    else:
        key = whole(value, kind, 0, _MOST_SEED)
    prior = value.get("prior")
    if prior is not None:
        require_choice("prior", prior, get_args(Prior))
    moves = {part: _moves(value, part) for part in ("attributes", "components")}
    components = moves["components"]
    require(
        all(name.isascii() and name.isdigit() and len(name) < 4 for name in components),
        f"components are numbers: got {short([*components])}",
    )
    return Point(
        kind,
        key,
        prior,
        number(value, "truncation", 0.0, 1.0, 1.0),
        moves["attributes"],
        {int(name): size for name, size in components.items()},
    )


def read_points(asked: Mapping[str, Any], name: str, least: int, most: int) -> list[Point]:
    """The points of a request under a name; InputError for too few or too many."""
    found = entry(asked, name, list)
    require(least <= len(found) <= most, f"{name}: use {least} to {most} points, not {len(found)}")
    return [read_point(value) for value in found]


def entry(asked: Mapping[str, Any], name: str, kind: type) -> Any:
    """An entry of a request; InputError where it is missing or of another type."""
    value = asked.get(name)
    require(type(value) is kind, f"{name} is {short(value)}: a {kind.__name__} is needed")
    return value


def whole(
    asked: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None
) -> int:
    """A whole number of a request, within bounds.

    >>> whole({"steps": 9}, "steps", 2, 8)
    Traceback (most recent call last):
    pgvae.errors.InputError: steps is 9: use a whole number from 2 to 8
    """
    value = asked.get(name, default)
    known = type(value) is int and low <= value <= high
    require(known, f"{name} is {short(value)}: use a whole number from {low} to {high}")
    return value


def number(
    asked: Mapping[str, Any], name: str, low: float, high: float, default: float | None = None
) -> float:
    """A number of a request, within bounds."""
    value = asked.get(name, default)
    known = type(value) in (int, float) and low <= value <= high and math.isfinite(value)
    name = name if name.isprintable() else short(name)  # else it cannot be sent
    require(known, f"{name} is {short(value)}: use a number from {low:g} to {high:g}")
    return float(value)


def short(value: Any) -> str:
    """A value for a message.

    >>> short("x" * 100)[-6:]
    'xxx...'
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _moves(value: Mapping[str, Any], part: str) -> dict[str, float]:
    found: Mapping[str, Any] | Sequence[Any] = value.get(part, {})
    require(isinstance(found, dict), f"{part} is {short(found)}: names and numbers are needed")
    sizes = {name: number(found, name, -FARTHEST, FARTHEST) for name in found}
    return {name: size for name, size in sizes.items() if size}
