"""Who is let in next: small budgets first, and nobody overtaken too often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metacog.records import Request

Forecast = Callable[[Sequence[Request]], Sequence[int]]
"""Says how many THINK tokens each reply may take."""


@dataclass
class _Place:
    request: Request
    tokens: int | None = None
    """What the reply may think; None until somebody had to know."""
    overtaken: int = 0


class Line:
    """Requests that wait for a slot.

    Args:
        forecast: Reads the prompts of those among whom there is a choice.
        overtaking: Most later ones that may be let in before one; 0 is first come, first served.
        look: Most places from the front that are compared.
    """

    def __init__(self, forecast: Forecast, overtaking: int, look: int = 32) -> None:
        self.forecast, self.overtaking, self.look = forecast, overtaking, look
        self._places: list[_Place] = []

    def __len__(self) -> int:
        return len(self._places)

    def join(self, requests: Sequence[Request]) -> None:
        """Put requests at the end."""
        self._places += [_Place(request) for request in requests]

    def leave(self, request_id: int) -> bool:
        """Take a request out; say whether it stood here."""
        before = len(self._places)
        self._places = [place for place in self._places if place.request.id != request_id]
        return len(self._places) < before

    def clear(self) -> None:
        """Send everybody away."""
        self._places.clear()

    def take(self, count: int) -> list[Request]:
        """Return the requests that are next, at most `count` of them.

        Prompts are read only where there are more requests than slots: else nobody has to wait.
        """
        if count >= len(self._places) or not self.overtaking:
            chosen, self._places = self._places[:count], self._places[count:]
            return [place.request for place in chosen]
        return [self._one().request for _ in range(count)]

    def foresee(self) -> None:
        """Find out what those at the front may think, as far as it is not known yet."""
        unknown = [place for place in self._places[: self.look] if place.tokens is None]
        found = self.forecast([place.request for place in unknown]) if unknown else ()
        for place, tokens in zip(unknown, found, strict=True):
            place.tokens = tokens

    def _one(self) -> _Place:
        front = self._places[: self.look]
        known = [(p.tokens, at) for at, p in enumerate(front) if p.tokens is not None]
        if not known or front[0].overtaken >= self.overtaking:
            return self._places.pop(0)
        _, at = min(known)
        for place in self._places[:at]:
            place.overtaken += 1
        return self._places.pop(at)
