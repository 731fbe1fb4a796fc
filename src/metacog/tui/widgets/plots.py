"""Two numbers against each other: budgets, and confidence against what came true."""

from collections.abc import Mapping, Sequence

from textual.content import Content

from metacog.tui.state import RunState
from metacog.tui.theme import BRIGHT, DIM, FAINT, PLAIN
from metacog.tui.widgets.draw import MISSING, number, scatter
from metacog.tui.widgets.lines import text

_BINS = 10
_LEVELS = " ▁▂▃▄▅▆▇█"
_LABEL = 7


def against(
    points: Sequence[tuple[float, float]],
    columns: int,
    rows: int,
    *,
    most: float,
    labels: Mapping[int, str],
    end: str = "",
) -> list[Content]:
    """Return points over the line where both numbers are equal, from 0 to `most`.

    Args:
        points: Across, and up.
        columns: Of characters.
        rows: Of characters.
        most: The highest number of both axes.
        labels: What stands before a row, from the highest.
        end: What stands behind the lowest row.
    """
    diagonal, drawn = scatter(points, columns, rows, most=most)
    lines = []
    for row, (below, above) in enumerate(zip(diagonal, drawn, strict=True)):
        cells = [
            text(b if a == " " else a, FAINT if a == " " else BRIGHT)
            for b, a in zip(below, above, strict=True)
        ]
        label = text(f"{labels.get(row, ''):>{_LABEL}}▕", DIM)
        after = text(f" {end}" if row == rows - 1 else "", DIM)
        lines.append(Content("").join([label, *cells, after]))
    return lines


def budget_scatter(state: RunState, width: int, rows: int) -> list[Content]:
    """Return predicted budget (across) against THINK tokens used (up), with the line where equal."""
    points = _budgets(state)
    if not points:
        return [text(f"{'used/predicted':<15}{MISSING:>8}", FAINT)]
    most = max(max(point) for point in points) or 1.0
    labels = {0: number(most), 1: "used", 2: f"n={len(points)}", rows - 1: "0"}
    columns = max(min(width - _LABEL - 12, rows * 6), 4)
    end = f"budget {number(most)}" if width >= 40 else "budget"
    return against(points, columns, rows, most=most, labels=labels, end=end)


def _budgets(state: RunState) -> list[tuple[float, float]]:
    """Return the pairs of the puzzles, and of the practice step that was told last."""
    points = []
    for puzzle in state.puzzles.values():
        budget, used = puzzle.data.get("budget"), puzzle.data.get("think_tokens")
        if isinstance(budget, int) and isinstance(used, int):
            points.append((float(budget), float(used)))
    sources, caps = state.lists.get("budget_source", []), state.lists.get("cap", [])
    for source, cap, used in zip(sources, caps, state.lists.get("think_len", []), strict=False):
        if source == "predicted" and isinstance(cap, int) and isinstance(used, int):
            points.append((float(cap), float(used)))
    return points


def confidence_lines(state: RunState, width: int, rows: int) -> list[Content]:
    """Return the reliability diagram over the histogram of confidence, on one axis from 0 to 1.

    Both are of the latest evaluation where it told them, else the histogram alone, of the puzzles.
    """
    told = state.heatmaps.get("reliability")
    if told is not None and len(told[1]) == 3:
        step, (share, said, right) = told
        pairs = [
            (s, r) for s, r in zip(said, right, strict=False) if s is not None and r is not None
        ]
        labels = {0: "1", 1: "right", rows - 1: "0"}
        end = "confidence 1" if width >= 2 * _BINS + 22 else "sure"
        drawn = against(pairs, 2 * _BINS, rows, most=1.0, labels=labels, end=end)
        return [*drawn, _histogram([value or 0.0 for value in share], f"at {step}")]
    found = [p.data.get("confidence") for p in state.puzzles.values()]
    known = [value for value in found if isinstance(value, float)]
    if not known:
        return [text(f"{'histogram':<15}{MISSING:>8}", FAINT)]
    counts = [float(sum(int(min(v, 0.999) * _BINS) == b for v in known)) for b in range(_BINS)]
    return [_histogram(counts, f"n={len(known)} puzzles")]


def _histogram(counts: Sequence[float], of: str) -> Content:
    most = max(counts) or 1.0
    cells = "".join(_LEVELS[max(round(8 * c / most), 1 if c else 0)] * 2 for c in counts[:_BINS])
    return Content("").join(
        [text(f"{'spread':>{_LABEL}}▕", DIM), text(cells, PLAIN), text(f"▏{of}", DIM)]
    )
