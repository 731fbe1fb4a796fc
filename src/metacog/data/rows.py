"""Rows of one source, pass after pass, with a position that can be written down and taken up again."""

import json
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node

from metacog.data.schema import RowKind, kind_of
from metacog.data.sources import UNREADABLE, Opened, Source, open_source
from metacog.errors import DataError
from metacog.records import RowFault

_MOST_LOOKED_AT = 100


@dataclass(frozen=True)
class Row:
    """A row as it was read, or what kept it from being read."""

    number: int
    """Rows that this process read before it in the same pass."""
    values: Mapping[str, Any]
    fault: RowFault | None = None


@dataclass(frozen=True)
class RowPosition:
    """Where a stream of rows stands: enough to go on with the very next row."""

    epoch: int = 0
    """Passes over the source that are done."""
    read: int = 0
    """Rows read in this pass."""
    stream: Mapping[str, Any] | None = None
    """What `datasets` says of its own place, or None at the start of a pass."""


class RowStream:
    """The rows of a source for one of several processes, for ever: a pass that ends begins anew.

    Processes read rows that no other reads, and all rows together. From the second pass on the files
    come in another order, the same for all processes.
    """

    def __init__(self, source: Source, *, rank: int = 0, world_size: int = 1) -> None:
        self.source = source
        self._opened = open_source(source)
        self._limit = None if source.limit is None else len(range(rank, source.limit, world_size))
        self._dataset: IterableDataset = self._opened.dataset
        if world_size > 1:
            self._dataset = split_dataset_by_node(self._dataset, rank, world_size)
        self._epoch, self._read = 0, 0
        self._rows: Generator[Any, None, None] | None = None
        self._resumed: Mapping[str, Any] | None = None

    @property
    def epoch(self) -> int:
        """Passes over the source that are done."""
        return self._epoch

    @property
    def identity(self) -> str:
        """What a position belongs to: the source and its files."""
        return f"{self.source.name} ({self.source.split}) {self._opened.fingerprint}".rstrip()

    @property
    def is_inside(self) -> bool:
        """Whether rows of the present pass have been read."""
        return self._read > 0

    @property
    def position(self) -> RowPosition:
        """Where the stream stands after the row it gave last."""
        # Before its first row `datasets` knows no place, not even the one it was told to go on from.
        stream = self._resumed if self._rows is None else self._dataset.state_dict()
        return RowPosition(self._epoch, self._read, stream)

    def go_to(self, position: RowPosition) -> None:
        """Go on behind the row at which a position was taken."""
        self.close()
        self._epoch, self._read = position.epoch, position.read
        self._resumed = position.stream
        self._dataset.set_epoch(self._epoch)
        if position.stream is not None:
            self._dataset.load_state_dict(dict(position.stream))

    def close(self) -> None:
        """Let go of the file that is open; the next row begins the pass anew, or where told to."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def next_row(self) -> Row | None:
        """Return the next row, or None at the end of a pass; the next call begins a new one.

        Raises:
            DataError: If the source cannot be read on.
        """
        while (table := self._next_table()) is not None:
            row = row_of(table, self._read, self._opened)
            self._read += 1
            if row is not None:
                return row
        self.go_to(RowPosition(self._epoch + 1))
        return None

    def _next_table(self) -> Any:
        if self._limit is not None and self._read >= self._limit:
            return None
        try:
            if self._rows is None:
                self._rows = iter(self._dataset)
            return next(self._rows, None)
        except UNREADABLE as error:
            raise DataError(
                f"Wanted row {self._read} of {self.source.name}, but: {error} Look at the file there, "
                "or try again if it lies on the network."
            ) from error


def row_of(table: Any, number: int, opened: Opened) -> Row | None:
    """Return a table of one row as values, or with what is wrong with it; None for an empty line."""
    try:
        values = table.to_pylist()[0]
        if not opened.is_lines:
            return Row(number, values)
        if not values["text"].strip():
            return None
        parsed = json.loads(values["text"].encode("latin-1").decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Row(number, {}, RowFault.INVALID_UTF8)
    except (ValueError, RecursionError):
        return Row(number, {}, RowFault.UNREADABLE)
    readable = isinstance(parsed, dict)
    return Row(number, parsed, None) if readable else Row(number, {}, RowFault.UNREADABLE)


def find_kind(source: Source) -> RowKind:
    """Return the kind of a source's rows, by the columns of the first one that can be read.

    Raises:
        DataError: If it cannot be opened, holds no row, or has columns of no known kind.
    """
    with closing(RowStream(source)) as stream:
        for _ in range(_MOST_LOOKED_AT):
            row = stream.next_row()
            if row is None:
                break
            if row.fault is None:
                return kind_of(row.values.keys(), source.name)
    raise DataError(
        f"Wanted rows in {source.name}, found none that can be read among the first "
        f"{_MOST_LOOKED_AT}. Look at the file, or name another one in data.path."
    )
