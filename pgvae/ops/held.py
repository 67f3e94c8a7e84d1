"""Weights that do not change any more, and what convolutions make of them, made once."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

_MADE = "pgvae_made"
Made = TypeVar("Made")


def hold(weight: Tensor) -> Tensor:
    """The weight, of which `made_of` keeps what it makes. It must not change from here on."""
    setattr(weight, _MADE, {})
    return weight


def made_of(weight: Tensor, name: str, make: Callable[[], Made]) -> Made:
    """What `make` gives, which depends on the weight and on `name` alone.

    >>> weight = torch.ones(1)
    >>> made_of(weight, "two", lambda: weight + 1) is made_of(weight, "two", lambda: weight + 1)
    False
    >>> weight = hold(weight)
    >>> made_of(weight, "two", lambda: weight + 1) is made_of(weight, "two", lambda: weight + 1)
    True
    """
    kept = getattr(weight, _MADE, None)
    if kept is None:
        return make()
    if name not in kept:
        with torch.inference_mode(False), torch.no_grad():  # for all who come later
            kept[name] = make()
    return kept[name]
