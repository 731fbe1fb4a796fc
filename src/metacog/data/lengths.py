"""How long an example may be: raised where the stream holds longer ones, and never lowered."""

from collections.abc import Callable

ShareMaximum = Callable[[int], int]
"""Returns the largest of what all processes pass; they call it equally often."""


def alone(value: int) -> int:
    """Return the value: the maximum over a single process."""
    return value


class LengthProbe:
    """Knows `max_len`, within the model's context.

    Args:
        max_len: Tokens at the start.
        context: Tokens that the model was made for.
        is_on: Whether lengths that are seen raise `max_len`.
    """

    def __init__(self, max_len: int, *, context: int, is_on: bool) -> None:
        self._context, self._is_on = context, is_on
        self.max_len = min(max_len, context)
        self.longest_seen = 0

    def see(self, length: int) -> None:
        """Take note of a record that was looked at."""
        self.longest_seen = max(self.longest_seen, length)
        if self._is_on:
            self.max_len = max(self.max_len, min(length, self._context))

    def agree(self, share: ShareMaximum) -> None:
        """Take the maximum over all processes."""
        self.max_len = max(self.max_len, share(self.max_len))
        self.longest_seen = max(self.longest_seen, share(self.longest_seen))
