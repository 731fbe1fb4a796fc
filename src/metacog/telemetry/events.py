"""One event, and the line of JSON that carries it.

    {"v":1,"t":1735689600.0,"run":"layer-1","step":100,"kind":"metrics","data":{"train/loss":0.43}}

JSON has no NaN or infinity: `finite` turns them into null and says so in an alert of its own.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from metacog.errors import InputError

VERSION = 1


class EventKind(StrEnum):
    """What an event tells."""

    METRICS = "metrics"
    """Numbers by name, such as `train/loss`."""

    HIST = "hist"
    """Values of one step by name, one a reply: how they are spread."""

    HEATMAP = "heatmap"
    """A grid of numbers, such as the gate's change by time."""

    SAMPLE = "sample"
    """One reply of the model with its reading."""

    EVAL = "eval"
    """Results of an evaluation."""

    STATUS = "status"
    """A phase that began, or the run's end."""

    LOG = "log"
    """A sentence for people."""

    CHECKPOINT = "checkpoint"
    """A checkpoint that was written, with its absolute path."""

    ALERT = "alert"
    """Something that needs a person's eye."""

    CONFIG = "config"
    """The configuration that the run was started with."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run at a step."""

    time: float
    """Seconds since the epoch."""

    run: str
    """Name of the run."""

    step: int
    """Optimizer steps done when it happened."""

    kind: EventKind
    data: Mapping[str, object] = field(default_factory=dict)
    """JSON values by name."""


def finite(event: Event) -> tuple[Event, ...]:
    """Return the event with every NaN and infinity as None, then an alert if there was one."""
    lost: list[str] = []
    data = {key: _finite(value, key, lost) for key, value in event.data.items()}
    if not lost:
        return (event,)
    alert = {"message": f"Not a finite number: {', '.join(lost)}.", "names": lost}
    return (
        Event(time=event.time, run=event.run, step=event.step, kind=event.kind, data=data),
        Event(time=event.time, run=event.run, step=event.step, kind=EventKind.ALERT, data=alert),
    )


def _finite(value: object, path: str, lost: list[str]) -> object:
    """Return a copy of a JSON value without non-finite numbers, noting the paths of those."""
    if isinstance(value, float) and not math.isfinite(value):
        lost.append(path)
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item, f"{path}.{key}", lost) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, f"{path}[{index}]", lost) for index, item in enumerate(value)]
    return value


def encode(event: Event) -> str:
    """Return the event as one line of JSON, without the line end.

    Raises:
        ValueError: If the data holds NaN or infinity; see `finite`.
        TypeError: If the data holds something that JSON has no form for.
    """
    return json.dumps(
        {
            "v": VERSION,
            "t": event.time,
            "run": event.run,
            "step": event.step,
            "kind": event.kind.value,
            "data": dict(event.data),
        },
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    )


def decode(line: str) -> Event:
    """Return the event that a line carries.

    Raises:
        InputError: If the line is no event of this version.
    """
    try:
        record = json.loads(line)
        if record["v"] != VERSION:
            raise InputError(
                f"Wanted an event of version {VERSION}, got version {record['v']!r}. "
                "Read it with the metacog that wrote it."
            )
        return Event(
            time=float(record["t"]),
            run=str(record["run"]),
            step=int(record["step"]),
            kind=EventKind(record["kind"]),
            data=dict(record["data"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"Wanted a line of JSON with v, t, run, step, kind and data, got {line[:80]!r} "
            f"({error}). The file is damaged or no event log."
        ) from error
