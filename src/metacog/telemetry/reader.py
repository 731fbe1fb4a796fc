"""Reads `events.jsonl`, also while it grows. A last line without its end is not there yet."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from metacog.errors import InputError
from metacog.telemetry.events import Event, decode


@dataclass(frozen=True)
class Place:
    """The end of a line of an event log."""

    offset: int = 0
    """In bytes."""
    num_lines: int = 0


class EventTail:
    """Returns the events that were added since the last look.

    Args:
        path: The event log.
        start: Where to begin, as `place` of another tail was.
    """

    def __init__(self, path: Path, start: Place | None = None) -> None:
        self.path = path
        start = start or Place()
        self._offset, self._num_lines = start.offset, start.num_lines

    @property
    def place(self) -> Place:
        """Up to where it was read."""
        return Place(self._offset, self._num_lines)

    def read(self, *, most_bytes: int | None = None) -> list[Event]:
        """Return the new events; none if the file is not there yet.

        Args:
            most_bytes: About how much to read at once, but at least one finished line if there is
                one; None for all.

        Raises:
            InputError: If a finished line is no event, or the file shrank.
        """
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._offset:
                    raise InputError(
                        f"{self.path} wanted at least {self._offset} bytes, got {size}: it was "
                        "replaced while it was read. Open it anew."
                    )
                file.seek(self._offset)
                content = file.read(-1 if most_bytes is None else most_bytes)
                while most_bytes and b"\n" not in content and (more := file.read(most_bytes)):
                    content += more
        except FileNotFoundError:
            return []
        finished = content[: content.rfind(b"\n") + 1]
        events = [self._decode(line) for line in finished.splitlines()]
        self._offset += len(finished)
        return events

    def _decode(self, line: bytes) -> Event:
        self._num_lines += 1
        try:
            return decode(line.decode())
        except (InputError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}, line {self._num_lines}: {error}") from error


def read_events(path: Path) -> list[Event]:
    """Return every event of a file.

    Raises:
        InputError: If there is no such file, or a finished line of it is no event.
    """
    if not path.is_file():
        raise InputError(f"Wanted an event log at {path}, got no file. Name a run that has begun.")
    return EventTail(path).read()


def follow(
    path: Path, *, is_over: Callable[[], bool], seconds_between_looks: float = 0.25
) -> Iterator[Event]:
    """Yield events as they are written, until `is_over` says so and all is read."""
    tail = EventTail(path)
    while True:
        over = is_over()
        yield from tail.read()
        if over:
            return
        time.sleep(seconds_between_looks)
