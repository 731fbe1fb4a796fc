"""Examples for ever: sources mixed, malformed rows set aside, shuffled, each with a position behind it.

rows of each source -> schema -> split -> ids -> mixture -> buffer -> example
                         |                 |
                         +--> quarantine <-+
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from metacog.data.encode import EncodedExample, Encoder
from metacog.data.mixture import Mixture, ShuffleBuffer
from metacog.data.quarantine import Quarantine, Tallied
from metacog.data.rows import Row, RowPosition, RowStream
from metacog.data.schema import MalformedRow, Origin, RowKind, example_of
from metacog.data.sources import Source
from metacog.data.tasks.splits import Split, split_of
from metacog.errors import CheckpointError, DataError
from metacog.records import Example, Message


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is made."""

    seed: int = 0
    shuffle_buffer: int = 1000
    probe_interval: int = 1000
    splits: Collection[Split] = frozenset({Split.BASE_TRAIN, Split.LAYER_TRAIN})
    """Splits whose questions are read; the others are left to be measured on."""
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Position:
    """Where a stream stands once an example has been taken from it."""

    of: str
    """The sources, and whose share of them."""
    rows: tuple[RowPosition, ...]
    """Of each source."""
    chosen: int
    """Draws of the mixture."""
    drawn: int
    """Draws of the shuffle buffer."""
    held: tuple[EncodedExample, ...]
    """The shuffle buffer."""
    tallied: Tallied
    """Rows seen and set aside."""
    longest: int
    """Tokens of the longest row that was probed."""

    def as_json(self) -> dict[str, Any]:
        """Return the position as JSON values; of held examples the text is written."""
        return {
            "of": self.of,
            "rows": [asdict(row) for row in self.rows],
            "chosen": self.chosen,
            "drawn": self.drawn,
            "held": [asdict(held.example) for held in self.held],
            "tallied": asdict(self.tallied),
            "longest": self.longest,
        }


@dataclass(frozen=True)
class Drawn:
    """An example, and what was known when it left the stream."""

    encoded: EncodedExample
    epoch: int
    """Passes that the source furthest ahead has behind it."""
    position: Position


def question_of(example: Example) -> str:
    """Return the text whose hash says which split an example belongs to: all that was asked."""
    return "\n".join(message.content for message in example.messages)


class ExampleStream:
    """The examples of some sources, for ever.

    Args:
        sources: With the kind of their rows.
        encoder: Gives ids.
        quarantine: Takes malformed rows.
        settings: Seed, buffer, share of this process.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, RowKind]],
        encoder: Encoder,
        quarantine: Quarantine,
        settings: StreamSettings,
    ) -> None:
        self._kinds = tuple(kind for _, kind in sources)
        self._rows = tuple(
            RowStream(source, rank=settings.rank, world_size=settings.world_size)
            for source, _ in sources
        )
        self._encoder, self._quarantine, self._settings = encoder, quarantine, settings
        self._mixture = Mixture([source.weight for source, _ in sources], seed=settings.seed)
        self._buffer = ShuffleBuffer[EncodedExample](settings.shuffle_buffer, seed=settings.seed)
        self._longest = 0
        names = ", ".join(rows.identity for rows in self._rows)
        self._identity = f"{names} for process {settings.rank} of {settings.world_size}"

    def __iter__(self) -> Iterator[Drawn]:
        """Yield examples.

        Raises:
            DataError: If a source cannot be read on, has no example in a whole pass, or has too
                many malformed rows.
        """
        while True:
            encoded = self._buffer.exchange(self._bring, may_fill=lambda: self._epoch == 0)
            yield Drawn(encoded, self._epoch, self.position)

    @property
    def position(self) -> Position:
        """Where the stream stands."""
        return Position(
            of=self._identity,
            rows=tuple(rows.position for rows in self._rows),
            chosen=self._mixture.draws,
            drawn=self._buffer.draws,
            held=self._buffer.held,
            tallied=self._quarantine.tallied,
            longest=self._longest,
        )

    def go_to(self, state: Mapping[str, Any]) -> None:
        """Go on from a position as it was written down.

        Raises:
            CheckpointError: If it is that of other sources.
        """
        if state["of"] != self._identity:
            raise CheckpointError(
                f"Wanted a position in {self._identity}, got one in {state['of']}. Resume with the "
                "data section and the number of processes that the run began with."
            )
        for rows, position in zip(self._rows, state["rows"], strict=True):
            rows.go_to(RowPosition(**position))
        self._mixture.draws = state["chosen"]
        held = [self._encoder.encode(_example(values)) for values in state["held"]]
        self._buffer.go_to(held, state["drawn"])
        self._quarantine.go_to(Tallied(**state["tallied"]))
        self._longest = state["longest"]

    def close(self) -> None:
        """Let go of the files that are open; go to a position before drawing on."""
        for rows in self._rows:
            rows.close()

    @property
    def _epoch(self) -> int:
        return max(rows.epoch for rows in self._rows)

    def _bring(self) -> EncodedExample:
        """Return the next example of the source that is drawn."""
        index = self._mixture.choose()
        rows, kind = self._rows[index], self._kinds[index]
        whole_from = rows.epoch + rows.is_inside
        while True:
            row = rows.next_row()
            if row is None:
                self._end_pass(rows, fruitless=rows.epoch > whole_from)
                continue
            encoded = self._encoded(row, rows, kind)
            if encoded is not None:
                return encoded

    def _end_pass(self, rows: RowStream, *, fruitless: bool) -> None:
        self._quarantine.require_few()
        if fruitless:
            raise DataError(
                f"Wanted an example in {rows.source.name}, found none in a whole pass: its rows are "
                "malformed or belong to splits that are held out. Name more data."
            )

    def _encoded(self, row: Row, rows: RowStream, kind: RowKind) -> EncodedExample | None:
        """Return a row's example; None where it is set aside or held out."""
        at_probe = self._quarantine.seen % self._settings.probe_interval == 0
        encoded = None
        try:
            encoded = encoded_row(row, rows.source, kind, self._encoder, self._settings.splits)
            self._quarantine.passed()
        except MalformedRow as error:
            self._quarantine.set_aside(rows.source.name, rows.epoch, row, error.fault)
        if at_probe:
            raw = self._encoder.raw_length(row.values) if encoded is None else encoded.length
            self._longest = max(self._longest, raw)
        return encoded


def encoded_row(
    row: Row, source: Source, kind: RowKind, encoder: Encoder, splits: Collection[Split]
) -> EncodedExample | None:
    """Return a row as an example with its ids; None where it belongs to none of the splits.

    Raises:
        MalformedRow: If it cannot be learned from.
    """
    if row.fault is not None:
        raise MalformedRow(row.fault)
    example = example_of(row.values, kind, Origin(source.name, source.domain, row.number))
    return encoder.encode(example) if split_of(question_of(example)) in splits else None


def held_out(
    sources: Sequence[tuple[Source, RowKind]], encoder: Encoder, count: int, *, longest: int
) -> list[EncodedExample]:
    """Return up to `count` examples of the validation split, the sources alike, in their order.

    A source is read once at most. Malformed rows and those longer than `longest` are left out.
    """
    found: list[EncodedExample] = []
    for place, (source, kind) in enumerate(sources, 1):
        wanted = count * place // len(sources)
        with closing(RowStream(source)) as rows:
            while len(found) < wanted and (row := rows.next_row()) is not None:
                try:
                    encoded = encoded_row(row, source, kind, encoder, {Split.VALIDATION})
                except MalformedRow:
                    continue
                if encoded is not None and encoded.length <= longest:
                    found.append(encoded)
    return found


def _example(values: Mapping[str, Any]) -> Example:
    messages = tuple(Message(**message) for message in values["messages"])
    return Example(**{**values, "messages": messages})
