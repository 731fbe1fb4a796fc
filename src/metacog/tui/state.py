"""What is known of a run, from its events: bounded whatever its length."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from statistics import fmean
from typing import TypeVar

from metacog.telemetry.events import Event, EventKind
from metacog.tui.history import History, RowHistory

MOST_NAMES = 400
"""Metrics with a history of their own; further names are counted only."""
_MOST_TEXT = 20_000
"""Characters of one text that are kept."""
_MOST_PUZZLES = 64
_MOST_GRIDS = 16
_MOST_COLUMNS = 128
"""Of a grid whose course is kept."""
_MOST_LISTED = 1_000
"""Values of one list that are kept."""


@dataclass
class Puzzle:
    """One question that is asked again and again, its latest reply, and when its verdict turned."""

    step: int
    data: Mapping[str, object]
    flips: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=32))
    """Steps at which the verdict became what it says, the first evaluation included."""
    lengths: deque[int] = field(default_factory=lambda: deque(maxlen=64))
    """THINK tokens of its latest replies."""

    def copy(self) -> "Puzzle":
        """Return the same puzzle, which goes its own way from here."""
        return replace(self, flips=_same(self.flips), lengths=_same(self.lengths))


@dataclass(frozen=True)
class Told:
    """A sentence of the run."""

    time: float
    step: int
    text: str


@dataclass
class RunState:
    """A run as its events tell it. Fields are None, or absent from a mapping, until they are known."""

    run: str | None = None
    step: int | None = None
    num_events: int = 0
    first_time: float | None = None
    last_time: float | None = None
    """Seconds since the epoch of the first and last event."""
    config: Mapping[str, object] = field(default_factory=dict)
    latest: dict[str, float | None] = field(default_factory=dict)
    """Newest number by name; None where it was not finite."""
    histories: dict[str, History] = field(default_factory=dict)
    unnamed: int = 0
    """Numbers without a history because there are too many names."""
    lists: dict[str, list[object]] = field(default_factory=dict)
    """Newest values of `hist` events by name."""
    heatmaps: dict[str, tuple[int, list[list[float | None]]]] = field(default_factory=dict)
    """Step and rows of the newest grid by name."""
    courses: dict[str, RowHistory] = field(default_factory=dict)
    """Mean over the rows of each grid, by name, over time."""
    evaluations: deque[int] = field(default_factory=lambda: deque(maxlen=1000))
    """Steps at which the run was judged."""
    puzzles: dict[tuple[str, int], Puzzle] = field(default_factory=dict)
    alerts: deque[Told] = field(default_factory=lambda: deque(maxlen=200))
    log: deque[Told] = field(default_factory=lambda: deque(maxlen=500))
    checkpoints: deque[Told] = field(default_factory=lambda: deque(maxlen=50))
    stages: list[str] = field(default_factory=list)
    """Names of the directories of a schedule's stages that have begun, in order."""
    end: str | None = None
    """How it ended, `done` or `stopped`."""
    metrics_times: tuple[tuple[int, float], tuple[int, float]] | None = None
    """Step and time of the first and last metrics since the run began or went on."""
    replays: int | None = None
    """The step up to which events were taken, where that is not the newest."""

    def take(self, events: Iterable[Event]) -> None:
        """Add what further events tell."""
        for event in events:
            self._note(event)
            self._take(event)

    def copy(self) -> "RunState":
        """Return the same knowledge, which goes its own way from here."""
        return replace(
            self,
            latest=dict(self.latest),
            histories={name: history.copy() for name, history in self.histories.items()},
            lists=dict(self.lists),
            stages=list(self.stages),
            heatmaps=dict(self.heatmaps),
            courses={name: course.copy() for name, course in self.courses.items()},
            evaluations=_same(self.evaluations),
            puzzles={key: puzzle.copy() for key, puzzle in self.puzzles.items()},
            alerts=_same(self.alerts),
            log=_same(self.log),
            checkpoints=_same(self.checkpoints),
        )

    @property
    def steps(self) -> int | None:
        """Steps that the run is to take."""
        section = self.config.get("run")
        steps = section.get("steps") if isinstance(section, Mapping) else None
        return steps if isinstance(steps, int) else None

    def _note(self, event: Event) -> None:
        self.run, self.num_events = event.run, self.num_events + 1
        self.step = event.step
        self.first_time = event.time if self.first_time is None else self.first_time
        self.last_time = event.time

    def _take(self, event: Event) -> None:
        match event.kind:
            case EventKind.METRICS | EventKind.EVAL:
                self._numbers(event)
                if event.kind is EventKind.METRICS:
                    now = (event.step, event.time)
                    self.metrics_times = (self.metrics_times or (now, now))[0], now
                else:
                    self.evaluations.append(event.step)
            case EventKind.HIST:
                self._spread(event)
            case EventKind.HEATMAP:
                self._grid(event)
            case EventKind.SAMPLE:
                self._sample(event)
            case EventKind.CONFIG:
                self.config, self.end, self.metrics_times = event.data, None, None
            case EventKind.ALERT:
                self.alerts.append(_told(event, "message"))
            case EventKind.CHECKPOINT:
                self.checkpoints.append(_told(event, "path"))
                self.log.append(_told(event, "path", before="saved "))
            case EventKind.STATUS | EventKind.LOG:
                self._said(event)

    def _numbers(self, event: Event) -> None:
        for name, value in event.data.items():
            if value is not None and not _is_number(value):
                continue
            if name not in self.latest and len(self.latest) >= MOST_NAMES:
                self.unnamed += 1
                continue
            number = float(value) if isinstance(value, int | float) else None
            self.latest[name] = number
            if number is not None:
                self.histories.setdefault(name, History()).add(event.step, number)

    def _spread(self, event: Event) -> None:
        for name, values in event.data.items():
            if isinstance(values, list) and (name in self.lists or len(self.lists) < MOST_NAMES):
                self.lists[name] = values[:_MOST_LISTED]

    def _grid(self, event: Event) -> None:
        name, rows = str(event.data.get("name", "")), event.data.get("values")
        if isinstance(rows, list) and rows and all(isinstance(row, list) for row in rows):
            kept = [row[:_MOST_LISTED] for row in rows[:_MOST_LISTED]]
            grid = [[float(v) if _is_number(v) else None for v in row] for row in kept]
            if name in self.heatmaps or len(self.heatmaps) < _MOST_GRIDS:
                self.heatmaps[name] = (event.step, grid)
                self.courses.setdefault(name, RowHistory()).add(event.step, _means(grid))

    def _sample(self, event: Event) -> None:
        number = event.data.get("number")
        if not isinstance(number, int):
            return
        key = (str(event.data.get("suite", "sample")), number)
        data = {name: _cut(value) for name, value in event.data.items()}
        if key not in self.puzzles and len(self.puzzles) >= _MOST_PUZZLES:
            return
        puzzle = self.puzzles.setdefault(key, Puzzle(event.step, data))
        puzzle.step, puzzle.data = event.step, data
        used, correct = data.get("think_tokens"), data.get("correct")
        if isinstance(used, int):
            puzzle.lengths.append(used)
        if isinstance(correct, bool) and (not puzzle.flips or puzzle.flips[-1][1] != correct):
            puzzle.flips.append((event.step, correct))

    def _said(self, event: Event) -> None:
        told = _told(event, "message")
        self.log.append(told)
        if event.kind is EventKind.STATUS:
            stage = PurePath(str(event.data.get("path", ""))).name
            if told.text.startswith("stage ") and stage and stage not in self.stages:
                self.stages.append(stage)
            self.end = told.text if told.text in {"done", "stopped"} else None


T = TypeVar("T")


def _same(values: deque[T]) -> deque[T]:
    return deque(values, maxlen=values.maxlen)


def _means(grid: list[list[float | None]]) -> tuple[float | None, ...]:
    """Return the mean of each column over the rows that reach it."""
    width = min(max(map(len, grid)), _MOST_COLUMNS)
    columns = [[row[c] for row in grid if c < len(row)] for c in range(width)]
    known = [[value for value in column if value is not None] for column in columns]
    return tuple(fmean(values) if values else None for values in known)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cut(value: object) -> object:
    if not isinstance(value, str) or len(value) <= _MOST_TEXT:
        return value
    return f"{value[:_MOST_TEXT]}… ({len(value) - _MOST_TEXT} characters more)"


def _told(event: Event, name: str, before: str = "") -> Told:
    text = _cut(f"{before}{event.data.get(name, '')}")
    assert isinstance(text, str)
    return Told(event.time, event.step, text)
