"""One row for every reply that was measured: what was asked, what happened, whether it was right."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from metacog.data.tasks.families import FAMILIES, Domain
from metacog.data.tasks.questions import Question, score
from metacog.errors import DataError
from metacog.eval.violations import places, violations
from metacog.records import CloseReason, Generation

RowKey = tuple[str, int]
"""Question and sampling seed: what the replies of all arms are paired by."""


@dataclass(frozen=True)
class EvalRow:
    """One reply under one arm. What is not known is None, never a number that stands in for it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    question_id: str
    family: str
    domain: Domain
    level: int
    arm: str
    seed: int
    requested: int | None
    """The caller's budget, -1 for no limit, None for `auto`."""
    predicted: int | None
    enforced: int | None
    """The cap at the start of THINK; None where only the reply's limit binds."""
    used: int
    """THINK tokens."""
    answer_tokens: int
    spend: int
    """THINK and ANSWER tokens."""
    close_reason: CloseReason | None
    finished: bool
    """The reply ended by itself; False where a token limit ended it."""
    correct: bool
    confidence: float | None
    """The prompt reading's, at the enforced budget."""
    ready_at_close: float | None
    """The last re-reading's probability of being right if THINK closed there."""
    rereadings: int
    revisions: int
    plan: str | None
    gate_coverage: float | None
    """Share of THINK tokens on which the gate's switch is on."""
    need: int | None
    """Of the uncapped reply to the same question with the same seed; None where that ends wrong."""
    alpha: tuple[float, ...] | None
    """The aggregator's weight of each block at the end of the prompt."""
    answer_empty: bool
    answer_has_tag: bool
    answer_runs_on: bool
    """The answer was cut by its limit, or has more lines than the right one."""
    no_answer_after_forced_close: bool
    cap_violation: bool
    """THINK, counted from the reply's tokens, is longer than a cap, or there isn't one closer."""

    @property
    def key(self) -> RowKey:
        """What the rows of all arms are paired by."""
        return (self.question_id, self.seed)

    @property
    def escaped(self) -> bool:
        """Reasoning went on in the answer, a tag came back, or there was no answer."""
        return self.answer_empty or self.answer_has_tag or self.answer_runs_on


@dataclass(frozen=True)
class AnswerReader:
    """Turns the ids of an answer into the text that is scored."""

    decode: Callable[[list[int]], str]
    """The tokenizer's, with control tokens left in: a tag that comes back makes an answer wrong."""
    end: frozenset[int]
    """Ids that end a reply; they are no part of its answer."""
    tags: tuple[tuple[int, ...], ...]
    """Ids of every mark that opens or closes a segment."""
    close: tuple[int, ...]
    """Ids of the closer of THINK."""

    def text(self, answer: Sequence[int]) -> str:
        """Return the answer without the end of the reply and without white space around it."""
        ids = list(answer)
        while ids and ids[-1] in self.end:
            ids.pop()
        return self.decode(ids).strip()

    def has_tag(self, answer: Sequence[int]) -> bool:
        """Return whether any mark stands in an answer."""
        return any(places(answer, tag) for tag in self.tags)


def row_of(
    generation: Generation,
    question: Question,
    reader: AnswerReader,
    *,
    arm: str,
    seed: int,
    need: int | None = None,
) -> EvalRow:
    """Return the row of one reply."""
    budget, reading = generation.budget, generation.reading
    text = reader.text(generation.answer)
    ready = [step.rereading.ready for step in generation.steps if step.rereading is not None]
    forced = budget.close_reason not in (None, CloseReason.NATURAL)
    return EvalRow(
        question_id=question.id,
        family=question.family,
        domain=FAMILIES[question.family].domain,
        level=question.level,
        arm=arm,
        seed=seed,
        requested=budget.requested,
        predicted=budget.predicted,
        enforced=budget.enforced,
        used=budget.used,
        answer_tokens=len(generation.answer),
        spend=generation.spend,
        close_reason=budget.close_reason,
        finished=generation.finished,
        correct=bool(text) and score(question, text),
        confidence=None if reading is None else reading.confidence,
        ready_at_close=ready[-1] if ready else None,
        rereadings=len(ready),
        revisions=len(budget.revisions),
        plan=generation.plan,
        gate_coverage=None if generation.gate is None else generation.gate.coverage,
        need=need,
        alpha=None if reading is None else reading.alpha,
        answer_empty=not text,
        answer_has_tag=reader.has_tag(generation.answer),
        answer_runs_on=not generation.finished
        or len(text.splitlines()) > len(question.answer.splitlines()),
        no_answer_after_forced_close=forced and not text,
        cap_violation=bool(violations(generation, reader.close)),
    )


_ADAPTER = TypeAdapter(EvalRow)


def write_rows(path: Path, rows: Iterable[EvalRow]) -> int:
    """Write one JSON object a line, null for what is missing, and return how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(asdict(row), allow_nan=False) + "\n")
            written += 1
    return written


def read_rows(path: Path) -> Iterator[EvalRow]:
    """Yield the rows of a file that `write_rows` wrote.

    Raises:
        DataError: If the file is missing or a line is no row.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield _parsed(line, path, number)
    except OSError as error:
        raise DataError(
            f"Wanted a file of rows at {path}, got {error.strerror}. "
            "Write one with `metacog eval --rows`."
        ) from error


def _parsed(line: str, path: Path, number: int) -> EvalRow:
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DataError(
            f"Wanted an evaluation row in {path}, line {number}, but {where}: {first['msg']}. "
            "Write the file again with `metacog eval --rows`."
        ) from error
