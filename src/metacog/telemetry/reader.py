"""Reads `events.jsonl`, also while it grows. A last line without its end is not there yet."""

import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from metacog.errors import InputError
from metacog.telemetry.events import Event, EventKind, decode

_NEAR_END = 1 << 14
"""Bytes; a run's last word is behind all its numbers."""


class LogReplaced(InputError):
    """An event log is another file than the one that was read so far: a run that goes on cut it."""


@dataclass(frozen=True)
class Place:
    """The end of a line of an event log."""

    offset: int = 0
    """In bytes."""
    num_lines: int = 0
    file: tuple[int, int] | None = None
    """Device and inode of the log; None before the first look."""


class EventTail:
    """Returns the events that were added since the last look.

    Args:
        path: The event log.
        start: Where to begin, as `place` of another tail was.
    """

    def __init__(self, path: Path, start: Place | None = None) -> None:
        self.path = path
        self._place = start or Place()

    @property
    def place(self) -> Place:
        """Up to where it was read."""
        return self._place

    def read(self, *, most_bytes: int | None = None) -> list[Event]:
        """Return the new events; none if the file is not there yet.

        Args:
            most_bytes: About how much to read at once, but at least one finished line if there is
                one; None for all.

        Raises:
            LogReplaced: If what was read so far is no longer what the file begins with.
            InputError: If a finished line is no event.
        """
        try:
            with self.path.open("rb") as file:
                found = self._same_file(file)
                file.seek(self._place.offset)
                content = file.read(-1 if most_bytes is None else most_bytes)
                while most_bytes and b"\n" not in content and (more := file.read(most_bytes)):
                    content += more
        except FileNotFoundError:
            return []
        finished = content[: content.rfind(b"\n") + 1]
        lines = finished.splitlines()
        before = self._place
        events = [self._decode(line, n) for n, line in enumerate(lines, before.num_lines + 1)]
        self._place = Place(before.offset + len(finished), before.num_lines + len(lines), found)
        return events

    def _same_file(self, file: IO[bytes]) -> tuple[int, int]:
        """Return device and inode; a log that is replaced may be longer than it was."""
        status, offset = os.fstat(file.fileno()), self._place.offset
        found = (status.st_dev, status.st_ino)
        if offset and (self._place.file not in {None, found} or status.st_size < offset):
            raise LogReplaced(
                f"{self.path} wanted the file whose first {offset} bytes were read, got another of "
                f"{status.st_size} bytes: it was replaced while it was read. Read it from its start."
            )
        return found

    def _decode(self, line: bytes, number: int) -> Event:
        try:
            return decode(line.decode())
        except (InputError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}, line {number}: {error}") from error


def read_events(path: Path) -> list[Event]:
    """Return every event of a file.

    Raises:
        InputError: If there is no such file, or a finished line of it is no event.
    """
    if not path.is_file():
        raise InputError(f"Wanted an event log at {path}, got no file. Name a run that has begun.")
    return EventTail(path).read()


def last_of(path: Path, kinds: Collection[EventKind]) -> Event | None:
    """Return the last event of some kinds, or None where there is none in the last 16 KiB of a log.

    A line that is no event is passed over: whoever reads the whole log tells of it.
    """
    with path.open("rb") as file:
        start = max(file.seek(0, os.SEEK_END) - _NEAR_END, 0)
        file.seek(start)
        lines = file.read().split(b"\n")[bool(start) : -1]
    words = [kind.value.encode() for kind in kinds]
    for line in reversed(lines):
        # Decoding every line would take several times as long.
        if not any(word in line for word in words):
            continue
        try:
            event = decode(line.decode())
        except (InputError, UnicodeDecodeError):
            continue
        if event.kind in kinds:
            return event
    return None


def follow(
    path: Path, *, is_over: Callable[[], bool], seconds_between_looks: float = 0.25
) -> Iterator[Event]:
    """Yield events as they are written, until `is_over` says so and all is read.

    Raises:
        LogReplaced: If a run that goes on has cut the file.
        InputError: If a finished line is no event.
    """
    tail = EventTail(path)
    while True:
        over = is_over()
        yield from tail.read()
        if over:
            return
        time.sleep(seconds_between_looks)
