"""How a run is asked to stop: the first signal lets it finish its step, the second ends it at once.

SIGINT comes from the keyboard, SIGTERM from who ends processes, SIGUSR1 from schedulers that say some
time before that they will.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from metacog.errors import RunStopped

Handler = Callable[[int, FrameType | None], object]

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_AT_ONCE: dict[signal.Signals, Handler | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


class Stop:
    """Whether a run has been asked to stop."""

    def __init__(self) -> None:
        self.asked = False
        self.signal: int | None = None
        """The number of the signal that asked, or None where none did."""

    def ask(self, number: int | None = None) -> None:
        """Ask it."""
        self.asked, self.signal = True, number


@contextmanager
def interruptible(when: str = "before the first step") -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 end the block with `RunStopped`; SIGINT interrupts it anyway.

    Args:
        when: Where in a run the block stands, as its message says.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise RunStopped(
            f"Stopped by {signal.Signals(number).name} {when}. What was collected "
            "is kept: go on with --resume auto.",
            signal=number,
        )

    with _handling(end, signal.SIGTERM, signal.SIGUSR1):
        yield


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let the first signal inside the block ask for a stop, and the second do its worst."""
    stop = Stop()

    def ask(asking: int, _frame: FrameType | None) -> None:
        stop.ask(asking)
        for number in _ASKING:
            signal.signal(number, _AT_ONCE[number])

    with _handling(ask, *_ASKING):
        yield stop


@contextmanager
def _handling(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    # Only the main thread may set handlers; a run in another one is stopped by who started it.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
