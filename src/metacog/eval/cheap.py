"""Accuracy and spend of any caps, exactly and without decoding again.

Sampling noise is keyed by request and position, so a reply under a cap equals the uncapped one up
to that cap; after it the closer is forced. With the probability of a right answer at every cut of
the uncapped traces, the expected accuracy and spend of any caps follow:

    accuracy(c) = mean_i right_i(k_i)      spend(c) = mean_i k_i + answer_i(k_i)      k_i = min(c_i, n_i)

where n_i is the natural length, and an answer is as long as the right one with probability right_i,
else as long as wrong ones are. A cap that is no whole number stands for a draw between its two
neighbours, and its value is the mean over that draw. Only as good as its inputs: probabilities must be
those of the sampler and gate that decode, and landing must be off. Spends matched here are realised
again on test, and reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class CheapTrace:
    """What closing one uncapped reply at each of its cuts is worth."""

    question_id: str
    family: str
    seed: int
    cuts: tuple[int, ...]
    """THINK tokens, rising, from 0 to the natural length; best one at every token."""
    right: tuple[float, ...]
    """Probability of a right answer when closed at each cut."""
    answer_right: float
    """Tokens of the right answer, the end of the reply counted."""
    answer_wrong: float
    """Tokens to expect of a wrong one."""
    need: int | None

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.cuts, self.cuts[1:], strict=False))
        if not self.cuts or self.cuts[0] != 0 or not rising or len(self.cuts) != len(self.right):
            raise ValueError(
                f"A trace wants rising cuts from 0 with a probability each, got {self.cuts} with "
                f"{len(self.right)} (question {self.question_id}). Cut at 0 and at the end too."
            )

    @property
    def natural(self) -> int:
        """THINK tokens of the uncapped reply."""
        return self.cuts[-1]


@dataclass(frozen=True)
class Point:
    """What caps lead to."""

    accuracy: float
    spend: float


class CheapCurve:
    """Accuracy and spend of caps on a set of uncapped traces.

    Between two known cuts the value of the lower one holds. With cuts at line ends only this is too
    kind to caps that fall inside a line, where a base lands worse: prefer a cut at every token.
    """

    def __init__(self, traces: Sequence[CheapTrace]) -> None:
        if not traces:
            raise ValueError("A curve wants one trace or more, got none.")
        self.traces = tuple(traces)
        self.natural = np.array([trace.natural for trace in traces], dtype=np.int64)
        self._answer = np.array([[trace.answer_right, trace.answer_wrong] for trace in traces])
        width = int(self.natural.max()) + 1
        self._right = np.stack([_filled(trace.cuts, trace.right, width) for trace in traces])
        self._beyond = np.arange(width) > self.natural[:, None]

    def accuracy(self, caps: Float[np.ndarray, " traces"]) -> float:
        """Return the expected share of right answers under one cap a trace."""
        return float(self._probability(caps).mean())

    def spend(self, caps: Float[np.ndarray, " traces"]) -> float:
        """Return the expected THINK and ANSWER tokens a reply under one cap a trace."""
        right = self._probability(caps)
        answer = right * self._answer[:, 0] + (1 - right) * self._answer[:, 1]
        return float((np.minimum(caps, self.natural) + answer).mean())

    def point(self, caps: Float[np.ndarray, " traces"]) -> Point:
        """Return both."""
        return Point(self.accuracy(caps), self.spend(caps))

    def constant(self, cap: int | float) -> Float[np.ndarray, " traces"]:
        """Return one cap for all."""
        return np.full(len(self.traces), float(cap))

    @property
    def uncapped(self) -> Point:
        """What no cap leads to."""
        return self.point(self.natural.astype(np.float64))

    def oracle(self, price: float = 0.0) -> Float[np.ndarray, " traces"]:
        """Return the best cap of each trace, the shortest of equals.

        Maximises right - price * tokens a trace; a price above 0 trades accuracy for tokens at the
        best rate, so matching over prices gives the oracle at a given spend.
        """
        worth = self._right - price * np.arange(self._right.shape[1])
        best: Int[np.ndarray, " traces"] = np.where(self._beyond, -np.inf, worth).argmax(axis=1)
        return best.astype(np.float64)

    def cheapest_constant(self, accuracy: float) -> int | None:
        """Return the smallest constant cap that is at least so accurate; None if there is none."""
        for cap in range(int(self.natural.max()) + 1):
            if self.accuracy(self.constant(cap)) >= accuracy:
                return cap
        return None

    def _probability(self, caps: Float[np.ndarray, " traces"]) -> Float[np.ndarray, " traces"]:
        """Return how probable a right answer of each trace is, over the draw of its whole cap."""
        if len(caps) != len(self.traces) or caps.min() < 0:
            raise ValueError(
                f"Wanted a cap of 0 or more for each of {len(self.traces)} traces, got "
                f"{len(caps)} with the smallest {caps.min()}."
            )
        held = np.minimum(caps, self.natural)
        low = np.floor(held).astype(np.int64)
        rows = np.arange(len(low))
        below = self._right[rows, low]
        above = self._right[rows, np.minimum(low + 1, self.natural)]
        right: Float[np.ndarray, " traces"] = below + (held - low) * (above - below)
        return right


def _filled(
    cuts: Sequence[int], values: Sequence[float], width: int
) -> Float[np.ndarray, " tokens"]:
    """Return a value for every token: that of the greatest cut which is not above."""
    at = np.searchsorted(np.array(cuts), np.arange(width), side="right") - 1
    return np.asarray(values, dtype=np.float64)[at]
