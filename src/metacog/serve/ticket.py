"""One request's place with the worker, and how its events reach the event loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from metacog.decode.engine import Event


@dataclass(frozen=True)
class Ticket:
    """Where a request's tokens come, its reply last, or None if the worker stopped."""

    id: int
    loop: asyncio.AbstractEventLoop
    events: "asyncio.Queue[Event | None]" = field(default_factory=asyncio.Queue)


def hand_over(posts: Sequence[tuple[Ticket, Event | None]]) -> None:
    """Put events into their tickets' queues, from another thread: one call for each event loop."""
    for loop in {ticket.loop for ticket, _ in posts}:
        mine = [(ticket, event) for ticket, event in posts if ticket.loop is loop]
        if not loop.is_closed():
            loop.call_soon_threadsafe(_put, mine)


def _put(posts: Sequence[tuple[Ticket, Event | None]]) -> None:
    for ticket, event in posts:
        ticket.events.put_nowait(event)
