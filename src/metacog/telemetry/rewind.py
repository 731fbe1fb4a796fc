"""Takes an event log back to a checkpoint, so that each step is told once.

A run that was cut short told of steps after its last checkpoint. It does them again when it goes on;
what was told of them before is kept in a file of its own.
"""

from pathlib import Path

from metacog.errors import InputError
from metacog.telemetry.events import decode
from metacog.telemetry.files import write_bytes


def rewind(events: Path, step: int, *, kept_in: Path) -> int:
    """Move all events behind the last one of a step to another file; return how many there were.

    An event of an earlier step that came later, such as an alert, stays behind too: the log is cut
    at the first event of a later step.

    Args:
        events: The log; a missing one has no event.
        step: The step that the run goes on from.
        kept_in: Directory for the events that were cut off.
    """
    if not events.is_file():
        return 0
    content = events.read_bytes()
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if _step(line) > step), len(lines))
    lost = lines[first:]
    if lost:
        write_bytes(_free(kept_in, step), b"".join(lost))
    if len(content) > sum(map(len, lines[:first])):
        write_bytes(events, b"".join(lines[:first]))
    return len(lost)


def _step(line: bytes) -> int:
    """Return the step of an event; -1 of a line that is none."""
    try:
        return decode(line.decode()).step
    except (InputError, UnicodeDecodeError):
        return -1


def _free(directory: Path, step: int) -> Path:
    """Return a name that no earlier rewind has used."""
    number = 1
    while (path := directory / f"events-after-{step}-{number}.jsonl").exists():
        number += 1
    return path
