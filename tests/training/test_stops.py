"""What asks a run to stop: signals, and a limit of time."""

import os
import signal
import threading

import pytest

from pgvae.errors import Preempted
from pgvae.training import stops
from pgvae.training.stops import Stop, nothing_to_save, stop_signals


def test_a_terminal_that_closes_and_a_queue_that_warns_ask_to_stop_too():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        stop = Stop()
        with stop_signals(stop):
            os.kill(os.getpid(), number)
            assert stop.requested()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        stop = Stop()
        with stop_signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_system_without_these_signals_is_asked_to_stop_by_the_others(monkeypatch):
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):  # as on Windows
        monkeypatch.delattr(signal, name)
    stop = Stop()
    with stop_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested()


def test_a_second_signal_stops_at_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def two_signals() -> None:
        stop = Stop()
        with stop_signals(stop):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested()
            os.kill(os.getpid(), signal.SIGTERM)  # handed on by torchrun
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal did not stop it")

    with pytest.raises(KeyboardInterrupt):
        two_signals()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_before_training_a_signal_ends_at_once_with_nothing_lost():
    before, stop = signal.getsignal(signal.SIGTERM), Stop()

    def asked() -> None:
        with nothing_to_save(stop):
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the signal did not stop it")

    with pytest.raises(Preempted, match="nothing is lost: start it again"):
        asked()
    assert stop.requested()  # where somebody took the error for one of his own
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_signals_stay_what_they_are():
    before, found = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with stop_signals(Stop()):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]


def stops_at(hours: float | None, seconds: list[float], monkeypatch) -> float | None:
    """The first of some times after its start at which it asks to stop; None where it never does.

    It is asked at each of them.
    """
    now = 1000.0
    monkeypatch.setattr(stops.time, "monotonic", lambda: now)
    stop = Stop(hours)
    for second in seconds:
        now = 1000.0 + second
        if stop.requested():
            return second
    return None


@pytest.mark.parametrize(
    ("hours", "seconds", "expected"),
    [
        (1.0, [*range(0, 3600, 10)], 3560),  # 20 s to save in and 30 s to spare are left
        (1.0, [0, 100, *range(110, 3600, 10)], 3380),  # once 100 s went by between two iterations
        (1.0, [0, 500, 2569, 2570], 2569),  # 2,069 s: two more would end too late
        (0.01, [*range(36)], 26),  # of a short limit a quarter is spare
        (None, [0, 1e9], None),
    ],
)
def test_a_limit_leaves_time_to_save(hours, seconds, expected, monkeypatch):
    assert stops_at(hours, seconds, monkeypatch) == expected
