"""The thread that owns the model: requests join and leave it, and their tokens go back to each."""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from metacog.decode.engine import Engine
from metacog.errors import RunError
from metacog.records import Generation, Request, Step


class Busy(RunError):
    """As many requests wait as may."""


class Broken(RunError):
    """The thread that owns the model has stopped."""


@dataclass(frozen=True)
class Ticket:
    """One request's place: where its tokens come, its reply last, or None if the worker stopped."""

    id: int
    events: "asyncio.Queue[Step | Generation | None]"
    loop: asyncio.AbstractEventLoop

    def deliver(self, event: Step | Generation | None) -> None:
        """Hand over an event from another thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Worker:
    """Runs the engine in one thread, for requests that come from an event loop.

    Args:
        engine: Owned by the thread from `start` on.
        queue: Most requests that wait for a slot.
    """

    def __init__(self, engine: Engine, queue: int) -> None:
        self.engine, self.queue = engine, queue
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._leaving: set[int] = set()
        self._tickets: dict[int, Ticket] = {}
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
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that have a slot, or are leaving it."""
        return len(self._tickets) - len(self._waiting)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, finish those that run, and end the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def submit(self, requests: Sequence[Request]) -> list[Ticket]:
        """Queue requests, all or none, under ids of the worker's own.

        Raises:
            Busy: If they don't fit behind those that wait.
            Broken: If nothing is answered any more.
        """
        loop = asyncio.get_running_loop()
        with self._changed:
            if not self.alive:
                raise Broken("Wanted a running engine, found it stopped. Start the server again.")
            if len(self._waiting) + len(requests) > self.queue:
                raise Busy(
                    f"{len(self._waiting)} requests wait of {self.queue} that may. Try later."
                )
            named = [replace(request, id=next(self._ids)) for request in requests]
            tickets = [Ticket(request.id, asyncio.Queue(), loop) for request in named]
            self._tickets |= {ticket.id: ticket for ticket in tickets}
            self._waiting.extend(named)
            self._changed.notify()
        return tickets

    def cancel(self, ticket: Ticket) -> None:
        """Let a request go before the next step; one that has ended is left alone."""
        with self._changed:
            if self._tickets.pop(ticket.id, None) is None:
                return
            kept = [request for request in self._waiting if request.id != ticket.id]
            if len(kept) == len(self._waiting):
                self._leaving.add(ticket.id)
            self._waiting = deque(kept)

    def joining(self, free: int, *, idle: bool) -> Sequence[Request]:
        """Return the requests that came first; wait for one where nothing else is to do."""
        with self._changed:
            while idle and not self._waiting and not self._ended:
                self._changed.wait()
            return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]

    def leaving(self) -> Collection[int]:
        """Return the requests that were cancelled since the last step."""
        with self._changed:
            left, self._leaving = self._leaving, set()
            return left

    def _work(self) -> None:
        try:
            for event in self.engine.serve(self):
                self._deliver(event)
        finally:
            with self._changed:
                self._ended = True
                left = list(self._tickets.values())
                self._tickets.clear()
                self._waiting.clear()
            for ticket in left:
                ticket.deliver(None)

    def _deliver(self, event: Step | Generation) -> None:
        with self._changed:
            ended = isinstance(event, Generation)
            find = self._tickets.pop if ended else self._tickets.get
            ticket = find(event.request_id, None)
        if ticket is not None:
            ticket.deliver(event)
