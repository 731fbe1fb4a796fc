"""One body that another engine answers: planned here, whole or in chunks as they come."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from metacog.decode.opening import Opening
from metacog.errors import RunError
from metacog.records import BudgetReport
from metacog.serve import report
from metacog.serve.answer import choice_of
from metacog.serve.engines import Order, OtherEngine, Written
from metacog.serve.errors import LOG, Busy, Refused, Unreachable, error_body, surviving
from metacog.serve.metrics import Metrics
from metacog.serve.shapes import Shape
from metacog.serve.wire import Asked

Data = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """A reply that is wanted, and what the layer read for it."""

    order: Order
    opening: Opening


class Relay:
    """The replies to one body.

    Args:
        engine: Writes them.
        asked: The body.
        planned: One for each reply.
        shape: Of the endpoint.
        hidden: Whether thinking is only counted.
        metrics: Told of each reply.
    """

    def __init__(
        self,
        engine: OtherEngine,
        asked: Asked,
        planned: list[Planned],
        *,
        shape: Shape,
        hidden: bool,
        metrics: Metrics,
    ) -> None:
        self.engine, self.asked, self.shape, self.metrics = engine, asked, shape, metrics
        self.planned = planned
        self.hidden = hidden or not asked.include_reasoning
        self.written = [Written() for _ in planned]
        self.begun = time.monotonic()
        self.head: Data = {
            "id": f"{shape.prefix}{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model,
        }

    async def whole(self) -> Data:
        """Return all replies when the last one has ended.

        Raises:
            Refused, Busy, Unreachable: As the engine's `reply` does.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._read(at)) for at in range(len(self.planned))]
        choices = []
        for at, task in enumerate(tasks):
            said = task.result()
            if isinstance(said, Exception):
                raise said
            thinking, answer = said
            choice = self.shape.choice(None if self.hidden else thinking, answer)
            choices.append(choice_of(at, choice, **self._last(at)))
        return self.head | {"object": self.shape.whole, "choices": choices, "usage": self._usage()}

    async def chunks(self) -> AsyncIterator[str]:
        """Yield server-sent events, the replies interleaved; an error ends them as its last one."""
        out: asyncio.Queue[Data | Exception | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._stream(at, out)) for at in range(len(self.planned))]
        try:
            open_ = len(tasks)
            while open_:
                said = await out.get()
                if isinstance(said, Exception):
                    yield _failure(said)
                    return
                open_ -= said is None
                if said is not None:
                    yield self._event([said])
            with surviving("a reply") as outcome:
                await asyncio.gather(*tasks)
            if outcome.failed:
                yield _failure(RunError("The server failed. Ask again; its log says where."))
                return
            if self.asked.wants_usage:
                yield self._event([], usage=self._usage())
            yield "data: [DONE]\n\n"
        finally:
            for task in tasks:
                task.cancel()

    async def _pieces(self, at: int) -> AsyncIterator[tuple[str, str]]:
        planned, written = self.planned[at], self.written[at]
        async for piece in self.engine.reply(planned.order, written):
            if any(piece) and not written.heard:
                written.heard = True
                self.metrics.first_token.observe(time.monotonic() - self.begun)
            yield piece
        budget = self._budget(at)
        if not self._kept(at):
            LOG.warning("the engine %s did not keep a budget", self.engine.name)
        self.metrics.replied(budget, written.tokens, time.monotonic() - self.begun)

    async def _read(self, at: int) -> tuple[str, str] | Exception:
        thinking, answer = "", ""
        try:
            async for piece in self._pieces(at):
                thinking, answer = thinking + piece[0], answer + piece[1]
        except (Refused, Busy, Unreachable) as error:
            return error
        return thinking, answer

    async def _stream(self, at: int, out: "asyncio.Queue[Data | Exception | None]") -> None:
        try:
            first = self.shape.first()
            if first is not None:
                out.put_nowait(choice_of(at, first))
            if self.asked.metacog:
                nothing = self.shape.delta("", "") | {"metacog": self._opened(at)}
                out.put_nowait(choice_of(at, nothing))
            async for thinking, answer in self._pieces(at):
                if answer or (thinking and not self.hidden):
                    shown = "" if self.hidden else thinking
                    out.put_nowait(choice_of(at, self.shape.delta(shown, answer)))
            out.put_nowait(choice_of(at, self.shape.delta("", ""), **self._last(at)))
        except (Refused, Busy, Unreachable) as error:
            out.put_nowait(error)
        finally:
            out.put_nowait(None)  # whatever happened, nobody may wait for more

    def _last(self, at: int) -> Data:
        written = self.written[at]
        found: Data = {"finish_reason": "stop" if written.stopped else written.finished}
        if self.asked.metacog:
            found["metacog"] = self._opened(at) | {
                "close_reason": written.reason,
                "budget": report.budget(self._budget(at)) | {"kept": self._kept(at)},
            }
        return found

    def _opened(self, at: int) -> Data:
        """Return what was read and planned, and what this way of answering leaves out."""
        opening = self.planned[at].opening
        return report.read(opening.plan, opening.reading) | {
            "budget": report.budget(self._budget(at)),
            "engine": self.engine.name,
            "gate": "unsupported",
            "gate_coverage": None,
            "rereadings": "unsupported",
        }

    def _budget(self, at: int) -> BudgetReport:
        order, opening = self.planned[at].order, self.planned[at].opening
        return BudgetReport(
            requested=order.request.budget,
            predicted=opening.predicted,
            enforced=order.budget if order.limited else None,
            used=self.written[at].think,
            close_reason=self.written[at].reason,
            source=opening.source,
        )

    def _kept(self, at: int) -> bool:
        order = self.planned[at].order
        return not order.limited or self.written[at].think <= order.budget

    def _usage(self) -> Data:
        prompts = self.planned[:: self.asked.n]
        spent = [(written.tokens, written.think) for written in self.written]
        return report.usage(sum(len(p.order.request.prompt) for p in prompts), spent)

    def _event(self, choices: list[Data], **more: Any) -> str:
        chunk = {**self.head, "object": self.shape.chunk, "choices": choices, **more}
        return f"data: {json.dumps(chunk)}\n\n"


def _failure(error: Exception) -> str:
    """Return the event that ends a stream in place of the rest, named as an answer without one is."""
    match error:
        case Refused():
            found = error_body(400, str(error), "invalid_value")
        case Busy():
            found = error_body(429, str(error), "queue_full")
        case Unreachable():
            found = error_body(502, str(error), "engine_unreachable")
        case _:
            found = error_body(500, str(error), "internal_error")
    return f"data: {json.dumps(found)}\n\n"
