import threading
import time
from collections.abc import Iterator

import pytest

from metacog.data.prefetch import Prefetch


def numbers(made: list[int], *, last: int = 10**9, fault: int | None = None) -> Iterator[int]:
    for number in range(last):
        if number == fault:
            raise OSError(f"row {number} is gone")
        made.append(number)
        yield number


def prefetch_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_items_come_in_order_and_end() -> None:
    with Prefetch(numbers([], last=50), depth=4) as items:
        assert list(items) == list(range(50))
        assert list(items) == []


@pytest.mark.parametrize("depth", [1, 5])
def test_no_more_than_depth_items_are_made_ahead(depth: int) -> None:
    made: list[int] = []
    with Prefetch(numbers(made), depth=depth) as items:
        for taken in range(1, 20):
            next(items)
            time.sleep(0.002)
            assert len(made) <= taken + depth
        deadline = time.monotonic() + 5
        while len(made) < 19 + depth and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(made) == 19 + depth


def test_an_error_comes_where_its_item_would_have_come() -> None:
    with Prefetch(numbers([], fault=7), depth=4) as items:
        assert [next(items) for _ in range(7)] == list(range(7))
        with pytest.raises(OSError, match="row 7 is gone"):
            next(items)


def test_the_thread_ends_with_the_block() -> None:
    before = len(prefetch_threads())
    with Prefetch(numbers([]), depth=4) as items:
        next(items)
        assert len(prefetch_threads()) == before + 1
    assert len(prefetch_threads()) == before
    with pytest.raises(StopIteration):
        next(items)
