"""S8, S9, S10: an engine that fails or falls silent, an orderly end, and a log that holds no prompt."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

from metacog.config.serving import BatchConfig
from metacog.decode.engine import Arrivals, Engine, Event
from metacog.decode.settings import request_for
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Request
from metacog.serve import worker as worker_module
from metacog.serve.errors import Broken
from metacog.serve.run import engine_for
from metacog.serve.ticket import Ticket
from metacog.serve.worker import Worker
from metacog.text.render import render
from tests.unit.serve.serving import KEY, QUESTION, body, configured, served

CANARY = "zebra-4711"


class Failing(Engine):
    """An engine that breaks in the middle of its first reply."""

    broken = False

    def serve(self, arrivals: Arrivals) -> Iterator[Event]:
        for count, event in enumerate(super().serve(arrivals)):
            if count == 3 and not self.broken:
                self.broken = True
                raise RuntimeError(f"no memory for {CANARY}")
            yield event


class Ending(Engine):
    """An engine that does something once a first reply has ended, before the next step."""

    then: Callable[[], None]
    done = False

    def serve(self, arrivals: Arrivals) -> Iterator[Event]:
        for event in super().serve(arrivals):
            yield event
            if isinstance(event, Generation) and not self.done:
                self.done = True
                self.then()


class Silent(Engine):
    """An engine that says nothing until it is let."""

    let = threading.Event()

    def serve(self, arrivals: Arrivals) -> Iterator[Event]:
        for event in super().serve(arrivals):
            self.let.wait(60)
            yield event


def request(model: MetacogModel, seed: int = 0) -> Request:
    ids = tuple(render(model.base.tokenizer, [{"role": "user", "content": QUESTION}]))
    return request_for(model, ids, budget=-1, seed=seed, temperature=1.0)


async def last_of(ticket: Ticket) -> Event | None:
    while True:
        event = await asyncio.wait_for(ticket.events.get(), 60)
        if event is None or isinstance(event, Generation):
            return event


def test_an_engine_that_fails_says_so_and_begins_anew(
    tiny_model: MetacogModel, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(Failing(tiny_model, engine_for(tiny_model, 2).settings), BatchConfig())

    async def scene() -> None:
        worker.start()
        lost = worker.submit([request(tiny_model), request(tiny_model, 1)])
        assert [await last_of(ticket) for ticket in lost] == [None, None]
        (found,) = worker.submit([request(tiny_model, 2)])
        assert isinstance(await last_of(found), Generation)
        await asyncio.to_thread(worker.stop)

    with caplog.at_level(logging.INFO, "metacog.serve"):
        asyncio.run(scene())
    assert "RuntimeError" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize("how", ["fails", "is given up"])
def test_a_reply_that_has_ended_arrives_whatever_comes_then(
    tiny_model: MetacogModel, how: str
) -> None:
    engine = Ending(tiny_model, engine_for(tiny_model, 4).settings)
    worker = Worker(engine, BatchConfig())
    engine.then = breaking if how == "fails" else worker.give_up

    async def scene() -> None:
        worker.start()
        short = replace(request(tiny_model), budget=0)
        tickets = worker.submit([short, *(request(tiny_model, seed) for seed in (1, 2, 3))])
        ended, *lost = [await last_of(ticket) for ticket in tickets]
        assert isinstance(ended, Generation)
        assert lost == [None, None, None]
        await asyncio.to_thread(worker.stop)

    asyncio.run(scene())


def breaking() -> None:
    raise RuntimeError("no memory")


def test_a_silent_engine_is_not_ready_and_given_up(
    tiny_model: MetacogModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STALL_SECONDS", 0.2)
    worker = Worker(Silent(tiny_model, engine_for(tiny_model, 2).settings), BatchConfig())

    async def scene() -> None:
        worker.start()
        assert worker.ready
        (waiting,) = worker.submit([request(tiny_model)])
        await asyncio.sleep(0.5)
        assert not worker.ready
        worker.give_up()
        assert await last_of(waiting) is None
        with pytest.raises(Broken):
            worker.submit([request(tiny_model)])
        Silent.let.set()

    asyncio.run(scene())


def test_an_end_lets_running_replies_end(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        worker = Worker(engine_for(tiny_model, 2), BatchConfig())
        worker.start()
        running = worker.submit([request(tiny_model, seed) for seed in range(2)])
        await running[0].events.get()
        ending = asyncio.create_task(asyncio.to_thread(worker.stop, 60.0))
        replies = [await last_of(ticket) for ticket in running]
        assert all(isinstance(reply, Generation) for reply in replies)
        await ending
        with pytest.raises(Broken):
            worker.submit([request(tiny_model)])

    asyncio.run(scene())


def test_an_end_that_takes_too_long_ends_replies_as_they_stand(tiny_model: MetacogModel) -> None:
    async def scene() -> None:
        worker = Worker(engine_for(tiny_model, 1), BatchConfig())
        worker.start()
        running, waiting = worker.submit([request(tiny_model, seed) for seed in range(2)])
        await running.events.get()
        begun = time.monotonic()
        await asyncio.to_thread(worker.stop, 0.0)
        assert time.monotonic() - begun < 10
        assert isinstance(await last_of(running), Generation)
        assert await last_of(waiting) is None

    asyncio.run(scene())


def test_no_prompt_key_or_thought_is_logged(
    tiny_model: MetacogModel, caplog: pytest.LogCaptureFixture
) -> None:
    head = {"Authorization": f"Bearer {KEY}"}
    told = [{"role": "user", "content": f"{CANARY} {QUESTION}"}]
    with caplog.at_level(logging.DEBUG), served(tiny_model, configured()) as url:
        for more in ({}, {"plan": CANARY}, {"no_such": CANARY}, {"stream": True}):
            asked = body(messages=told, thinking_token_budget=8, **more)
            found = httpx.post(f"{url}/v1/chat/completions", headers=head, json=asked)
            assert found.status_code in {200, 400}
        httpx.get(f"{url}/{CANARY}", headers=head)
        figures = httpx.get(f"{url}/metrics", headers=head).text
    ours = "\n".join(
        r.getMessage() for r in caplog.records if r.name.startswith(("metacog", "uvicorn"))
    )
    assert "/v1/chat/completions 200" in ours
    assert CANARY not in ours + figures
    assert KEY not in ours + figures
