"""Numbers, bars and courses as text."""

import math
from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_PARTS = " ▏▎▍▌▋▊▉█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille cell by row and column."""
MISSING = "--"


def number(value: float | None, *, known: bool = True) -> str:
    """Return a number in at most eight characters; `--` if it is not known, NaN if it is no number."""
    if not known:
        return MISSING
    if value is None or math.isnan(value):
        return "NaN"
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 1e15 or size < 1e-3:
        return f"{value:.1e}"
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.4g}{letter}"
    return f"{value:.4g}" if size >= 1 else f"{value:.3f}"


def bar(share: float, width: int) -> str:
    """Return a bar whose filled part is a share, from 0 to 1, of `width` characters."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_PARTS[rest] if rest else "")).ljust(width)


def course(values: Sequence[float], width: int, height: int = 1) -> list[str]:
    """Return a filled curve, stretched to `width` columns, as `height` lines, the highest first."""
    if not values or width < 1:
        return [" " * max(width, 0)] * height
    values = [values[column * len(values) // width] for column in range(width)]
    low, high = min(values), max(values)
    span = high - low
    most = height * 8
    levels = [most // 2 if span == 0 else 1 + round((v - low) / span * (most - 1)) for v in values]
    lines = []
    for row in reversed(range(height)):
        cells = (_BLOCKS[min(max(level - row * 8, 0), 8)] for level in levels)
        lines.append("".join(cells).ljust(width))
    return lines


def scatter(
    points: Sequence[tuple[float, float]], width: int, height: int, *, most: float
) -> tuple[list[str], list[str]]:
    """Return two layers of `height` lines in braille, from 0 to `most`: the diagonal, and points."""
    line = _Canvas(width, height)
    for column in range(2 * width):
        line.dot(column / (2 * width - 1), column / (2 * width - 1))
    drawn = _Canvas(width, height)
    for x, y in points:
        drawn.dot(x / most, y / most)
    return line.lines(), drawn.lines()


class _Canvas:
    """Dots in braille cells; (0, 0) is the lower left corner and (1, 1) the upper right."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._cells = [[0] * width for _ in range(height)]

    def dot(self, x: float, y: float) -> None:
        column = round(min(max(x, 0.0), 1.0) * (2 * self._width - 1))
        row = round((1 - min(max(y, 0.0), 1.0)) * (4 * self._height - 1))
        self._cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]

    def lines(self) -> list[str]:
        return ["".join(chr(0x2800 + bits) if bits else " " for bits in r) for r in self._cells]
