"""Notices when a run has stopped making steps: a thread that looks at the clock."""

import time
from collections import deque
from collections.abc import Callable
from statistics import median
from threading import Event, Lock, Thread

_RECENT = 50
_FEWEST = 5
"""Steps whose times must be known before anything counts as late."""


class Pulse:
    """Knows how long steps take, and whether the next one is late.

    A step is late after `factor` times the median of recent steps, but never before `least` seconds:
    an evaluation or a checkpoint between two steps is no stall.

    Args:
        factor: Medians that a step may take.
        least: Seconds that a step may take in any case.
        clock: Seconds from some start.
    """

    def __init__(
        self,
        *,
        factor: float = 20.0,
        least: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._factor, self._least, self._clock = factor, least, clock
        self._times: deque[float] = deque(maxlen=_RECENT)
        self._lock = Lock()
        self._last = clock()
        self._told = False

    def beat(self, *, is_step: bool = True) -> float | None:
        """Note a sign of life; return how long it was missed, where its lack had been told.

        Args:
            is_step: Whether it ended a step; if not, the time since the last sign is no step's.
        """
        with self._lock:
            now = self._clock()
            waited, was_told = now - self._last, self._told
            if is_step:
                self._times.append(waited)
            self._last, self._told = now, False
        return waited if was_told else None

    def overdue(self) -> tuple[float, float] | None:
        """Return seconds waited and the usual seconds of a step, once for each stall."""
        with self._lock:
            if self._told or len(self._times) < _FEWEST:
                return None
            waited, usual = self._clock() - self._last, median(self._times)
            if waited <= max(self._least, self._factor * usual):
                return None
            self._told = True
            return waited, usual


class Watchdog:
    """Asks a pulse now and then, in a thread that ends with the `with` block.

    Args:
        pulse: What is asked.
        tell: Called with seconds waited and usual, once for each stall, from the thread.
        every: Seconds between two looks.
    """

    def __init__(
        self, pulse: Pulse, tell: Callable[[float, float], None], *, every: float = 5.0
    ) -> None:
        self._pulse, self._tell, self._every = pulse, tell, every
        self._over = Event()
        self._thread = Thread(target=self._run, name="metacog-watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            late = self._pulse.overdue()
            if late is not None:
                self._tell(*late)
