"""`/v1/chat/completions`: one body in, whole replies or chunks out."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from metacog.errors import RunError
from metacog.records import Generation, Request
from metacog.serve import report
from metacog.serve.pieces import Speech
from metacog.serve.wire import ChatRequest
from metacog.serve.worker import Broken, Ticket, Worker

Data = dict[str, Any]


class Chat:
    """One chat request that is being answered."""

    def __init__(self, worker: Worker, asked: ChatRequest, requests: list[Request]) -> None:
        base = worker.engine.model.base
        self.worker, self.asked = worker, asked
        self.prompt = len(requests[0].prompt)
        self.speeches = [Speech(base, asked.stops) for _ in requests]
        self.replies: list[Generation | None] = [None] * len(requests)
        self.tickets = worker.submit(requests)
        self.head: Data = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
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
        return {
            **self.head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage(),
        }

    async def chunks(self) -> AsyncIterator[str]:
        """Yield server-sent events: one reply after the other has begun, all interleaved."""
        out: asyncio.Queue[Data | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._stream(at, out)) for at in range(len(self.tickets))]
        try:
            open_ = len(tasks)
            while open_:
                delta = await out.get()
                open_ -= delta is None
                if delta is not None:
                    yield self._event([delta])
            await asyncio.gather(*tasks)
            options = self.asked.stream_options
            if options is not None and options.include_usage:
                yield self._event([], usage=self._usage())
            yield "data: [DONE]\n\n"
        except RunError as error:
            yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'server_error'}})}\n\n"
        finally:
            for task in tasks:
                task.cancel()
            self.leave()

    def leave(self) -> None:
        """Let go of whatever still runs."""
        for ticket in self.tickets:
            self.worker.cancel(ticket)

    async def _steps(self, at: int) -> AsyncIterator[tuple[str, str]]:
        ticket, speech = self.tickets[at], self.speeches[at]
        while not speech.answer.stopped:
            event = await _next(ticket)
            if isinstance(event, Generation):
                self.replies[at] = event
                break
            yield speech.push(event)
        self.worker.cancel(ticket)
        yield speech.thinking.end(), speech.answer.end()

    async def _drain(self, at: int) -> None:
        async for _ in self._steps(at):
            pass

    async def _stream(self, at: int, out: "asyncio.Queue[Data | None]") -> None:
        try:
            out.put_nowait(_delta(at, {"role": "assistant", "content": ""}))
            async for thinking, answer in self._steps(at):
                if thinking:
                    both = {"reasoning": thinking, "reasoning_content": thinking}
                    out.put_nowait(_delta(at, both))
                if answer:
                    out.put_nowait(_delta(at, {"content": answer}))
            last = _delta(at, {}) | {"finish_reason": report.finish_reason(self.replies[at])}
            if self.asked.metacog:
                last["metacog"] = report.metacog(self.replies[at])
            out.put_nowait(last)
        finally:
            out.put_nowait(None)

    def _choice(self, at: int) -> Data:
        speech, reply = self.speeches[at], self.replies[at]
        thinking = speech.thinking.text
        choice: Data = {
            "index": at,
            "message": {
                "role": "assistant",
                "content": speech.answer.text,
                "reasoning": thinking,
                "reasoning_content": thinking,
            },
            "finish_reason": report.finish_reason(reply),
            "logprobs": None,
        }
        return choice | ({"metacog": report.metacog(reply)} if self.asked.metacog else {})

    def _usage(self) -> Data:
        return report.usage(self.prompt, [(s.tokens, s.thinking.count) for s in self.speeches])

    def _event(self, choices: list[Data], **more: Any) -> str:
        chunk = {**self.head, "object": "chat.completion.chunk", "choices": choices, **more}
        return f"data: {json.dumps(chunk)}\n\n"


def _delta(at: int, delta: Data) -> Data:
    return {"index": at, "delta": delta, "finish_reason": None, "logprobs": None}


async def _next(ticket: Ticket) -> Any:
    event = await ticket.events.get()
    if event is None:
        raise Broken("Wanted a running engine, and it stopped during the reply. Ask again later.")
    return event
