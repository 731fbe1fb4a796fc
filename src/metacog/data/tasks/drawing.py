"""Draws the questions of an evaluation: distinct, of one split, evenly over families and levels."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from random import Random

from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.questions import Question, stream_questions
from metacog.data.tasks.splits import Split
from metacog.errors import DataError


def draw_questions(
    split: Split,
    n: int,
    *,
    seed: int = 0,
    families: Sequence[str] = tuple(FAMILIES),
    patience: int = 300,
) -> list[Question]:
    """Return n distinct questions, taking turns over families and, within each, over levels.

    Small ranges hold few questions: a level that is used up leaves its turns to the family's other
    levels, and a family that is used up to the other families. Fewer questions are a prefix of more.

    Args:
        split: Whose questions.
        n: How many.
        seed: Fixes them.
        families: In the order in which they take turns.
        patience: Draws in a row without a new question after which a level counts as used up.

    Raises:
        DataError: If the split holds fewer than n distinct questions, or a family is unknown.
    """
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown or not families:
        raise DataError(
            f"Wanted families among {', '.join(FAMILIES)}, got {', '.join(unknown) or 'none'}."
        )
    seen: set[str] = set()
    streams = [_distinct(split, family, seed, seen, patience) for family in families]
    found = list(islice(_in_turn(streams), n))
    if len(found) < n:
        raise DataError(
            f"Wanted {n} distinct questions of the {split.value} split, found {len(found)}. "
            "Ask for fewer, or name more families."
        )
    return found


def _distinct(
    split: Split, family: str, seed: int, seen: set[str], patience: int
) -> Iterator[Question]:
    """Yield questions of one family that were not seen before, its levels in turn."""
    return _in_turn(
        [_new(_level(split, family, level, seed), seen, patience) for level in range(NUM_LEVELS)]
    )


def _level(split: Split, family: str, level: int, seed: int) -> Iterator[Question]:
    weights = [float(level == other) for other in range(NUM_LEVELS)]
    key = Random(f"{seed}/{family}/{level}").getrandbits(48)
    return stream_questions(split, seed=key, families=[family], level_weights=weights)


def _new(drawn: Iterator[Question], seen: set[str], patience: int) -> Iterator[Question]:
    """Yield questions that were not seen before, until none comes any more."""
    misses = 0
    while misses < patience:
        question = next(drawn)
        misses += 1
        if question.id not in seen:
            misses = 0
            seen.add(question.id)
            yield question


def _in_turn(streams: Sequence[Iterator[Question]]) -> Iterator[Question]:
    """Yield from each stream in turn, leaving out those that have ended."""
    ended: set[int] = set()
    for index in cycle(range(len(streams))):
        if len(ended) == len(streams):
            return
        if index in ended:
            continue
        question = next(streams[index], None)
        if question is None:
            ended.add(index)
        else:
            yield question
