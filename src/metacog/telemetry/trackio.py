"""trackio: a local data base that `trackio show` reads, in TRACKIO_DIR or trackio's own folder."""

import io
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout

from metacog.telemetry.events import Event
from metacog.telemetry.trackers import FAILURES, SAMPLE_COLUMNS, library, sink_errors


class TrackioTracker:
    """A run of the project `metacog`. What trackio prints is kept from stdout, which is for data.

    It stays on this machine unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names another.

    Raises:
        ConfigError: If trackio is not installed.
        SinkError: If trackio cannot begin a run.
    """

    failures = (*FAILURES, sqlite3.Error)

    def __init__(self, *, run: str) -> None:
        self._trackio = library("trackio")
        with sink_errors("trackio", self.failures), redirect_stdout(io.StringIO()):
            self._run = self._trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "metacog"),
                name=run,
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def config(self, event: Event) -> None:
        """Keep the configuration; trackio stores it with the first numbers."""
        self._run.config.update(dict(event.data))

    def numbers(self, event: Event, values: Mapping[str, float]) -> None:
        """Add one point a name."""
        self._run.log(dict(values), step=event.step)

    def samples(self, samples: Sequence[Event]) -> None:
        """Show replies as a table of their step."""
        rows = [[sample.data.get(name) for name in SAMPLE_COLUMNS] for sample in samples]
        table = self._trackio.Table(columns=list(SAMPLE_COLUMNS), data=rows)
        suite = samples[0].data.get("suite", "replies")
        self._run.log({f"samples/{suite}": table}, step=samples[0].step)

    def alert(self, event: Event, message: str) -> None:
        """Raise an alert of the run."""
        with redirect_stdout(io.StringIO()):
            self._run.alert(title=f"step {event.step}", text=message, step=event.step)

    def close(self) -> None:
        """Finish the run; trackio has written all of it then."""
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()
