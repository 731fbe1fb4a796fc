"""The course of one number in bounded memory."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(slots=True)
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

    def merge(self, other: "Bucket") -> None:
        """Take the values of the bucket that follows."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total, self.count = self.total + other.total, self.count + other.count


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
            self.buckets[-1].merge(new)
            return
        self.buckets.append(new)
        if len(self.buckets) > self._capacity:
            self._halve()

    def _halve(self) -> None:
        self._values_a_bucket *= 2
        kept = self.buckets[::2]
        for bucket, next_one in zip(kept, self.buckets[1::2], strict=False):
            bucket.merge(next_one)
        self.buckets = kept

    def columns(self, width: int) -> list[float]:
        """Return at most `width` means, the oldest first."""
        buckets = self.buckets
        if len(buckets) <= width:
            return [bucket.mean for bucket in buckets]
        edges = [len(buckets) * column // width for column in range(width + 1)]
        means = [bucket.mean for bucket in buckets]
        return [sum(means[a:b]) / (b - a) for a, b in pairwise(edges)]
