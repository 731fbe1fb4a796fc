"""One body that is being answered: whole replies, or chunks as they come."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from metacog.records import Generation, Opened, Request, Step
from metacog.serve import report
from metacog.serve.errors import Broken, error_body
from metacog.serve.metrics import Metrics
from metacog.serve.pieces import Speech
from metacog.serve.shapes import Shape
from metacog.serve.ticket import Ticket
from metacog.serve.wire import Asked
from metacog.serve.worker import Worker

Data = dict[str, Any]


class Answer:
    """The replies to one body.

    Args:
        worker: Writes them.
        asked: The body.
        requests: One for each reply.
        shape: Of the endpoint.
        hidden: Whether thinking is only counted.
        metrics: Told of each reply.
    """

    def __init__(
        self,
        worker: Worker,
        asked: Asked,
        requests: list[Request],
        *,
        shape: Shape,
        hidden: bool,
        metrics: Metrics,
    ) -> None:
        base = worker.engine.model.base
        self.worker, self.asked, self.shape, self.metrics = worker, asked, shape, metrics
        self.hidden = hidden or not asked.include_reasoning
        self.prompt = sum(len(request.prompt) for request in requests[:: asked.n])
        self.speeches = [Speech(base, asked.stops) for _ in requests]
        self.replies: list[Generation | None] = [None] * len(requests)
        self.begun = time.monotonic()
        self.tickets = worker.submit(requests)
        self.head: Data = {
            "id": f"{shape.prefix}{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model,
        }

    async def whole(self) -> Data:
        """Return all replies when the last one has ended."""
        try:
            await asyncio.gather(*(self._drain(at) for at in range(len(self.tickets))))
        finally:
            self.leave()
        choices = [self._choice(at) for at in range(len(self.tickets))]
        return self.head | {"object": self.shape.whole, "choices": choices, "usage": self._usage()}

    async def chunks(self) -> AsyncIterator[str]:
        """Yield server-sent events: one reply after the other has begun, all interleaved."""
        out: asyncio.Queue[Data | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._stream(at, out)) for at in range(len(self.tickets))]
        try:
            open_ = len(tasks)
            while open_:
                choice = await out.get()
                open_ -= choice is None
                if choice is not None:
                    yield self._event([choice])
            await asyncio.gather(*tasks)
            if self.asked.wants_usage:
                yield self._event([], usage=self._usage())
            yield "data: [DONE]\n\n"
        except Broken as error:
            yield f"data: {json.dumps(error_body(503, str(error), 'engine_stopped'))}\n\n"
        finally:
            for task in tasks:
                task.cancel()
            self.leave()

    def leave(self) -> None:
        """Let go of whatever still runs."""
        for ticket in self.tickets:
            self.worker.cancel(ticket)

    @property
    def tokens(self) -> int:
        """Tokens that were written so far."""
        return sum(speech.tokens for speech in self.speeches)

    async def _steps(self, at: int) -> AsyncIterator[tuple[str, str] | Opened]:
        """Yield what one reply grows by; what came together is one piece."""
        ticket, speech = self.tickets[at], self.speeches[at]
        while self.replies[at] is None:
            thinking, answer = "", ""
            for event in await _next(ticket):
                if isinstance(event, Opened):
                    yield event
                elif isinstance(event, Generation):
                    self.replies[at] = event
                elif not speech.answer.stopped:
                    more = self._heard(event, speech)
                    thinking, answer = thinking + more[0], answer + more[1]
            if speech.answer.stopped:
                self.worker.end(ticket)
            yield thinking, answer
        yield speech.end()
        reply = self.replies[at]
        assert reply is not None, "a reply is counted before it has ended."
        self.metrics.replied(reply.budget, speech.tokens, time.monotonic() - self.begun)

    def _heard(self, step: Step, speech: Speech) -> tuple[str, str]:
        if not speech.tokens:
            self.metrics.first_token.observe(time.monotonic() - self.begun)
        return speech.push(step)

    async def _drain(self, at: int) -> None:
        async for _ in self._steps(at):
            pass

    async def _stream(self, at: int, out: "asyncio.Queue[Data | None]") -> None:
        try:
            first = self.shape.first()
            if first is not None:
                out.put_nowait(choice_of(at, first))
            async for piece in self._steps(at):
                if isinstance(piece, Opened):
                    if self.asked.metacog:
                        nothing = self.shape.delta("", "") | {"metacog": report.opened(piece)}
                        out.put_nowait(choice_of(at, nothing))
                    continue
                thinking, answer = piece
                if answer or (thinking and not self.hidden):
                    shown = "" if self.hidden else thinking
                    out.put_nowait(choice_of(at, self.shape.delta(shown, answer), **self._far(at)))
            out.put_nowait(choice_of(at, self.shape.delta("", ""), **self._last(at)))
        finally:
            out.put_nowait(None)

    def _choice(self, at: int) -> Data:
        speech = self.speeches[at]
        thinking = None if self.hidden else speech.thinking.text
        return choice_of(at, self.shape.choice(thinking, speech.answer.text), **self._last(at))

    def _far(self, at: int) -> Data:
        """Return how far thinking has come, for who asked to be told."""
        return {"metacog": {"used": self.speeches[at].thinking.count}} if self.asked.metacog else {}

    def _last(self, at: int) -> Data:
        reply, speech = self.replies[at], self.speeches[at]
        assert reply is not None, "a reply is looked at before it has ended."
        ended = speech.answer.stopped or reply.finished
        found: Data = {"finish_reason": "stop" if ended else "length"}
        if self.asked.metacog:
            found["metacog"] = report.metacog(reply, speech.tokens, hidden=self.hidden)
        return found

    def _usage(self) -> Data:
        used = [0 if reply is None else reply.budget.used for reply in self.replies]
        spent = [speech.tokens for speech in self.speeches]
        return report.usage(self.prompt, list(zip(spent, used, strict=True)))

    def _event(self, choices: list[Data], **more: Any) -> str:
        chunk = {**self.head, "object": self.shape.chunk, "choices": choices, **more}
        return f"data: {json.dumps(chunk)}\n\n"


def choice_of(at: int, said: Data, **more: Any) -> Data:
    """Return one choice of a reply or a chunk."""
    return {"index": at, **said, "finish_reason": None, "logprobs": None, **more}


async def _next(ticket: Ticket) -> list[Any]:
    """Return the events that are there, at least one."""
    found = [await ticket.events.get()]
    while not ticket.events.empty():
        found.append(ticket.events.get_nowait())
    if None in found:
        raise Broken("Wanted a running engine, and it stopped during the reply. Ask again later.")
    return found
