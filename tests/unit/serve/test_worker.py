"""The thread that owns the model: who joins, who leaves, and who is told to come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from metacog.decode.settings import request_for
from metacog.decode.terms import NO_LIMIT
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request, Step
from metacog.serve.run import engine_for
from metacog.serve.worker import Broken, Busy, Ticket, Worker
from metacog.text.render import render

SECONDS = 60


def request(model: MetacogModel, *, seed: int = 0) -> Request:
    """Return a request that runs for hundreds of steps."""
    ids = tuple(render(model.base.tokenizer, [{"role": "user", "content": "What is 15 + 6?"}]))
    asked = request_for(model, ids, budget=NO_LIMIT, seed=seed, temperature=1.0)
    return replace(asked, noise_id=0)


@contextlib.asynccontextmanager
async def working(model: MetacogModel, *, rows: int, queue: int) -> AsyncIterator[Worker]:
    worker = Worker(engine_for(model, rows), queue)
    worker.start()
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.stop)


async def next_of(ticket: Ticket) -> Step | Generation | None:
    return await asyncio.wait_for(ticket.events.get(), SECONDS)


async def reply_of(ticket: Ticket) -> Generation:
    while not isinstance(event := await next_of(ticket), Generation):
        assert event is not None
    return event


def test_more_than_may_wait_are_refused_all_or_none(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(tiny_model, rows=1, queue=2) as worker:
            (first,) = worker.submit([request(tiny_model)])
            assert isinstance(await next_of(first), Step), "it has a slot"
            waiting = worker.submit([request(tiny_model, seed=seed) for seed in (1, 2)])
            with pytest.raises(Busy):
                worker.submit([request(tiny_model, seed=3)])
            assert worker.waiting == 2
            worker.cancel(waiting[0])
            (late,) = worker.submit([request(tiny_model, seed=4)])
            for ticket in (first, waiting[1], late):
                assert (await reply_of(ticket)).finished is not None
            assert waiting[0].events.empty(), "who left is told nothing"

    asyncio.run(scene())


def test_who_leaves_frees_the_slot_before_the_next_step(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(tiny_model, rows=1, queue=2) as worker:
            first, second = worker.submit([request(tiny_model, seed=seed) for seed in (0, 1)])
            assert isinstance(await next_of(first), Step)
            seen = first.events.qsize()
            worker.cancel(first)
            assert isinstance(await next_of(second), Step), "its slot went to the next one"
            assert first.events.qsize() <= seen + 1
            worker.cancel(first)  # twice is once
            await reply_of(second)

    asyncio.run(scene())


def test_a_row_whose_neighbour_left_writes_what_it_writes_alone(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(tiny_model, rows=2, queue=2) as worker:
            leaving, staying = worker.submit([request(tiny_model, seed=s) for s in (0, 1)])
            assert isinstance(await next_of(leaving), Step)
            worker.cancel(leaving)
            together = [step.token for step in (await reply_of(staying)).steps]
            (alone,) = worker.submit([request(tiny_model, seed=1)])
            assert together == [step.token for step in (await reply_of(alone)).steps]

    asyncio.run(scene())


def test_nothing_is_taken_once_it_has_stopped(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        async with working(tiny_model, rows=1, queue=2) as worker:
            pass
        assert not worker.alive
        with pytest.raises(Broken, match="Start the server again"):
            worker.submit([request(tiny_model)])

    asyncio.run(scene())
