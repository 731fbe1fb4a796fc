"""Replies that others wrote, split at their THINK tags: exactly one pair, or none of it is used."""

import re
from dataclasses import dataclass

from metacog.records import RowFault
from metacog.text.segments import mark_pattern
from metacog.text.tags import THINK

_TAG = re.compile(
    f"(?P<open>{mark_pattern(THINK.open)})|{mark_pattern(THINK.close)}", re.IGNORECASE
)


@dataclass(frozen=True)
class GivenReply:
    """A reply's parts as they were written, tags left out."""

    think: str
    answer: str


def split_given(text: str) -> GivenReply | RowFault:
    """Split a whole reply, or say what is wrong with its tags; white space and case are forgiven.

    The opener may be missing, where the template of whoever wrote it had opened THINK already.
    """
    tags = list(_TAG.finditer(text))
    opened = bool(tags) and tags[0]["open"] is not None
    inner = tags[1:] if opened else tags
    if not tags:
        return RowFault.NO_THINK
    if opened and text[: tags[0].start()].strip():
        return RowFault.MISPLACED
    if not inner:
        return RowFault.UNCLOSED
    closer, *later = inner
    if closer["open"] is not None:
        return RowFault.NESTED
    if later:
        return RowFault.DUPLICATED
    think = text[tags[0].end() if opened else 0 : closer.start()]
    answer = text[closer.end() :]
    if not think.strip():
        return RowFault.NO_THINK
    return GivenReply(think, answer) if answer.strip() else RowFault.EMPTY_ANSWER
