"""Batches of examples no longer than `max_len`, with the position behind what was really used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metacog.data.encode import EncodedExample
from metacog.data.lengths import LengthProbe, ShareMaximum, alone
from metacog.data.prefetch import Prefetch
from metacog.data.stream import Drawn, ExampleStream
from metacog.errors import DataError

_MOST_FRUITLESS_PASSES = 2


@dataclass(frozen=True)
class DataReport:
    """What is known of the data so far."""

    max_len: int
    longest_seen: int
    left_out: int
    """Examples that were longer than `max_len` when their turn came; nothing is ever cut off."""
    seen: int
    quarantined: int
    """Malformed rows, among the rows that were seen."""


class BatchSource:
    """Takes batches from a stream that is read ahead in a background thread.

    `state` is the position of what was taken, not of what was read ahead: a stream that is loaded
    with it gives just what would have come next, as often as that is done.

    Args:
        stream: Gives examples.
        probe: Knows how long they may be.
        ahead: Examples read ahead at most.
        share: Gives the largest `max_len` of all processes, called once a batch.
    """

    def __init__(
        self,
        stream: ExampleStream,
        probe: LengthProbe,
        *,
        ahead: int = 64,
        share: ShareMaximum = alone,
    ) -> None:
        self._stream, self._probe, self._ahead, self._share = stream, probe, ahead, share
        self._position = stream.position
        self._examples: Prefetch[Drawn] | None = None
        self._left_out, self._is_ahead = 0, False
        self.num_batches = 0
        """Batches taken so far."""

    @property
    def report(self) -> DataReport:
        """What is known of the data so far."""
        tallied = self._position.tallied
        return DataReport(
            max_len=self._probe.max_len,
            longest_seen=self._probe.longest_seen,
            left_out=self._left_out,
            seen=tallied.seen,
            quarantined=tallied.malformed,
        )

    def next_batch(self, size: int) -> list[EncodedExample]:
        """Return the next examples that are no longer than `max_len`.

        Raises:
            DataError: If two whole passes hold no such example, or the stream raises.
        """
        self._probe.agree(self._share)
        batch: list[EncodedExample] = []
        last_found = None
        while len(batch) < size:
            drawn = self._next()
            last_found = drawn.epoch if last_found is None else last_found
            if drawn.encoded.length <= self._probe.max_len:
                batch.append(drawn.encoded)
                last_found = drawn.epoch
                continue
            self._left_out += 1
            if drawn.epoch - last_found > _MOST_FRUITLESS_PASSES:
                raise DataError(
                    f"Wanted examples of at most {self._probe.max_len} tokens (length.max_len), but "
                    f"all are longer. Raise it, or set length.auto_probe to true."
                )
        self.num_batches += 1
        return batch

    def state(self) -> dict[str, Any]:
        """Return, as JSON values, all it takes to go on behind the last batch."""
        return {
            "batches": self.num_batches,
            "left_out": self._left_out,
            "max_len": self._probe.max_len,
            "longest_seen": self._probe.longest_seen,
            "stream": self._position.as_json(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batch at which a state was taken.

        Raises:
            CheckpointError: If it is that of other data sets.
        """
        self.close()
        self._stream.go_to(state["stream"])
        self._is_ahead = False
        self._position = self._stream.position
        self.num_batches, self._left_out = state["batches"], state["left_out"]
        self._probe.max_len = state["max_len"]
        self._probe.longest_seen = state["longest_seen"]

    def close(self) -> None:
        """End the background thread; rows that it has read ahead are forgotten."""
        if self._examples is not None:
            self._examples.close()
            self._stream.close()
            self._examples, self._is_ahead = None, True

    def _next(self) -> Drawn:
        if self._is_ahead:
            self._stream.go_to(self._position.as_json())
            self._is_ahead = False
        if self._examples is None:
            self._examples = Prefetch(iter(self._stream), depth=self._ahead)
        drawn = next(self._examples)
        self._position = drawn.position
        self._probe.see(drawn.position.longest)
        return drawn
