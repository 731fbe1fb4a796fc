"""The thread that owns the model: requests join and leave it, and their tokens go back to each."""

import asyncio
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import replace

from metacog.config.serving import BatchConfig
from metacog.decode.engine import Engine, Event
from metacog.decode.forecast import Forecaster
from metacog.errors import InputError
from metacog.records import Generation, Request
from metacog.serve.errors import Broken, Busy, survives
from metacog.serve.ticket import Ticket, hand_over
from metacog.serve.waiting import Line

STALL_SECONDS = 4.0
"""Silence of running replies after which the server is not ready."""
_PACE, _LONGEST_WAIT = 32, 60
"""Replies that say how fast others end, and the most seconds that somebody is told to wait."""
_RESTARTS = 3
"""Times the engine is begun anew after an error before the worker gives up."""


class Worker:
    """Runs the engine in one thread, for requests that come from an event loop.

    Args:
        engine: Owned by the thread from `start` on.
        batch: Who may wait, and who is let in first.
    """

    def __init__(self, engine: Engine, batch: BatchConfig) -> None:
        self.engine, self.batch = engine, batch
        self._ids = itertools.count()
        self._changed = threading.Condition()
        forecaster = Forecaster(engine.model, engine.settings)
        self._line = Line(forecaster.think_tokens, batch.overtaking)
        self._leaving: set[int] = set()
        self._tickets: dict[int, Ticket] = {}
        self._posts: list[tuple[Ticket, Event | None]] = []
        self._rows, self._heard = 0, time.monotonic()
        self._ends: deque[float] = deque(maxlen=_PACE)
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="metacog-engine", daemon=True)

    @property
    def ended(self) -> bool:
        """Whether no request will join any more."""
        return self._ended

    @property
    def alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive() and not self._ended

    @property
    def silence(self) -> float:
        """Seconds since the engine last said something while it had something to do."""
        return time.monotonic() - self._heard if self._tickets else 0.0

    @property
    def ready(self) -> bool:
        """Whether requests are answered now."""
        return self.alive and self.silence < STALL_SECONDS

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._line)

    @property
    def running(self) -> int:
        """Replies that are being written."""
        return self._rows

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Take no more requests, finish those that run, and end the thread.

        Whatever has not ended after `seconds` ends as it stands.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._leaving |= {number for number in self._tickets if not self._line.leave(number)}
        self._thread.join(STALL_SECONDS)

    def submit(self, requests: Sequence[Request]) -> list[Ticket]:
        """Queue requests, all or none, under ids of the worker's own.

        Raises:
            InputError: If they would not fit into an idle server.
            Busy: If they fit neither into free slots nor behind those that wait.
            Broken: If nothing is answered any more.
        """
        loop = asyncio.get_running_loop()
        self._check_count(len(requests))
        with self._changed:
            if not self.alive:
                raise Broken("Wanted a running engine, found it stopped. Start the server again.")
            if len(self._line) + len(requests) > self._free + self.batch.queue:
                raise Busy(
                    f"{len(self._line)} requests wait of {self.batch.queue} that may. Try later.",
                    self._room_in(),
                )
            if not self._tickets:
                self._heard = time.monotonic()
            named = [replace(request, id=next(self._ids)) for request in requests]
            tickets = [Ticket(request.id, loop) for request in named]
            self._tickets |= {ticket.id: ticket for ticket in tickets}
            self._line.join(named)
            self._changed.notify()
        return tickets

    def cancel(self, ticket: Ticket) -> None:
        """Let a request go before the next step, without a reply; one that has ended is left alone."""
        with self._changed:
            if self._tickets.pop(ticket.id, None) is not None and not self._line.leave(ticket.id):
                self._leaving.add(ticket.id)

    def end(self, ticket: Ticket) -> None:
        """End a running reply before the next step, as it stands: its ticket still gets it."""
        with self._changed:
            if ticket.id in self._tickets:
                self._leaving.add(ticket.id)

    def give_up(self) -> None:
        """Tell everybody that nothing will come any more: the engine has been silent too long."""
        with self._changed:
            self._ended = True
            self._dismiss()

    def joining(self, free: int, *, idle: bool) -> Sequence[Request]:
        """Return the requests that are next; wait for one where nothing else is to do."""
        with self._changed:
            if idle and not len(self._line):
                self._ends.clear()  # the gap until the next request says nothing of the pace
            while idle and not len(self._line) and not self._ended:
                self._changed.wait()
        if free and self.batch.overtaking and len(self._line) > free:
            self._line.foresee()  # a pass of the model: nobody waits for the lock meanwhile
        with self._changed:
            joined = self._line.take(free)
            self._rows += len(joined)
            return joined

    def leaving(self) -> Collection[int]:
        """Return the requests that were let go since the last step."""
        self._flush()
        with self._changed:
            left, self._leaving = self._leaving, set()
            return left

    def _check_count(self, count: int) -> None:
        most = self.engine.settings.rows + self.batch.queue
        if count > most:
            raise InputError(
                f"Wanted at most {most} replies to one request on this server, got {count}. "
                "Ask for less."
            )

    @property
    def _free(self) -> int:
        """Slots that are not taken: who waits for one of these waits for no reply to end."""
        return self.engine.settings.rows - self._rows

    def _room_in(self) -> int:
        """Return the seconds that those who wait will take, by the pace of the last replies."""
        ends = self._ends
        if len(ends) < 2:
            return 1
        pace = (ends[-1] - ends[0]) / (len(ends) - 1)
        return min(_LONGEST_WAIT, max(1, math.ceil(pace * len(self._line))))

    def _work(self) -> None:
        for _ in range(1 + _RESTARTS):
            if survives(self._serve):
                break
            with self._changed:
                self._dismiss()
        with self._changed:
            self._ended = True
            self._dismiss()

    def _serve(self) -> None:
        for event in self.engine.serve(self):
            self._post(event)
        self._flush()

    def _post(self, event: Event) -> None:
        with self._changed:
            ended = isinstance(event, Generation)
            self._rows -= ended
            if ended:
                self._ends.append(time.monotonic())
            find = self._tickets.pop if ended else self._tickets.get
            ticket = find(event.request_id, None)
            if ticket is not None:
                self._posts.append((ticket, event))
            enough = len(self._posts) >= self._rows
        if enough:
            self._flush()

    def _flush(self) -> None:
        self._heard = time.monotonic()
        with self._changed:
            posts, self._posts = self._posts, []
        hand_over(posts)

    def _dismiss(self) -> None:
        """Tell everybody who waits that there will be no reply; the lock must be held.

        Replies that have ended but were not handed over yet still reach those who asked.
        """
        left = [(ticket, None) for ticket in self._tickets.values()]
        posts, self._posts, self._rows = self._posts, [], 0
        self._tickets.clear()
        self._line.clear()
        self._leaving.clear()
        hand_over([*posts, *left])
