"""The terminal that a command was started from, which may go away or not be there at all."""

import contextlib
import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_interrupted = False


def remember_interrupts() -> None:
    """Note a Ctrl-C, should a library swallow it that is being imported; see `check_interrupts`."""

    def handle(number: int, frame: FrameType | None) -> None:
        global _interrupted
        _interrupted = True
        signal.default_int_handler(number, frame)

    global _interrupted
    _interrupted = False  # what an earlier command of this process met is not this one's
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, handle)


def check_interrupts() -> None:
    """Raise KeyboardInterrupt where one came and was swallowed."""
    if _interrupted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def outlived() -> Iterator[None]:
    """Write to the terminal or a pipe; once that is gone, all that is written goes nowhere.

    A closed window, a connection that is lost or `| head` must not end a run before it is saved.
    """
    try:
        yield
    except (OSError, ValueError):  # ValueError: of a file that is closed
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def say(text: str) -> None:
    """Print a line, while there is somebody to read it; with codes for what cannot be shown."""
    with outlived():
        try:
            print(text, flush=True)
        except UnicodeEncodeError:  # a ValueError, but the terminal is there
            print(text.encode("ascii", "backslashreplace").decode(), flush=True)


def fill_in() -> None:
    """Put nowhere in the place of standard streams that are closed (`2>&-`, some daemons).

    Else the next files to be opened would get their numbers, and what is printed would go there.
    Streams that are open show letters that their encoding has not by their codes, and outlive their
    readers: `| head` ends no command before its work is done.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            for act in ("write", "flush"):
                setattr(stream, act, _unread(getattr(stream, act), name))


def _unread(act: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same act of a stream, which goes nowhere once the reader of its pipe is gone.

    Where it is on a drive that fails, the error has its name.
    """

    @functools.wraps(act)
    def attempt(*given: Any) -> Any:
        try:
            return act(*given)
        except BrokenPipeError:
            with outlived():
                raise
        except OSError as error:
            error.filename = name
            raise

    return attempt
