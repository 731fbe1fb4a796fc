"""A sample event: one reply of the model, as the record that is written and as a line for people."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

_WIDTHS = {"question": 40, "thinking": 60, "answer": 30, "wanted": 30}
"""Characters of each text that a line shows, the middle left out."""


@dataclass(frozen=True)
class Verdict:
    """Whether a question was answered right, and from which step on it was so."""

    correct: bool
    since: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One reply to a question whose answer is known: the data of a `sample` event."""

    suite: str
    """What the question belongs to, such as `puzzles`."""
    number: int
    """Its place there, from 1; the same question at every step."""
    id: str
    """Hash of the normalised question."""
    question: str
    wanted: str
    thinking: str
    """THINK as text, marks included."""
    answer: str
    correct: bool
    think_tokens: int
    budget: int | None
    """Enforced THINK tokens, or None where only the reply's limit bound."""
    close_reason: str | None
    plan: str | None
    confidence: float | None
    since: int
    """Step from which `correct` has been what it is."""
    before: Verdict | None
    """What it was until now, only where it has just changed."""

    def as_data(self) -> dict[str, object]:
        """Return the sample as JSON values."""
        return asdict(self)


def describe_sample(data: Mapping[str, object]) -> str:
    """Return a sample event's data on one short line; what is missing shows as `-`."""
    shown = {name: _short(str(data.get(name, "-")), width) for name, width in _WIDTHS.items()}
    budget = data.get("budget")
    verdict = _verdict(data)
    return (
        f"{data.get('suite', 'sample')} {data.get('number', '-')} {verdict}  "
        f'"{shown["question"]}"  THINK {data.get("think_tokens", "-")}/'
        f"{'-' if budget is None else budget} {data.get('close_reason') or '-'} "
        f'"{shown["thinking"]}"  ANSWER "{shown["answer"]}"'
        + ("" if data.get("correct") else f' wanted "{shown["wanted"]}"')
    )


def _verdict(data: Mapping[str, object]) -> str:
    word = "right" if data.get("correct") else "wrong"
    before = data.get("before")
    if not isinstance(before, Mapping):
        return word
    was = "right" if before.get("correct") else "wrong"
    return f"{word} (was {was} since step {before.get('since', '-')})"


def _short(text: str, width: int) -> str:
    """Return text on one line with its middle left out where it is longer than `width`."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    head = (width - 1) // 2
    return f"{line[:head]}…{line[len(line) - (width - 1 - head) :]}"
