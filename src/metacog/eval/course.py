"""The numbers behind the pictures of a run's course, from its events."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metacog.telemetry.events import Event, EventKind

PREDICTED = "predicted"
"""`budget_source` of replies under the reading's budget."""


@dataclass(frozen=True)
class Series:
    """One figure over a run, where it is known."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class LinesFigure:
    """Figures of one kind over the steps of a run."""

    series: tuple[Series, ...]


@dataclass(frozen=True)
class SpendFigure:
    """Caps that were predicted and THINK tokens that were used, a pair for each reply of a step."""

    step: int | None
    predicted: tuple[float, ...]
    used: tuple[float, ...]


@dataclass(frozen=True)
class GridFigure:
    """A grid with a row for each puzzle; rows may differ in length."""

    step: int | None
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Course:
    """All pictures of a run's course."""

    loss: LinesFigure
    accuracy: LinesFigure
    spending: LinesFigure
    budget: SpendFigure
    plans: LinesFigure
    confidence: LinesFigure
    alpha: GridFigure
    alpha_course: LinesFigure
    gate: GridFigure

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return each figure's numbers by its name."""
        return {name: asdict(figure) for name, figure in vars(self).items()}


def course_of(events: Sequence[Event]) -> Course:
    """Return the pictures of a run from its events."""
    lines = _series(events)

    def chosen(*parts: str) -> LinesFigure:
        return LinesFigure(tuple(lines[n] for n in lines if any(part in n for part in parts)))

    return Course(
        loss=LinesFigure(
            tuple(lines[n] for n in ("train/loss", "eval/validation/loss") if n in lines)
        ),
        accuracy=chosen("accuracy"),
        spending=chosen("think_tokens", "budget/predicted_mean", "_spend"),
        budget=_spend(events),
        plans=chosen("metacog/plan/"),
        confidence=chosen("metacog/confidence/"),
        alpha=_grid(events, "alpha"),
        alpha_course=chosen("metacog/alpha/"),
        gate=_grid(events, "gate"),
    )


def wrong_of(events: Sequence[Event]) -> list[Mapping[str, object]]:
    """Return the wrong replies of the latest evaluation that has any replies, as events hold them."""
    samples = [event for event in events if event.kind is EventKind.SAMPLE]
    latest = max((event.step for event in samples), default=None)
    return [e.data for e in samples if e.step == latest and e.data.get("correct") is False]


def _series(events: Sequence[Event]) -> dict[str, Series]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if event.kind in {EventKind.METRICS, EventKind.EVAL}:
            for name, value in event.data.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    found.setdefault(name, []).append((event.step, float(value)))
    return {
        name: Series(name, tuple(step for step, _ in points), tuple(value for _, value in points))
        for name, points in found.items()
    }


def _spend(events: Sequence[Event]) -> SpendFigure:
    """Return the pairs of the latest step that had replies under a predicted budget."""
    for event in reversed(events):
        if event.kind is not EventKind.HIST:
            continue
        columns = [event.data.get(name) for name in ("cap", "think_len", "budget_source")]
        caps, used, sources = [column if isinstance(column, list) else [] for column in columns]
        pairs = [
            (float(cap), float(think))
            for cap, think, source in zip(caps, used, sources, strict=False)
            if source == PREDICTED and cap is not None
        ]
        if pairs:
            predicted, thought = zip(*pairs, strict=True)
            return SpendFigure(event.step, predicted, thought)
    return SpendFigure(None, (), ())


def _grid(events: Sequence[Event], name: str) -> GridFigure:
    for event in reversed(events):
        if event.kind is EventKind.HEATMAP and event.data.get("name") == name:
            rows, values = event.data.get("rows"), event.data.get("values")
            if isinstance(rows, list) and isinstance(values, list):
                grid = tuple(tuple(float(number) for number in row) for row in values)
                return GridFigure(event.step, tuple(map(str, rows)), grid)
    return GridFigure(None, (), ())
