"""What a run shows while it trains: evaluations with puzzles, alerts, and a watch on its pulse."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from metacog.errors import RunError
from metacog.losses.confidence import RELIABILITY
from metacog.model.bundle import MetacogModel
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.recorder import Recorder
from metacog.telemetry.rundir import RunDir
from metacog.train.alerts import MemoryGrowth, Watcher, watchers_for
from metacog.train.puzzles import PuzzleBoard, Verdicts, puzzle_figures
from metacog.train.stall import Pulse, Watchdog
from metacog.train.strikes import Strike


@runtime_checkable
class Evaluated(Protocol):
    """What can be judged while it is trained."""

    def evaluate(self) -> Mapping[str, float]:
        """Return figures on validation data."""


@runtime_checkable
class Answering(Protocol):
    """An objective whose model gives replies."""

    def current(self) -> MetacogModel:
        """Return the model with its weights as they are now."""


class Watch:
    """Follows a run step by step. Make it with `watching`."""

    def __init__(
        self,
        recorder: Recorder,
        pulse: Pulse,
        *,
        watchers: Sequence[Watcher] = (),
        puzzles: PuzzleBoard | None = None,
    ) -> None:
        self._recorder, self._pulse = recorder, pulse
        self._watchers, self._puzzles = watchers, puzzles
        self.step = 0
        """The last step that was seen."""

    def after(self, step: int, metrics: Mapping[str, float]) -> None:
        """Look at the metrics of a step that is done."""
        self.step = step
        self._revived(self._pulse.beat())
        for watcher in self._watchers:
            alert = watcher.look(metrics)
            if alert is None:
                continue
            kind = EventKind.LOG if alert.is_over else EventKind.ALERT
            self._recorder.record(kind, step, {"message": alert.message, "alert": alert.name})

    def struck(self, step: int, strike: Strike, examples: Sequence[str]) -> None:
        """Tell of a step that was refused, with all that its batch was made of.

        Raises:
            RunError: If it was the last one that is borne.
        """
        self.step = step
        self._revived(self._pulse.beat())
        data = {"message": strike.of(examples), "alert": "strike", "batch": list(examples)}
        self._recorder.record(EventKind.ALERT, step, data)
        if strike.is_last:
            raise RunError(strike.of(examples))

    def evaluate(self, step: int, objective: Evaluated) -> None:
        """Judge the objective on validation data and on the puzzles, and record both as one event."""
        self._revived(self._pulse.beat(is_step=False))
        figures = dict(objective.evaluate())
        if self._puzzles is not None and isinstance(objective, Answering):
            asked = self._puzzles.ask(objective.current(), step)
            for sample in asked.samples:
                self._recorder.record(EventKind.SAMPLE, step, sample.as_data())
            for heatmap in asked.heatmaps:
                self._recorder.record(EventKind.HEATMAP, step, heatmap)
            figures.update(puzzle_figures(asked.samples))
        diagram = _reliability(figures)
        if diagram is not None:
            self._recorder.record(EventKind.HEATMAP, step, diagram)
        plain = {n: value for n, value in figures.items() if not n.startswith(RELIABILITY)}
        self._recorder.record(EventKind.EVAL, step, plain)
        self._revived(self._pulse.beat(is_step=False))

    def stalled(self, waited: float, usual: float) -> None:
        """Say that no step has come for long; the watchdog calls it from its thread."""
        self._recorder.record(
            EventKind.ALERT,
            self.step,
            {
                "message": f"stall: no step for {waited:.0f} s, where one takes {usual:.2g} s. The run "
                "hangs, or its machine is busy or out of memory. Look at its processes; if it hangs, "
                "stop it and go on from the last checkpoint.",
                "alert": "stall",
            },
        )

    def _revived(self, waited: float | None) -> None:
        if waited is not None:
            message = f"stall is over: the run goes on after {waited:.0f} s."
            self._recorder.record(EventKind.LOG, self.step, {"message": message, "alert": "stall"})


@contextmanager
def watching(
    objective: object, *, run: RunDir, recorder: Recorder, start: int = 0, asks: bool = True
) -> Iterator[Watch]:
    """Watch a run until the block ends.

    Args:
        objective: What is trained; puzzles are asked and budgets watched where it gives replies.
        run: Whose samples tell what puzzles were before a run went on.
        recorder: Takes evaluations, samples and alerts.
        start: Steps done before.
        asks: Whether puzzles are asked and alerts given here; one of several processes does so.
    """
    pulse = Pulse()
    if asks and isinstance(objective, Answering):
        model = objective.current()
        earlier = read_events(run.samples) if run.samples.is_file() else []
        verdicts = Verdicts(event for event in earlier if event.step <= start)
        watch = Watch(
            recorder,
            pulse,
            watchers=watchers_for(
                budget_min=model.decoding.budget.min_tokens,
                budget_max=model.decoding.budget.max_tokens,
                num_layers=_num_layers(model),
            ),
            puzzles=PuzzleBoard(model.base, verdicts),
        )
    else:
        watch = Watch(recorder, pulse, watchers=(MemoryGrowth(),))
    watch.step = start
    with Watchdog(pulse, watch.stalled):
        yield watch


def _reliability(figures: Mapping[str, float]) -> Mapping[str, object] | None:
    """Return the grid of a reliability diagram: rows share, said and right, a column a bin.

    A bin that no row fell into has no number.
    """
    rows = ("share", "said", "right")
    values = [[figures.get(f"{RELIABILITY}{row}/{b}") for b in range(10)] for row in rows]
    known = any(value is not None for value in values[0])
    return {"name": "reliability", "rows": list(rows), "values": values} if known else None


def _num_layers(model: MetacogModel) -> int:
    """Return how many blocks the aggregator weighs."""
    if model.reader is None:
        return 0
    shape = model.reader.layer.shape
    return shape.num_layers if shape.linked_all_layers else 1
