"""TensorBoard's event files, written with its own writer: no torch, no TensorFlow."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metacog.telemetry.events import Event
from metacog.telemetry.trackers import (
    FAILURES,
    SAMPLE_COLUMNS,
    as_markdown,
    library,
    literal,
    sample_name,
    sink_errors,
)


class TensorBoardTracker:
    """A directory that `tensorboard --logdir` shows: curves, and texts by question and step.

    Raises:
        ConfigError: If tensorboard is not installed.
        SinkError: If the directory cannot be written.
    """

    failures = FAILURES

    def __init__(self, directory: Path) -> None:
        writer = library("tensorboard.summary.writer.event_file_writer")
        self._event = library("tensorboard.compat.proto.event_pb2").Event
        self._scalar = library("tensorboard.plugins.scalar.summary_v2").scalar_pb
        self._text = library("tensorboard.plugins.text.summary_v2").text_pb
        with sink_errors("tensorboard", self.failures):
            self._writer = writer.EventFileWriter(str(directory))

    def config(self, event: Event) -> None:
        """Write the configuration as a text."""
        text = json.dumps(dict(event.data), indent=2, ensure_ascii=False)
        self._add(event, self._text("config", literal(text)))

    def numbers(self, event: Event, values: Mapping[str, float]) -> None:
        """Write one point a name, and hand all that is waiting to the system."""
        for name, value in values.items():
            self._add(event, self._scalar(name, value))
        self._writer.flush()

    def samples(self, samples: Sequence[Event]) -> None:
        """Write each reply as a text of its own."""
        for sample in samples:
            shown = {name: sample.data[name] for name in SAMPLE_COLUMNS if name in sample.data}
            self._add(sample, self._text(sample_name(sample), as_markdown(shown)))

    def alert(self, event: Event, message: str) -> None:
        """Write the sentence as a text."""
        self._add(event, self._text("alerts", literal(message)))

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _add(self, event: Event, summary: Any) -> None:
        self._writer.add_event(self._event(wall_time=event.time, step=event.step, summary=summary))
