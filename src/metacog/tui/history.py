"""The course of one number in bounded memory."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Bucket:
    """Neighbouring values of one number, merged."""

    step: int
    """Of the first one."""
    low: float
    high: float
    total: float
    count: int

    @property
    def mean(self) -> float:
        """Of what was merged."""
        return self.total / self.count

    def merged(self, other: "Bucket") -> "Bucket":
        """Return this bucket with the values of the one that follows."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Bucket(self.step, low, high, self.total + other.total, self.count + other.count)


class History:
    """Keeps at most `capacity` buckets: when there are more, neighbours are merged in pairs.

    Extremes survive: a bucket knows the lowest and highest of what it was made of.
    """

    def __init__(self, capacity: int = 512) -> None:
        self.buckets: list[Bucket] = []
        self._capacity = capacity
        self._values_a_bucket = 1

    def add(self, step: int, value: float) -> None:
        """Take the next value."""
        new = Bucket(step, value, value, value, 1)
        if self.buckets and self.buckets[-1].count < self._values_a_bucket:
            self.buckets[-1] = self.buckets[-1].merged(new)
            return
        self.buckets.append(new)
        if len(self.buckets) > self._capacity:
            self._halve()

    def _halve(self) -> None:
        self._values_a_bucket *= 2
        pairs = zip(self.buckets[::2], self.buckets[1::2], strict=False)
        odd = self.buckets[-1:] if len(self.buckets) % 2 else []
        self.buckets = [bucket.merged(next_one) for bucket, next_one in pairs] + odd

    def copy(self) -> "History":
        """Return the same course, which goes its own way from here."""
        other = History(self._capacity)
        other.buckets, other._values_a_bucket = list(self.buckets), self._values_a_bucket
        return other

    def columns(self, width: int) -> list[float]:
        """Return at most `width` means, the oldest first."""
        buckets = self.buckets
        if len(buckets) <= width:
            return [bucket.mean for bucket in buckets]
        edges = [len(buckets) * column // width for column in range(width + 1)]
        means = [bucket.mean for bucket in buckets]
        return [sum(means[a:b]) / (b - a) for a, b in pairwise(edges)]


Row = tuple[float | None, ...]


class RowHistory:
    """The course of a row of numbers, such as one a block: at most `capacity` rows are kept.

    When there are more, every second one is let go.
    """

    def __init__(self, capacity: int = 256) -> None:
        self.rows: list[tuple[int, Row]] = []
        """Step and numbers, the oldest first."""
        self._capacity = capacity

    def add(self, step: int, row: Row) -> None:
        """Take the next row."""
        self.rows.append((step, row))
        if len(self.rows) > self._capacity:
            # The newest stays: it is what is true now.
            self.rows = self.rows[-1::-2][::-1]

    def copy(self) -> "RowHistory":
        """Return the same course, which goes its own way from here."""
        other = RowHistory(self._capacity)
        other.rows = list(self.rows)
        return other
