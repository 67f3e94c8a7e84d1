"""The terminal that a command was started from, which may go away while it runs."""

import contextlib
import os
import sys
from collections.abc import Iterator


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
