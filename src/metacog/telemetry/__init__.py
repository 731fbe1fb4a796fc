"""What happens in a run, as typed events sent to sinks, and the run's directory on disk."""

from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.reader import EventTail, follow, read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.telemetry.sinks import Sink, open_sinks, require_sinks

__all__ = [
    "Event",
    "EventKind",
    "EventTail",
    "Recorder",
    "RunDir",
    "Sink",
    "follow",
    "open_sinks",
    "read_events",
    "require_sinks",
]
