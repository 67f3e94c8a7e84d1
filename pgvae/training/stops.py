"""What asks a run to stop before its end: signals, and a limit of time."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from pgvae.errors import Preempted

_ECHO_SECONDS = 2.0  # in which a second SIGTERM is the first one's
_STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # Windows has the first two
_SPARE_SECONDS = 30.0  # kept of a limit of time, but no more than its quarter


class Stop:
    """Whether a run is to stop: a signal asked for it, or its time is nearly over.

    hours: in which it has to have stopped, from now on; None: any time.
    """

    def __init__(self, hours: float | None = None) -> None:
        self.signalled = False
        seconds = math.inf if hours is None else 3600 * hours
        self._last: float | None = None
        self._end = time.monotonic() + seconds - min(_SPARE_SECONDS, seconds / 4)
        self._longest = 0.0  # seconds between two questions

    def requested(self) -> bool:
        """To be asked between two iterations: twice the longest time between is kept, to save."""
        now = time.monotonic()
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        return self.signalled or now + 2 * self._longest > self._end


@contextlib.contextmanager
def stop_signals(stop: Stop) -> Iterator[None]:
    """A signal to stop tells `stop`, once; a second one stops the process at once.

    But for a SIGTERM that comes within two seconds: torchrun and queues send it to a process and
    to those that it started, which hand it on.

    SIGINT and SIGTERM; SIGHUP, as the terminal is gone; SIGUSR1 and SIGUSR2, which queues send
    before their time limit.
    """

    def handle(number: int, _frame: object) -> None:
        stop.signalled = True
        first = time.monotonic()

        def again(number: int, _frame: object) -> None:
            if time.monotonic() - first > _ECHO_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        # Not what was there before: a shell has a background job ignore SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, again)

    with _handled(handle, _STOPS):
        yield


@contextlib.contextmanager
def nothing_to_save(stop: Stop) -> Iterator[None]:
    """As `stop_signals`, while no training is under way: ends at once, with Preempted.

    But for SIGINT, which stays what it is.
    """

    def handle(number: int, _frame: object) -> None:
        stop.signalled = True  # should what is under way take the error for one of its own
        raise Preempted("stopped before it began to train, nothing is lost: start it again")

    with _handled(handle, _STOPS[1:]):
        yield


@contextlib.contextmanager
def _handled(
    handle: Callable[[int, FrameType | None], None], names: tuple[str, ...]
) -> Iterator[None]:
    """Signals go to `handle`: those of the system, but for a SIGHUP that is ignored (nohup).

    In another thread than the main one they stay what they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ignored = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    chosen = [n for n in numbers if not (ignored and n == signal.SIGHUP)]
    before = {number: signal.signal(number, handle) for number in chosen}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
