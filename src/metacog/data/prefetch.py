"""Reads ahead in a background thread, a bounded number of items; what goes wrong there comes here."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Iterator[Item], Generic[Item]):
    """An iterator whose items are made ahead of being asked for, in order, by one thread.

    Close it, or leave its `with`, to end the thread.

    Args:
        items: What makes the items; only the thread touches it from now on.
        depth: Items made ahead at most.
    """

    def __init__(self, items: Iterator[Item], *, depth: int) -> None:
        self._items, self._depth = items, depth
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._waiting: deque[Future[tuple[Item, ...]]] = deque()
        self._is_over = False

    def __enter__(self) -> "Prefetch[Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Item:
        """Return the next item.

        Raises:
            StopIteration: If there is none any more.
            Exception: Whatever making the item raised.
        """
        if self._is_over:
            raise StopIteration
        self._fill()
        made = self._waiting.popleft().result()
        if not made:
            self.close()
            raise StopIteration
        self._fill()
        return made[0]

    def close(self) -> None:
        """Make no more items and end the thread."""
        self._is_over = True
        self._waiting.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _fill(self) -> None:
        while len(self._waiting) < self._depth:
            self._waiting.append(self._thread.submit(self._make))

    def _make(self) -> tuple[Item, ...]:
        """Return the next item, or nothing at the end."""
        for item in self._items:
            return (item,)
        return ()
