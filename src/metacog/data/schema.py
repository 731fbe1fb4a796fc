"""From a row's columns to an example: which columns there are, and what is wrong with a row."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from metacog.errors import DataError
from metacog.records import Example, Message, RowFault
from metacog.text.given import GivenReply, split_given

_ROLES = ("system", "developer", "user", "assistant", "tool")
_CALCULATION = re.compile(r"<<[^<>]*>>")
"""GSM8K's marks for a calculator, such as `<<48/2=24>>`, which stand beside the written sum."""


class RowKind(StrEnum):
    """The kinds of rows that can be read, told apart by their columns."""

    MESSAGES = "messages"
    """`messages`: turns with `role` and `content`; the last one is the reply."""
    RESPONSE = "prompt/response"
    """`prompt` and `response`: text."""
    COMPLETION = "prompt/completion"
    """`prompt` and `completion`: text, or turns on both sides."""
    WORKED = "question/answer"
    """`question` and `answer`, as in GSM8K: the solution, a line `#### ` and the result."""


class MalformedRow(ValueError):
    """A row that cannot be learned from; it is quarantined, and the stream goes on."""

    def __init__(self, fault: RowFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True)
class Origin:
    """Where a row came from."""

    source: str
    domain: str | None
    number: int
    """Rows that this process read before it in the same pass over the source."""


def kind_of(columns: Collection[str], source: str) -> RowKind:
    """Return the kind of a source's rows.

    Raises:
        DataError: Naming the columns found, where they are none of the kinds.
    """
    for kind in RowKind:
        if {*kind.value.split("/")} <= set(columns):
            return kind
    raise DataError(
        f"Wanted columns {', '.join(kind.value.replace('/', ' and ') for kind in RowKind)} in "
        f"{source}, found {', '.join(sorted(columns)) or 'none'}. Rename the columns, or name "
        "another data set in data.dataset or data.path."
    )


def example_of(values: Mapping[str, Any], kind: RowKind, origin: Origin) -> Example:
    """Return a row as an example.

    Raises:
        MalformedRow: If it is none.
    """
    turns, reply = _parts(values, kind)
    _require_text(turns, reply)
    if not turns or not turns[-1].content.strip():
        raise MalformedRow(RowFault.EMPTY_PROMPT)
    given = _worked(reply) if kind is RowKind.WORKED else split_given(reply)
    if isinstance(given, RowFault):
        raise MalformedRow(given)
    own = values.get("id")
    name = str(own) if isinstance(own, str | int) else str(origin.number)
    return Example(name, origin.source, origin.domain, turns, given.think, given.answer)


def _parts(values: Mapping[str, Any], kind: RowKind) -> tuple[tuple[Message, ...], str]:
    """Return what was asked and what was replied."""
    match kind:
        case RowKind.MESSAGES:
            *turns, last = _turns(values.get("messages")) or (Message("", ""),)
            if last.role != "assistant":
                raise MalformedRow(RowFault.WRONG_TYPE)
            return tuple(turns), last.content
        case RowKind.RESPONSE:
            return _asked(values.get("prompt")), _text(values.get("response"))
        case RowKind.WORKED:
            return _asked(values.get("question")), _text(values.get("answer"))
        case RowKind.COMPLETION:
            prompt, reply = values.get("prompt"), values.get("completion")
            asked = _turns(prompt) if isinstance(prompt, list) else _asked(prompt)
            return asked, _only_turn(reply) if isinstance(reply, list) else _text(reply)


def _only_turn(value: object) -> str:
    turns = _turns(value)
    if len(turns) != 1:
        raise MalformedRow(RowFault.WRONG_TYPE)
    return turns[0].content


def _turns(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise MalformedRow(RowFault.WRONG_TYPE)
    found = []
    for turn in value:
        if not isinstance(turn, Mapping) or turn.get("role") not in _ROLES:
            raise MalformedRow(RowFault.WRONG_TYPE)
        found.append(Message(turn["role"], _text(turn.get("content"))))
    return tuple(found)


def _asked(value: object) -> tuple[Message, ...]:
    return (Message("user", _text(value)),)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedRow(RowFault.WRONG_TYPE)
    return value


def _require_text(turns: tuple[Message, ...], reply: str) -> None:
    """Refuse half a surrogate pair, which JSON can spell and UTF-8 cannot, and a NUL."""
    text = "".join([*(turn.content for turn in turns), reply])
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedRow(RowFault.INVALID_UTF8) from None
    if "\0" in text:
        raise MalformedRow(RowFault.CONTROL_CHARACTER)


def _worked(reply: str) -> GivenReply | RowFault:
    """Split a solution from its result at the last `####`."""
    solution, mark, result = reply.rpartition("####")
    if not mark or not solution.strip():
        return RowFault.NO_THINK
    if not result.strip():
        return RowFault.EMPTY_ANSWER
    return GivenReply(_CALCULATION.sub("", solution).strip() + "\n", result.strip())
