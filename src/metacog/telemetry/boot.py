"""What is checked before a run starts, as one JSON line a check, for a process that shows it."""

import json
from dataclasses import asdict, dataclass

CHECKS = (
    "configuration",
    "model",
    "padding",
    "tags",
    "data",
    "batch",
    "parameters",
    "memory",
    "disk",
    "one step",
)
"""Their names, in order."""


@dataclass(frozen=True)
class Piece:
    """Tokens of a row that belong to one part and are learned alike."""

    part: str
    learned: bool
    text: str


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_right: bool
    says: str
    """What was found, or what is wrong and what to do; lines for a person."""
    rows: tuple[tuple[Piece, ...], ...] = ()
    """The first rows of the first batch, where that is what was looked at."""


def encode(check: Check) -> str:
    """Return a check as one line of JSON, without the line's end."""
    return json.dumps(asdict(check))


def decode(line: str) -> Check:
    """Return the check that a line tells.

    Raises:
        ValueError: If it tells none.
    """
    found = json.loads(line)
    try:
        rows = tuple(tuple(Piece(**piece) for piece in row) for row in found["rows"])
        return Check(found["name"], found["is_right"] is True, str(found["says"]), rows)
    except (KeyError, TypeError) as error:
        raise ValueError(f"wanted a check of a run, got {line[:80]!r}.") from error
