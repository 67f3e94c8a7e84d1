"""Types of options that several commands have."""

import math
import re
from typing import Any

import click

from pgvae.choices import MOST_AT_ONCE, MOST_SEED
from pgvae.sizes import check_resolution

_MOST_SEEDS = 100_000


class Finite(click.ParamType):
    """A positive, finite number."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            self.fail(f"{value!r} is not a positive, finite number", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number from `least` on, below what no machine could count to."""

    def __init__(self, least: int) -> None:
        super().__init__(least)

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        number = super().convert(value, param, ctx)
        if number > MOST_AT_ONCE:
            self.fail(f"{number} is too many: use {MOST_AT_ONCE} at most", param, ctx)
        return number


class SomePath(click.Path):
    """A path; not an empty word, which a variable of the shell that is not set leaves."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("it is empty: give a path, or leave the option out", param, ctx)
        return super().convert(value, param, ctx)


class Seed(click.ParamType):
    """A seed, without its bounds in the help."""

    name = "integer"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        return click.IntRange(0, MOST_SEED).convert(value, param, ctx)


class Resolution(click.ParamType):
    """A power of two from 4 to 1024."""

    name = "integer"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        return check_resolution(click.INT.convert(value, param, ctx), param.name.replace("_", " "))


class ByStage(click.ParamType):
    """One value, or one of each resolution that is named, 16:64,32:32."""

    name = "by stage"

    def __init__(self, item: click.ParamType) -> None:
        self._item = item

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if ":" not in value:
            return self._item.convert(value, param, ctx)
        found: dict[int, Any] = {}
        for word in value.split(","):
            stage, colon, said = (part.strip() for part in word.partition(":"))
            if not colon or not stage.isdecimal() or int(stage) in found:
                self.fail(f"{word!r} in {value!r} is not R:VALUE, of one resolution R", param, ctx)
            found[int(stage)] = self._item.convert(said, param, ctx)
        return found


class Seeds(click.ParamType):
    """Seeds and ranges of them with commas between: 1,5,10-20."""

    name = "seeds"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        seeds: dict[int, None] = {}  # a set that keeps its order
        for word in value.split(","):
            ends = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", word)
            if not ends:
                self.fail(f"{word!r} is no seed and no range: give some, such as 1,5,10-20")
            first, last = int(ends[1]), int(ends[2] or ends[1])
            if last < first or last - first >= _MOST_SEEDS:
                self.fail(f"{word!r}: give the lower seed first, {_MOST_SEEDS:,} seeds at most")
            if last > MOST_SEED:
                self.fail(f"{word!r}: a seed is {MOST_SEED} at most")
            seeds |= dict.fromkeys(range(first, last + 1))
        return tuple(seeds)


class WordList(click.ParamType):
    """Words with commas between them, each converted by `item`."""

    name = "list"

    def __init__(self, item: click.ParamType = click.STRING, count: int | None = None) -> None:
        self._item, self._count = item, count

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        words = [word.strip() for word in value.split(",") if word.strip()]
        if not words or self._count not in (None, len(words)):
            self.fail(f"{value!r} is not {self._count or 'one or more'} values with commas")
        return tuple(self._item.convert(word, param, ctx) for word in words)
