"""The thread that owns the model: who joins, who leaves, and who is told to come back."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from metacog.config.serving import BatchConfig
from metacog.decode.engine import Arrivals, Engine, Event
from metacog.decode.settings import request_for
from metacog.decode.terms import NO_LIMIT
from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Opened, Request, Step
from metacog.serve.errors import Broken, Busy
from metacog.serve.run import engine_for
from metacog.serve.ticket import Ticket
from metacog.serve.worker import Worker
from metacog.text.render import render

SECONDS = 60
ENOUGH = 2000
"""Tokens of all replies of a test."""
IDLE_SECONDS = 0.3


def request(model: MetacogModel, *, seed: int = 0) -> Request:
    """Return a request that runs for hundreds of steps."""
    ids = tuple(render(model.base.tokenizer, [{"role": "user", "content": "What is 15 + 6?"}]))
    asked = request_for(model, ids, budget=NO_LIMIT, seed=seed, temperature=1.0)
    return replace(asked, noise_id=0)


@contextlib.asynccontextmanager
async def working(engine: Engine, *, queue: int) -> AsyncIterator[Worker]:
    worker = Worker(engine, BatchConfig(queue=queue))
    worker.start()
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.stop)


async def next_of(ticket: Ticket) -> Event | None:
    """Return the next token, or what came in place of one."""
    event = await asyncio.wait_for(ticket.events.get(), SECONDS)
    return await next_of(ticket) if isinstance(event, Opened) else event


async def reply_of(ticket: Ticket) -> Generation:
    while not isinstance(event := await next_of(ticket), Generation):
        assert event is not None
    return event


class Paced(Engine):
    """An engine that goes on by one token when it is let, and remembers for whom it wrote."""

    def __init__(self, model: MetacogModel, rows: int) -> None:
        super().__init__(model, engine_for(model, rows).settings)
        self.let, self.written = threading.Semaphore(0), list[int]()

    def serve(self, arrivals: Arrivals) -> Iterator[Event]:
        for event in super().serve(arrivals):
            if isinstance(event, Step):
                assert self.let.acquire(timeout=SECONDS)
                self.written.append(event.request_id)
            yield event


def test_more_than_may_wait_are_refused_all_or_none(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        engine = Paced(tiny_model, 1)
        async with working(engine, queue=2) as worker:
            (first,) = worker.submit([request(tiny_model)])
            engine.let.release()
            assert isinstance(await next_of(first), Step), "it has a slot"
            waiting = worker.submit([request(tiny_model, seed=seed) for seed in (1, 2)])
            with pytest.raises(Busy):
                worker.submit([request(tiny_model, seed=3)])
            assert worker.waiting == 2
            worker.cancel(waiting[0])
            (late,) = worker.submit([request(tiny_model, seed=4)])
            engine.let.release(ENOUGH)
            for ticket in (first, waiting[1], late):
                assert (await reply_of(ticket)).finished is not None
            assert waiting[0].events.empty(), "who left is told nothing"

    asyncio.run(scene())


def test_free_slots_hold_as_many_more(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        engine = Paced(tiny_model, 2)
        async with working(engine, queue=1) as worker:
            tickets = worker.submit([request(tiny_model, seed=seed) for seed in range(3)])
            with pytest.raises(Busy):
                worker.submit([request(tiny_model, seed=3)])
            engine.let.release(ENOUGH)
            for ticket in tickets:
                assert (await reply_of(ticket)).finished is not None

    asyncio.run(scene())


def test_more_than_ever_fit_are_no_matter_of_waiting(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(engine_for(tiny_model, 2), queue=1) as worker:
            with pytest.raises(InputError, match="at most 3 replies"):
                worker.submit([request(tiny_model, seed=seed) for seed in range(4)])

    asyncio.run(scene())


def test_an_idle_gap_is_no_pace(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        engine = Paced(tiny_model, 1)
        async with working(engine, queue=20) as worker:
            engine.let.release(ENOUGH)
            for seed in range(3):
                (ticket,) = worker.submit([request(tiny_model, seed=seed)])
                await reply_of(ticket)
                await asyncio.sleep(IDLE_SECONDS)
            while engine.let.acquire(blocking=False):
                pass
            (running,) = worker.submit([request(tiny_model)])
            engine.let.release()
            await next_of(running)
            waiting = worker.submit([request(tiny_model, seed=seed) for seed in range(20)])
            with pytest.raises(Busy) as refused:
                worker.submit([request(tiny_model)])
            assert refused.value.seconds == 1
            for ticket in (running, *waiting):
                worker.cancel(ticket)
            engine.let.release(ENOUGH)

    asyncio.run(scene())


def test_without_a_queue_whoever_finds_a_slot_is_answered(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(engine_for(tiny_model, 1), queue=0) as worker:
            for _ in range(2):
                (ticket,) = worker.submit([request(tiny_model)])
                assert (await reply_of(ticket)).finished is not None

    asyncio.run(scene())


def test_who_leaves_frees_the_slot_before_the_next_step(tiny_model: MetacogModel) -> None:
    engine = Paced(tiny_model, 1)

    async def scene() -> None:
        async with working(engine, queue=2) as worker:
            first, second = worker.submit([request(tiny_model, seed=seed) for seed in (0, 1)])
            engine.let.release()
            assert isinstance(await next_of(first), Step)
            worker.cancel(first)
            engine.let.release(ENOUGH)
            reply = await reply_of(second)
            assert engine.written.count(first.id) <= 2, "one step was under way"
            assert engine.written.count(second.id) == len(reply.steps)
            worker.cancel(first)  # twice is once

    asyncio.run(scene())


def test_a_row_whose_neighbour_left_writes_what_it_writes_alone(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(engine_for(tiny_model, 2), queue=2) as worker:
            leaving, staying = worker.submit([request(tiny_model, seed=s) for s in (0, 1)])
            assert isinstance(await next_of(leaving), Step)
            worker.cancel(leaving)
            together = [step.token for step in (await reply_of(staying)).steps]
            (alone,) = worker.submit([request(tiny_model, seed=1)])
            assert together == [step.token for step in (await reply_of(alone)).steps]

    asyncio.run(scene())


def test_nothing_is_taken_once_it_has_stopped(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(engine_for(tiny_model, 1), queue=2) as worker:
            pass
        assert not worker.alive
        with pytest.raises(Broken, match="Start the server again"):
            worker.submit([request(tiny_model)])

    asyncio.run(scene())
