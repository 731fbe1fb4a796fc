"""Small budgets go first, but nobody is overtaken for ever."""

from collections.abc import Sequence

from metacog.records import Request
from metacog.serve.waiting import Line


def asking(number: int, tokens: int) -> Request:
    return Request(id=number, prompt=(1,), budget=tokens)


def named(requests: Sequence[Request]) -> list[int]:
    return [int(request.budget or 0) for request in requests]


def line(*tokens: int, overtaking: int) -> Line:
    made = Line(named, overtaking)
    made.join([asking(number, count) for number, count in enumerate(tokens)])
    return made


def taken(of: Line) -> list[int]:
    found: list[int] = []
    while len(of):
        of.foresee()
        found += [request.id for request in of.take(1)]
    return found


def test_who_needs_least_is_first() -> None:
    assert taken(line(50, 9, 30, 2, overtaking=32)) == [3, 1, 2, 0]


def test_who_was_overtaken_often_enough_is_next() -> None:
    assert taken(line(50, 9, 8, 7, 6, overtaking=2)) == [4, 3, 0, 1, 2]


def test_without_overtaking_who_came_first_is_first() -> None:
    assert taken(line(50, 9, 30, 2, overtaking=0)) == [0, 1, 2, 3]


def test_nobody_is_read_where_all_fit() -> None:
    def never(_: Sequence[Request]) -> Sequence[int]:
        raise AssertionError("there was nothing to choose")

    waiting = Line(never, 8)
    waiting.join([asking(0, 5), asking(1, 4)])
    assert [request.id for request in waiting.take(4)] == [0, 1]


def test_who_leaves_stands_there_no_more() -> None:
    waiting = line(5, 4, overtaking=8)
    assert waiting.leave(0)
    assert not waiting.leave(0)
    assert taken(waiting) == [1]
