"""Splits a reply into THINK and ANSWER, and THINK into its marked spans.

Our own replies are split by their ids: what the controller followed is what is counted. Text is for
what others wrote; there white space and case around tags are forgiven.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metacog.errors import TagError
from metacog.text.resolve import MarkIds, ResolvedTags
from metacog.text.tags import INNER, THINK, Tag


@dataclass(frozen=True)
class ReplyIds:
    """The parts of a reply by ids, tags left out; THINK was open before the first id."""

    think: tuple[int, ...]
    answer: tuple[int, ...] | None
    """None while THINK is open."""
    spans: Mapping[str, tuple[tuple[int, ...], ...]]
    """Contents of the marked spans inside THINK, by name; a name without a span is absent."""


@dataclass(frozen=True)
class ReplyText:
    """The parts of a reply by text, tags left out and white space around the parts stripped."""

    think: str
    answer: str | None
    """None while THINK is open."""
    spans: Mapping[str, tuple[str, ...]]
    """Contents of the marked spans inside THINK, by name; a name without a span is absent."""


def split_ids(ids: Sequence[int], tags: ResolvedTags) -> ReplyIds:
    """Split a reply's ids at the first closer; a span that is not closed ends with THINK."""
    close = _find(ids, tags.think_close, 0)
    think = tuple(ids if close is None else ids[:close])
    answer = None if close is None else tuple(ids[close + len(tags.think_close) :])
    found = {name: tuple(_spans(think, mark)) for name, mark in tags.marks.items()}
    return ReplyIds(think, answer, {name: spans for name, spans in found.items() if spans})


def segment_metrics(reply: ReplyIds) -> dict[str, float | None]:
    """Return `segments/{plan,exec,eval}_{tokens,fraction}`, None where there is no such span.

    A fraction is the share of THINK's tokens, the marks' own counted in THINK but in no span.
    """
    metrics: dict[str, float | None] = {}
    for mark in INNER:
        spans = reply.spans.get(mark.name)
        tokens = None if spans is None else float(sum(map(len, spans)))
        share = None if tokens is None else tokens / len(reply.think)
        metrics |= {f"segments/{mark.name}_tokens": tokens, f"segments/{mark.name}_fraction": share}
    return metrics


def split_text(text: str, *, require: Sequence[str] = ()) -> ReplyText:
    """Split a reply's text at the first closer, forgiving `< Think >` and `</ THINK>`.

    An opener at the start is dropped; without one THINK was opened by the template.

    Args:
        text: The reply.
        require: Names of tags that must be there, opened and closed; of THINK only the closer must.

    Raises:
        TagError: If a required tag is absent.
    """
    start = re.compile(rf"\s*{mark_pattern(THINK.open)}", re.IGNORECASE).match(text)
    body = text[start.end() :] if start else text
    parts = re.split(mark_pattern(THINK.close), body, maxsplit=1, flags=re.IGNORECASE)
    think, answer = parts[0], parts[1] if len(parts) == 2 else None
    if THINK.name in require and answer is None:
        raise _absent(THINK.close)
    spans = {mark.name: _text_spans(think, mark, mark.name in require) for mark in INNER}
    return ReplyText(
        think=think.strip(),
        answer=None if answer is None else answer.strip(),
        spans={name: found for name, found in spans.items() if found},
    )


def _text_spans(think: str, mark: Tag, required: bool) -> tuple[str, ...]:
    pattern = rf"{mark_pattern(mark.open)}(.*?)({mark_pattern(mark.close)}|\Z)"
    found = list(re.finditer(pattern, think, re.IGNORECASE | re.DOTALL))
    if required and not found:
        raise _absent(mark.open)
    if required and not found[-1][2]:
        raise _absent(mark.close)
    return tuple(match[1].strip() for match in found)


def mark_pattern(mark: str) -> str:
    """Return a pattern for a mark with white space allowed between its signs and its name."""
    pieces = re.findall(r"\w+|\W", mark)
    return r"\s*".join(map(re.escape, pieces))


def _absent(mark: str) -> TagError:
    return TagError(
        f"Wanted the tag {mark} in the text, found none. Write it, or do not require its segment."
    )


def _spans(think: Sequence[int], mark: MarkIds) -> list[tuple[int, ...]]:
    spans, at = [], 0
    while (opener := _first(think, mark.opens, at)) is not None:
        first = opener[1]
        closer = _first(think, mark.closes, first)
        spans.append(tuple(think[first : None if closer is None else closer[0]]))
        if closer is None:
            break
        at = closer[1]
    return spans


def _first(
    ids: Sequence[int], ways: Sequence[tuple[int, ...]], start: int
) -> tuple[int, int] | None:
    """Return where the first of some marks begins and ends at or after `start`."""
    found = ((_find(ids, way, start), len(way)) for way in ways)
    return min(((at, at + size) for at, size in found if at is not None), default=None)


def _find(ids: Sequence[int], mark: tuple[int, ...], start: int) -> int | None:
    """Return where a mark first stands in the ids at or after `start`."""
    while True:
        try:
            at = ids.index(mark[0], start)
        except ValueError:
            return None
        if tuple(ids[at : at + len(mark)]) == mark:
            return at
        start = at + 1
