"""Where imitation gets its traces: from solvers of generated questions, or from rows of text."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Protocol, runtime_checkable

from metacog.data.batches import BatchSource
from metacog.data.encode import EncodedExample
from metacog.data.tasks.questions import Question
from metacog.errors import CheckpointError
from metacog.model.base import Base
from metacog.train.given import GivenTrace, given_trace, text_trace
from metacog.train.processes import ALONE, Processes


@runtime_checkable
class Traces(Protocol):
    """Gives the traces of each step, and those to measure on."""

    def batch(self, step: int) -> Sequence[GivenTrace]:
        """Return the traces of a step; steps are asked for in their order."""

    def validation(self) -> Sequence[GivenTrace]:
        """Return the traces to measure on, always the same; none of them is trained on."""

    def metrics(self) -> Mapping[str, float]:
        """Return what is known of the data, by event name."""

    def state(self) -> Mapping[str, Any]:
        """Return, as JSON values, all it takes to go on behind the last batch."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batch at which a state was taken."""

    def close(self) -> None:
        """End what runs in the background."""


class StepwiseTraces:
    """Traces of generated questions: step and seed say which, so there is nothing to keep."""

    def metrics(self) -> Mapping[str, float]:
        """Return nothing: generated questions are in order."""
        return {}

    def state(self) -> Mapping[str, Any]:
        """Return nothing: a step says it all."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Do nothing.

        Raises:
            CheckpointError: If the state is that of rows of text.
        """
        if state:
            raise CheckpointError(
                "Wanted the state of a run on data.tasks, got one with a position in a data set. "
                "Resume with the data section that the run began with."
            )

    def close(self) -> None:
        """Do nothing."""


class SolvedTraces(StepwiseTraces):
    """Traces that solvers write for random questions of a set; step and seed say which.

    Args:
        base: Encodes them.
        train: Questions to train on.
        validation: Questions to measure on.
        size: Traces of a batch on each process.
        seed: Of the choice.
        processes: Over which the traces of a step are spread.
    """

    def __init__(
        self,
        base: Base,
        *,
        train: Sequence[Question],
        validation: Sequence[Question],
        size: int,
        seed: int,
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self._base, self._train, self._validation = base, train, validation
        self._size, self._seed = size, seed

    def batch(self, step: int) -> Sequence[GivenTrace]:
        """Return the traces of a step."""
        rng = Random(f"{self._seed}/{step}")
        questions = rng.choices(self._train, k=self._size * self._processes.size)
        # All are written on all processes: what is drawn for one depends on those before it.
        return self._processes.share([given_trace(self._base, q, rng) for q in questions])

    def validation(self) -> Sequence[GivenTrace]:
        """Return a trace of each question to measure on."""
        rng = Random(0)
        return [given_trace(self._base, question, rng) for question in self._validation]


class TextTraces:
    """Traces that a data set holds, in the order of its stream.

    Args:
        base: Whose ids they are.
        source: Gives batches, and knows where it stands.
        held_out: Examples to measure on.
        size: Traces of a batch.
    """

    def __init__(
        self, base: Base, source: BatchSource, *, held_out: Sequence[EncodedExample], size: int
    ) -> None:
        self._base, self._source, self._size = base, source, size
        self._validation = [text_trace(base, encoded) for encoded in held_out]

    def batch(self, step: int) -> Sequence[GivenTrace]:
        """Return the traces of a step; what comes before it in the stream is passed over."""
        if step < self._source.num_batches:
            raise ValueError(
                f"step {step} lies behind the stream, which has given {self._source.num_batches} "
                "batches; load the state of that step first."
            )
        while self._source.num_batches < step:
            self._source.next_batch(self._size)
        return [text_trace(self._base, row) for row in self._source.next_batch(self._size)]

    def validation(self) -> Sequence[GivenTrace]:
        """Return the traces to measure on."""
        return self._validation

    def metrics(self) -> Mapping[str, float]:
        """Return `data/*`: lengths, and rows that were not learned from."""
        report = self._source.report
        return {
            "data/max_len": float(report.max_len),
            "data/longest_seen": float(report.longest_seen),
            "data/left_out": float(report.left_out),
            "data/quarantined": float(report.quarantined),
        }

    def state(self) -> Mapping[str, Any]:
        """Return the position in the stream behind the last batch."""
        return self._source.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batch at which a state was taken.

        Raises:
            CheckpointError: If it is none of these data sets and this number of processes.
        """
        if not state:
            raise CheckpointError(
                "Wanted a state with a position in a data set, got one without. Resume with the "
                "data section that the run began with."
            )
        self._source.load_state(state)

    def close(self) -> None:
        """End the thread that reads ahead."""
        self._source.close()
