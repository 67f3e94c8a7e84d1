"""Groups of commands, which are imported once they are asked for, and hints for wrong words."""

import difflib
import importlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pgvae.checks import nearest

_EXTRA = re.compile(r"Got unexpected extra arguments? \((.*)\)")  # click's words


class Commands(click.Group):
    """A group whose commands are imported on first use.

    homes: of each command its "module:attribute".
    """

    def __init__(self, *args: Any, homes: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._homes = dict(homes or {})

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self._homes, *self.commands]

    def get_command(self, ctx: Any, name: str) -> click.Command | None:
        if name not in self._homes:
            return super().get_command(ctx, name)
        module, _, attribute = self._homes[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(_about_word(ctx, self, args[0]))
        return super().resolve_command(ctx, args)


def tree(
    command: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, each with the words that name it."""
    yield words, command
    if isinstance(command, click.Group):
        nowhere: Any = None  # what a group is asked for without a context
        for name in command.list_commands(nowhere):
            below = command.get_command(nowhere, name)
            if below is not None:
                yield from tree(below, (*words, name))


def explain(error: click.ClickException) -> str:
    """The message of an error, with a hint where a word is wrong or in the wrong place."""
    ctx = getattr(error, "ctx", None)
    if ctx is None:
        return error.format_message()
    if isinstance(error, click.NoSuchOption):
        return _about_option(ctx, error.option_name)
    extra = _EXTRA.match(error.message)
    if extra:
        word = extra[1].split()[0]
        return _second_path(ctx, word) or f"{ctx.info_name} takes no {word!r}: leave it out"
    return error.format_message()


def _about_option(ctx: click.Context, option: str) -> str:
    """What to do about an option that the command does not have."""
    wrong = f"{ctx.info_name} has no option {option}"
    place: click.Context | None = ctx
    while place is not None:  # the nearest group that has commands with it
        owners = [words for words, other in tree(place.command) if option in _names(other)]
        if owners:
            outer = [" ".join(words) for words in owners if words[:-1] not in owners]
            return f"{wrong}: it belongs after {', '.join(outer)}"
        place = place.parent
    own = {name.lstrip("-"): name for name in _names(ctx.command)}
    close = difflib.get_close_matches(option.lstrip("-"), own, n=1)
    return f"{wrong}: {f'did you mean {own[close[0]]}?' if close else 'see --help'}"


def _names(command: click.Command) -> list[str]:
    """All names of its options."""
    return [name for param in command.params for name in (*param.opts, *param.secondary_opts)]


def _about_word(ctx: click.Context, group: Commands, word: str) -> str:
    """What to do about a word that stands in the place of a command."""
    second = _second_path(ctx, word)
    if second:
        return second
    names = group.list_commands(ctx)
    if _is_path(word):
        place = "after --snapshot, or " if "--snapshot" in _names(group) else ""
        return f"no command {word!r}: write a path {place}after a command: {', '.join(names)}"
    below = [" ".join(words) for words, _ in tree(group) if words[-1:] == (word,)]
    hint = f"did you mean {below[0]!r}?" if below else nearest(word, names)
    return f"no command {word!r}: {hint}"


def _is_path(word: str) -> bool:
    return os.sep in word or Path(word).exists()


def _second_path(ctx: click.Context, word: str) -> str:
    """What to do about `--snapshot runs/a runs/b`; "" where no path beside it was given."""
    for param in ctx.command.params if _is_path(word) else ():
        given = ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
        value = ctx.params.get(param.name) if given else None
        if isinstance(value, (str, Path)) and Path(value).parent == Path(word).parent:
            name = param.opts[0] if param.opts[0].startswith("-") else param.human_readable_name
            what = "run" if param.name in ("snapshot", "run") else "path"
            return f"{name} takes one path: {word} is another; name one {what}"
    return ""
