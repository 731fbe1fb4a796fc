"""Caps are held against the emitted ids: thoughts are 9, the closer is 2 or 2 4."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from metacog.eval.violations import lowest_cap, places, think_length, violations
from metacog.records import Generation
from tests.unit.eval.hand import END, generation_of

COUNT, CAP, RESERVE = "not exactly one closer", "over the cap", "answer reserve not kept"


def emitted(ids: Sequence[int], *, enforced: int | None = None) -> Generation:
    """Return a reply of these ids whose segments and counts say nothing of use."""
    reply = generation_of(0, (*ids, END), enforced=enforced)
    steps = tuple(replace(step, index=n) for n, step in enumerate(reply.steps[1:]))
    return replace(reply, steps=steps)


@pytest.mark.parametrize(
    ("ids", "close", "found"),
    [
        ((9, 2, 7), (2,), [1]),
        ((2, 9, 2), (2,), [0, 2]),
        ((2, 9, 2, 4, 4), (2, 4), [2]),
        ((2, 2, 4), (2, 4), [1]),
        ((9, 2), (2, 4), []),
        ((2,), (2, 4), []),
    ],
)
def test_a_mark_is_found_where_it_stands_whole(
    ids: tuple[int, ...], close: tuple[int, ...], found: list[int]
) -> None:
    assert places(ids, close) == found
    assert think_length(ids, close) == (found[0] if found else len(ids))


@pytest.mark.parametrize(
    ("ids", "close", "broken"),
    [
        ((9, 9, 2, 7), (2,), []),
        ((9, 9, 9, 2, 7), (2,), [CAP]),
        ((9, 9, 2, 7, 2), (2,), [COUNT]),
        ((9, 9, 9, 2, 7, 2), (2,), [COUNT, CAP]),
        ((9, 7), (2,), [COUNT, CAP]),
        ((9, 2, 2, 4, 7), (2, 4), []),
        ((9, 2, 9, 2, 4, 7), (2, 4), [CAP]),
    ],
)
def test_a_cap_of_two(ids: tuple[int, ...], close: tuple[int, ...], broken: list[str]) -> None:
    assert violations(emitted(ids, enforced=2), close) == broken


def test_the_replys_own_limit_is_a_cap_where_it_is_known() -> None:
    reply = emitted((9, 9, 9, 2, 7))
    assert violations(reply, (2,)) == []
    assert violations(reply, (2,), room=3) == []
    assert violations(reply, (2,), room=2) == [RESERVE]


@pytest.mark.parametrize(
    ("requested", "enforced", "lowered_to", "lowest"),
    [
        (None, None, None, None),
        (-1, None, None, None),
        (None, 9, None, 9),
        (None, 9, 4, 4),
        (6, 9, None, 6),
        (-1, None, 5, 5),
        (0, 0, None, 0),
    ],
)
def test_the_lowest_cap_is_that_of_anyone(
    requested: int | None, enforced: int | None, lowered_to: int | None, lowest: int | None
) -> None:
    budget = generation_of(1, (), enforced=enforced, lowered_to=lowered_to).budget
    assert lowest_cap(replace(budget, requested=requested)) == lowest
