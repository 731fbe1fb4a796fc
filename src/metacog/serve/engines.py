"""Other engines that a planned reply may be written by, each asked in its own words.

An engine that takes the ids of a prompt gets those that the layer read. One that renders messages itself
gets the messages, and whether it renders them alike is its template's matter.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import httpx

from metacog.decode.terms import NO_LIMIT
from metacog.model.base import Base
from metacog.records import CloseReason, Request, Segment, Step
from metacog.serve.errors import Refused, Unreachable
from metacog.serve.pieces import Pieces, Speech
from metacog.serve.upstream import Choice, Delta, choices_in, refusal

Data = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """A reply that is wanted, planned."""

    request: Request
    """Checked."""
    messages: list[Data] | None
    """The conversation; None for a text that goes on."""
    budget: int
    """THINK tokens to enforce; -1 for no limit but the reply's."""
    room: int
    """THINK tokens that leave enough of the reply for the closer and an answer."""
    temperature: float
    top_p: float
    marks: tuple[int, ...] = ()
    """Of the plan, at the start of THINK; part of the budget."""
    stops: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether there is a budget to enforce."""
        return self.budget != NO_LIMIT


@dataclass
class Written:
    """A reply as far as it has come."""

    think: int = 0
    """THINK tokens."""
    tokens: int = 0
    """All tokens, the closer among them where it is known."""
    finished: str | None = None
    """The engine's `finish_reason`."""
    reason: CloseReason | None = None
    """Why THINK ended; None where the engine does not tell."""
    stopped: bool = False
    """A text that ends an answer has come."""
    heard: bool = False
    """Anything has come."""


Piece = tuple[str, str]
"""What a reply has grown by: thinking, answer."""


@runtime_checkable
class OtherEngine(Protocol):
    """Writes replies under budgets."""

    name: str

    def reply(self, order: Order, written: Written) -> AsyncIterator[Piece]:
        """Yield one reply as it comes and keep account of it.

        Raises:
            Refused: If the engine will not do as asked.
            Busy: If it has no room.
            Unreachable: If it does not answer, or breaks off.
        """


class Connection:
    """The way to an engine.

    Args:
        url: Of its API, without `/v1`.
        model: As the engine names it.
        key: Bearer key, or None.
        seconds: Longest silence.
    """

    def __init__(self, url: str, model: str, key: str | None, seconds: float = 300.0) -> None:
        head = {"Authorization": f"Bearer {key}"} if key else {}
        self.url, self.model = url.rstrip("/").removesuffix("/v1"), model
        self.client = httpx.AsyncClient(
            base_url=self.url, headers=head, timeout=httpx.Timeout(seconds, connect=5.0)
        )

    async def answers(self) -> bool:
        """Return whether the engine is there and has the model."""
        try:
            reply = await self.client.get("/v1/models", timeout=5.0)
            return self.model in {one["id"] for one in reply.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False

    async def choices(self, path: str, body: Data) -> AsyncIterator[Choice]:
        """Yield the choices of a stream, one after the other; what is left is dropped when closed."""
        asked = {"model": self.model, "stream": True, **body}
        try:
            async with self.client.stream("POST", path, json=asked) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    raise refusal(reply)
                async for line in reply.aiter_lines():
                    for choice in choices_in(line):
                        yield choice
        except httpx.HTTPError as error:
            raise Unreachable(
                f"Wanted a reply of the engine at {self.url}, and the connection failed "
                f"({type(error).__name__}). Start the engine, or name another with --upstream."
            ) from error


def sampling(order: Order) -> Data:
    """Return the sampler's settings by OpenAI's names."""
    request = order.request
    seed = request.seed + (request.noise_id or 0)
    return {"temperature": order.temperature, "top_p": order.top_p, "seed": seed % 2**63}


class Vllm:
    """vLLM, started with `--reasoning-config`: budgets as `thinking_token_budget`, ids in and out."""

    name = "vllm"

    def __init__(self, connection: Connection, base: Base) -> None:
        self.connection, self.base = connection, base

    async def reply(self, order: Order, written: Written) -> AsyncIterator[Piece]:
        """Yield a reply, split by its ids as the engine of training splits them."""
        named = self._named(order)
        forced_at = order.budget if named else named
        speech = Speech(self.base, order.stops)
        split = _Split(self.base, written, forced_at, disabled=order.budget == 0)
        body = {
            "prompt": [*order.request.prompt, *order.marks],
            "max_tokens": order.request.max_new_tokens - len(order.marks),
            "return_token_ids": True,
            **({"thinking_token_budget": named} if named is not None else {}),
            **sampling(order),
        }
        for token in order.marks:
            yield split.push(token, speech)
        async for choice in self.connection.choices("/v1/completions", body):
            thinking, answer = "", ""
            for token in _ids(choice):
                if speech.answer.stopped:
                    break
                more = split.push(token, speech)
                thinking, answer = thinking + more[0], answer + more[1]
            written.finished = choice.finish_reason or written.finished
            yield thinking, answer
            if speech.answer.stopped:
                written.stopped = True
                break
        yield speech.end()

    def _named(self, order: Order) -> int | None:
        """Return the number that keeps a budget, None where there is none.

        vLLM 0.32 thinks len(opener) - 1 tokens longer where the opener stands in the prompt and the
        budget is not 0.
        """
        longer = len(self.base.tags.think_open) - 1
        return max(0, order.budget - longer) if order.limited else None


def _ids(choice: Choice) -> list[int]:
    if choice.text and choice.token_ids is None:
        raise Unreachable(
            "Wanted the ids of what the engine wrote (return_token_ids), got text alone. Run a newer "
            "vLLM, or the proxy with --engine two-calls."
        )
    return choice.token_ids or []


class _Split:
    """Says of each id whether it is THINK, the closer or ANSWER.

    Args:
        base: Whose ids come.
        written: Told what came.
        forced_at: THINK tokens after which the engine closes, None for never.
        disabled: Whether no thinking was wanted.
    """

    def __init__(
        self, base: Base, written: Written, forced_at: int | None, *, disabled: bool
    ) -> None:
        self.tags, self.closer, self.written = base.tags, base.tags.think_close, written
        self.forced_at, self.disabled = forced_at, disabled
        self._held: list[int] = []
        self._closed = False

    def push(self, token: int, speech: Speech) -> Piece:
        """Take an id; those that a closer may begin with are held back until it is one, or not."""
        self.written.tokens += 1
        if self._closed:
            return self._say(token, Segment.ANSWER, speech)
        if token in self.tags.eos:
            return "", ""  # the reply ended inside THINK
        self._held.append(token)
        if tuple(self._held) == self.closer:
            self._close()
            *first, last = self._held
            said = [self._say(held, Segment.THINK, speech) for held in first]
            return "".join(s[0] for s in [*said, self._say(last, Segment.CLOSE, speech)]), ""
        thinking = ""
        while self._held and tuple(self._held) != self.closer[: len(self._held)]:
            thinking += self._say(self._held.pop(0), Segment.THINK, speech)[0]
            self.written.think += 1
        return thinking, ""

    def _close(self) -> None:
        self._closed = True
        if self.forced_at is None or self.written.think < self.forced_at:
            self.written.reason = CloseReason.NATURAL
        else:
            self.written.reason = CloseReason.DISABLED if self.disabled else CloseReason.BUDGET

    def _say(self, token: int, segment: Segment, speech: Speech) -> Piece:
        return speech.push(Step(0, self.written.tokens, token, segment, True, False, 0.0))


class TwoCalls:
    """Any engine with `/v1/completions`: one call thinks, at most the budget; the next one answers."""

    name = "two-calls"

    def __init__(self, connection: Connection, base: Base) -> None:
        self.connection, self.base = connection, base

    async def reply(self, order: Order, written: Written) -> AsyncIterator[Piece]:
        """Yield the thinking, then the answer behind a closer that this side writes."""
        base = self.base
        closer = base.decode(base.tags.think_close, with_control=True)
        prompt = base.decode(order.request.prompt, with_control=True)
        thought = base.decode(order.marks, with_control=True)
        yield thought, ""
        most = (order.budget if order.limited else order.room) - len(order.marks)
        ended = None if most > 0 else "length"
        if most > 0:
            body = {
                "prompt": prompt + thought,
                "max_tokens": most,
                "stop": [closer],
                **sampling(order),
            }
            async for choice in self.connection.choices("/v1/completions", body):
                thought += choice.text or ""
                ended = choice.finish_reason or ended
                yield choice.text or "", ""
        written.reason = _why(ended, order)
        written.think = len(base.encode(thought))
        answer = Pieces(base, order.stops, strip=True)
        said = ""
        async for text in self._answer(prompt + thought + closer, order, written):
            said += text
            yield "", answer.add(text)
            if answer.stopped:
                written.stopped = True
                break
        yield "", answer.end()
        written.tokens = written.think + len(base.tags.think_close) + len(base.encode(said))

    async def _answer(self, prompt: str, order: Order, written: Written) -> AsyncIterator[str]:
        request, spent = order.request, written.think + len(self.base.tags.think_close)
        most = max(1, min(request.max_answer_tokens, request.max_new_tokens - spent))
        body = {"prompt": prompt, "max_tokens": most, **sampling(order)}
        async for choice in self.connection.choices("/v1/completions", body):
            written.finished = choice.finish_reason or written.finished
            yield choice.text or ""


def _why(finished: str | None, order: Order) -> CloseReason:
    if finished != "length":
        return CloseReason.NATURAL
    if not order.limited:
        return CloseReason.MAX_TOKENS
    return CloseReason.BUDGET if order.budget else CloseReason.DISABLED


class Chats:
    """An engine that renders messages itself and takes a budget with them.

    Args:
        name: Of the engine.
        connection: To it.
        base: Whose tokenizer counts what was thought.
    """

    def __init__(self, name: str, connection: Connection, base: Base) -> None:
        self.name, self.connection, self.base = name, connection, base

    async def reply(self, order: Order, written: Written) -> AsyncIterator[Piece]:
        """Yield what the engine itself tells apart; why THINK ended it does not say."""
        if order.messages is None:
            raise Refused(
                f"Wanted a conversation: {self.name} takes no budget with a text. Ask "
                "/v1/chat/completions, or run the proxy with --engine two-calls."
            )
        thought, said = "", ""
        answer = Pieces(self.base, order.stops, strip=True)
        body = {
            "messages": order.messages,
            "max_tokens": order.request.max_new_tokens,
            **(_BUDGETS[self.name](order.budget) if order.limited else {}),
            **sampling(order),
        }
        async for choice in self.connection.choices("/v1/chat/completions", body):
            delta = choice.delta or Delta()
            thought, said = thought + delta.thinking, said + (delta.content or "")
            written.finished = choice.finish_reason or written.finished
            yield delta.thinking, answer.add(delta.content or "")
            if answer.stopped:
                written.stopped = True
                break
        yield "", answer.end()
        written.think = len(self.base.encode(thought))
        written.tokens = written.think + len(self.base.encode(said))


def _sglang(budget: int) -> Data:
    return {"custom_params": {"thinking_budget": budget}}


def _llama(budget: int) -> Data:
    return {"thinking_budget_tokens": budget}


_BUDGETS: dict[str, Callable[[int], Data]] = {"sglang": _sglang, "llama.cpp": _llama}
"""How each engine that renders messages is told a budget."""

ENGINES = ("vllm", "two-calls", *_BUDGETS)


def engine_named(name: str, connection: Connection, base: Base) -> OtherEngine:
    """Return the engine of a name among `ENGINES`."""
    if name == Vllm.name:
        return Vllm(connection, base)
    return TwoCalls(connection, base) if name == TwoCalls.name else Chats(name, connection, base)
