"""How a run is asked to stop: the first signal lets it finish its step, the second ends it at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

_ASKING = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE: dict[signal.Signals, Handler | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Stop:
    """Whether a run has been asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """Ask it."""
        self.asked = True


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the block as an interrupt from the keyboard does; SIGINT does so anyway."""
    with _handling(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let the first SIGINT or SIGTERM inside the block ask for a stop, and the second do its worst."""
    stop = Stop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.ask()
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
