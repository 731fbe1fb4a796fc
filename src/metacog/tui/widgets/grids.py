"""Grids of numbers as shades: what a gate does over time, which blocks are trusted over a run."""

from collections.abc import Sequence
from itertools import groupby, pairwise

from textual.content import Content

from metacog.tui.history import Row, RowHistory
from metacog.tui.theme import BRIGHT, DIM, FAINT, PLAIN
from metacog.tui.widgets.draw import MISSING, number
from metacog.tui.widgets.lines import text

_SHADES = " ░▒▓█"
_STYLES = (FAINT, DIM, DIM, PLAIN, BRIGHT)
_UNKNOWN = "·"
_MOST_ROWS = 16


def shades(values: Sequence[float | None], low: float, high: float) -> Content:
    """Return a cell a value, darkest at `low` and brightest at `high`; `·` where there is none."""
    span = (high - low) or 1.0
    levels = [
        None if value is None else round(4 * min(max((value - low) / span, 0.0), 1.0))
        for value in values
    ]
    return Content("").join(
        text((_UNKNOWN if level is None else _SHADES[level]) * len(list(same)), _style(level))
        for level, same in groupby(levels)
    )


def _style(level: int | None) -> str:
    return FAINT if level is None else _STYLES[level]


def stretched(
    values: Sequence[float | None], width: int, *, longest: int | None = None
) -> list[float | None]:
    """Return as many values as `width` holds, neighbours as their mean where there are more.

    Args:
        values: In their order.
        width: Columns of the longest row.
        longest: Values of that row, so that a column is the same part of every row; by default this one.
    """
    whole = len(values) if longest is None else longest
    if whole <= width:
        return list(values)
    edges = [whole * column // width for column in range(width + 1)]
    parts = [values[a:b] for a, b in pairwise(edges) if a < len(values)]
    known = [[value for value in part if value is not None] for part in parts]
    return [sum(part) / len(part) if part else None for part in known]


def grid_lines(
    grid: Sequence[Sequence[float | None]], width: int, rows: int, *, names: Sequence[str] = ()
) -> list[Content]:
    """Return a line for each row of a grid, all under one axis and in shades of one scale."""
    known = [value for row in grid for value in row if value is not None]
    if not known:
        return [text(MISSING, FAINT)]
    low, high, longest = min(known), max(known), max(map(len, grid))
    lines = []
    for place, row in enumerate(grid[:rows]):
        label = text(f"{names[place] if place < len(names) else place + 1:>3} ", DIM)
        cells = stretched(row, max(width - 4, 1), longest=longest)
        lines.append(Content("").join([label, shades(cells, low, high)]))
    return lines


def scale_line(grid: Sequence[Sequence[float | None]], before: str) -> Content:
    """Return what the darkest and the brightest shade of a grid stand for."""
    known = [value for row in grid for value in row if value is not None]
    low, high = (min(known), max(known)) if known else (None, None)
    ends = [number(end, known=end is not None) for end in (low, high)]
    ramp = [text(shade, style) for shade, style in zip(_SHADES[1:], _STYLES[1:], strict=True)]
    return Content("").join([text(f"{before}{ends[0]} ", DIM), *ramp, text(f" {ends[1]}", DIM)])


def spine(course: RowHistory | None, width: int, *, top: float | None = None) -> list[Content]:
    """Return a line for each block, the last block first: shades over time, and the number now.

    Args:
        course: A number a block over time; None where nothing was told.
        width: Of the lines.
        top: What the brightest shade stands for; by default the highest number.
    """
    if course is None or not course.rows:
        return [text(f"layers         {MISSING:>8}", FAINT)]
    depth = max(len(row) for _, row in course.rows)
    columns = _over_time(course, max(width - 11, 1))
    known = [value for row in columns for value in row or () if value is not None]
    high = top if top is not None else max(known, default=1.0)
    lines = []
    for block in reversed(_chosen(depth)):
        values = [row[block] if row and block < len(row) else None for row in columns]
        now = course.rows[-1][1]
        newest = now[block] if block < len(now) else None
        label = text(f"L{block:<3}", DIM)
        value = text(f" {_short(newest):>6}", BRIGHT if newest else FAINT)
        lines.append(Content("").join([label, shades(values, 0.0, high), value]))
    return lines


def _short(value: float | None) -> str:
    """Return a weight in at most six characters."""
    if value is None or value == 0 or value >= 0.001:
        return number(value, known=value is not None)
    return "<.001"


def _chosen(depth: int) -> list[int]:
    """Return the blocks that get a line: all, or evenly chosen ones of many."""
    if depth <= _MOST_ROWS:
        return list(range(depth))
    return [round(line * (depth - 1) / (_MOST_ROWS - 1)) for line in range(_MOST_ROWS)]


def _over_time(course: RowHistory, width: int) -> list[Row | None]:
    """Return what was true at `width` steps, evenly from the first to the last."""
    first, last = course.rows[0][0], course.rows[-1][0]
    columns: list[Row | None] = []
    place = 0
    for column in range(width):
        step = first + (last - first) * (column + 1) / width
        while place + 1 < len(course.rows) and course.rows[place + 1][0] <= step:
            place += 1
        columns.append(course.rows[place][1])
    return columns
