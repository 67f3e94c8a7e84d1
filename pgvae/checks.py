"""Checks of what is given: each raises InputError with one line that says what would do."""

import difflib
import math
import operator
from typing import SupportsIndex

from pgvae.choices import MOST_SEED
from pgvae.errors import InputError


def require(condition: bool, message: str) -> None:
    """Raise InputError with `message` unless `condition` holds (NaN never does).

    >>> require(0.5 > 0, "too small")
    >>> require(float("nan") > 0, "too small")
    Traceback (most recent call last):
    pgvae.errors.InputError: too small
    """
    if not condition:
        raise InputError(message)


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise InputError unless `value` is one of `choices`.

    >>> require_choice("head", "cube", ("sphere", "gaussian"))
    Traceback (most recent call last):
    pgvae.errors.InputError: head is 'cube': choose one of sphere, gaussian
    """
    require(value in choices, f"{name} is {value!r}: choose one of {', '.join(choices)}")


def require_weight(name: str, value: float) -> None:
    """Raise InputError unless `value` is finite and 0 or more.

    >>> require_weight("beta_kl", -1.0)
    Traceback (most recent call last):
    pgvae.errors.InputError: beta_kl is -1.0: use a finite number >= 0
    """
    require(math.isfinite(value) and value >= 0, f"{name} is {value}: use a finite number >= 0")


def require_switch(name: str, value: bool) -> None:
    """Raise InputError unless `value` is a bool."""
    require(isinstance(value, bool), f"{name} is {value!r}: use true or false")


def nearest(name: str, names: list[str]) -> str:
    """A hint for an unknown `name`: the most similar of `names`, or all of them.

    >>> nearest("miror", ["seed", "mirror"])
    "did you mean 'mirror'?"
    >>> nearest("xyzzy", ["seed", "mirror"])
    'known: mirror, seed'
    """
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(names))}"


def whole(name: str, value: SupportsIndex) -> int:
    """A count or seed of any kind of integer as Python's; InputError for another value.

    >>> whole("count", 1.5)
    Traceback (most recent call last):
    pgvae.errors.InputError: count is 1.5: use a whole number from 0 to 9223372036854775807
    """
    fits = hasattr(value, "__index__") and 0 <= operator.index(value) <= MOST_SEED
    require(fits, f"{name} is {value!r}: use a whole number from 0 to {MOST_SEED}")
    return operator.index(value)
