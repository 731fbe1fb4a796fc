"""The one decode loop: batched, cached, rows joining and leaving between steps."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from metacog.decode.batch import Batch
from metacog.decode.budget import ControllerSettings
from metacog.decode.opening import Opener, OpeningSettings
from metacog.decode.rereading import RereadSettings
from metacog.decode.terms import NO_LIMIT, settle
from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.records import Generation, Opened, Request, Step

_GROUPS = 8
"""Prompts are read an eighth of the rows at a time: alone, one costs as much as many together."""


Event = Opened | Step | Generation
"""What the engine says while it decodes."""


@dataclass(frozen=True)
class EngineSettings:
    """How the engine decodes, beside what each request asks for."""

    rows: int = 64
    """Most rows that run at once."""
    opening: OpeningSettings = field(default_factory=OpeningSettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    reread: RereadSettings = field(default_factory=RereadSettings)
    gate: bool = True
    """Let the model's gate modulate its block."""
    telemetry: bool = False
    """Keep the experts' readings and the gate's figure for every token."""
    context: int | None = None
    """Most tokens of prompt and reply together, or None for all that the model holds."""


@runtime_checkable
class Arrivals(Protocol):
    """Says between two steps which requests join and which leave."""

    @property
    def ended(self) -> bool:
        """Nobody will join any more."""

    def joining(self, free: int, *, idle: bool) -> Sequence[Request]:
        """Return at most `free` requests; may wait for one where the batch is idle."""

    def leaving(self) -> Collection[int]:
        """Return the ids of requests that are to end as they stand."""


@dataclass
class _Given:
    """Requests that were all there at the start, read some at a time."""

    waiting: deque[Request]
    together: int
    """Fewest that are read at once, unless fewer are left."""

    @property
    def ended(self) -> bool:
        return not self.waiting

    def joining(self, free: int, *, idle: bool) -> Sequence[Request]:  # noqa: ARG002
        count = min(free, len(self.waiting))
        if count < min(self.together, len(self.waiting)):
            return ()
        return [self.waiting.popleft() for _ in range(count)]

    def leaving(self) -> Collection[int]:
        return ()


class Engine:
    """Answers requests, many at once; a request's tokens don't depend on its neighbours."""

    def __init__(self, model: MetacogModel, settings: EngineSettings | None = None) -> None:
        self.model = model
        self.settings = settings or EngineSettings()

    @property
    def context(self) -> int:
        """Most tokens of prompt and reply together."""
        held, limit = self.model.base.context, self.settings.context
        return held if limit is None else min(held, limit)

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        """Yield finished replies in the order in which they end."""
        for event in self._events(requests, steps=False):
            if isinstance(event, Generation):
                yield event

    def stream(self, requests: Iterable[Request]) -> Iterator[Step | Generation]:
        """Yield every token as it comes, and each reply when it has ended.

        A token is yielded before THINK is read again after it: re-readings stand only in the reply.
        """
        for event in self.follow(requests):
            if not isinstance(event, Opened):
                yield event

    def follow(self, requests: Iterable[Request]) -> Iterator[Event]:
        """Yield what `stream` yields, and what was decided for each reply before its first token."""
        yield from self._events(requests, steps=True)

    def _events(self, requests: Iterable[Request], *, steps: bool) -> Iterator[Event]:
        waiting = deque(sorted(requests, key=_longest_first))
        for request in waiting:
            self.check(request)
        if not waiting:
            return
        longest = max(len(r.prompt) + r.max_new_tokens for r in waiting)
        rows = min(self.settings.rows, len(waiting))
        together = max(1, self.settings.rows // _GROUPS)
        yield from self._run(_Given(waiting, together), longest, rows, steps=steps)

    def serve(self, arrivals: Arrivals) -> Iterator[Event]:
        """Yield every opening, token and reply, for as long as `arrivals` has not ended.

        Requests must have passed `check`; the reply to one that leaves is what it has written.
        """
        yield from self._run(arrivals, self.context, self.settings.rows, steps=True)

    def _run(self, arrivals: Arrivals, longest: int, rows: int, *, steps: bool) -> Iterator[Event]:
        batch = Batch(self.model, self.settings, longest, rows)
        while batch.running or not arrivals.ended:
            yield from batch.drop(arrivals.leaving())
            joining = arrivals.joining(batch.free, idle=not batch.running)
            if joining:
                batch.admit(joining)
                if steps:
                    yield from batch.newest(len(joining))
            if not batch.running:
                continue
            batch.choose_tokens()
            if steps:
                yield from batch.last_steps()
            yield from batch.retire()
            if batch.running:
                batch.forward()

    def check(self, request: Request) -> None:
        """Refuse what can't be answered before anything has begun.

        Raises:
            InputError: If the request cannot be answered as it asks.
        """
        Opener(self.model, self.settings.opening).check(request)
        settle(
            self.model.base.tags,
            self.settings.controller,
            budget=NO_LIMIT if request.budget is None else request.budget,
            max_new_tokens=request.max_new_tokens,
            max_answer_tokens=request.max_answer_tokens,
        )
        if not (request.temperature >= 0 and 0 < request.top_p <= 1):
            raise InputError(
                "Wanted a temperature of 0 or more and a top_p above 0 and at most 1, got "
                f"{request.temperature} and {request.top_p}. Name others."
            )
        wanted, context = len(request.prompt) + request.max_new_tokens, self.context
        if not request.prompt:
            raise InputError("Wanted a prompt of at least one token, got none.")
        if wanted > context:
            raise InputError(
                f"Prompt and reply may hold {context} tokens together, got a prompt of "
                f"{len(request.prompt)} and max_new_tokens {request.max_new_tokens}. "
                "Shorten the prompt or lower max_new_tokens."
            )


def _longest_first(request: Request) -> tuple[int, int]:
    """Sort by what a reply may take, then by its prompt: late long ones would run almost alone.

    Prompts of one length are also read together without padding.
    """
    budget = request.budget
    longest = request.max_new_tokens if budget is None or budget == NO_LIMIT else budget
    return -longest, -len(request.prompt)
