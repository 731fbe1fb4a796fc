"""Weights & Biases: offline unless WANDB_MODE says otherwise; `wandb sync` uploads later."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from metacog.telemetry.events import Event
from metacog.telemetry.trackers import FAILURES, SAMPLE_COLUMNS, library, sink_errors

_STEP = "train/global_step"
"""The axis of every curve, so that an event may come late without being refused."""


class WandbTracker:
    """A run of the project `metacog`, kept below `wandb/` in the run's directory.

    Raises:
        ConfigError: If wandb is not installed.
        SinkError: If wandb cannot begin a run.
    """

    def __init__(self, directory: Path, *, run: str) -> None:
        wandb = library("wandb")
        self.failures: tuple[type[Exception], ...] = (*FAILURES, wandb.Error)
        self._table = wandb.Table
        with sink_errors("wandb", self.failures):
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "metacog"),
                name=run,
                dir=str(directory),
                mode=os.environ.get("WANDB_MODE", "offline"),
                settings=wandb.Settings(
                    console="off", silent=True, disable_git=True, disable_code=True
                ),
            )
            self._run.define_metric(_STEP)
            self._run.define_metric("*", step_metric=_STEP)

    def config(self, event: Event) -> None:
        """Keep the configuration."""
        self._run.config.update(dict(event.data))

    def numbers(self, event: Event, values: Mapping[str, float]) -> None:
        """Add one point a name."""
        self._run.log({_STEP: event.step, **values})

    def samples(self, samples: Sequence[Event]) -> None:
        """Show replies as a table of their step."""
        rows = [[sample.data.get(name) for name in SAMPLE_COLUMNS] for sample in samples]
        table = self._table(columns=list(SAMPLE_COLUMNS), data=rows)
        suite = samples[0].data.get("suite", "replies")
        self._run.log({_STEP: samples[0].step, f"samples/{suite}": table})

    def alert(self, event: Event, message: str) -> None:
        """Raise an alert of the run."""
        self._run.alert(title=f"step {event.step}", text=message)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
