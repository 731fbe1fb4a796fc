"""The puzzles that are asked again and again: verdicts, when they turned, and what was replied."""

import re

from textual.content import Content

from metacog.tui.literal import one_line
from metacog.tui.state import Puzzle, RunState
from metacog.tui.theme import BRIGHT, DIM, FAIL, FAINT, OK, PLAIN
from metacog.tui.widgets.draw import MISSING, bar, course
from metacog.tui.widgets.lines import heading, text

_BAR = 8
_COURSE = 12
_SPANS = (("plan", "$accent"), ("exec", PLAIN), ("eval", "$secondary"))
"""Marked spans of THINK and how they look; the rest is dim."""


def board(state: RunState, width: int, _height: int) -> list[Content]:
    """Return the lines of all puzzles, THINK folded to its length."""
    if not state.puzzles:
        return []
    step = max(puzzle.step for puzzle in state.puzzles.values())
    lines = [heading("PUZZLES", f"step {step}", width)]
    for (_, number), puzzle in sorted(state.puzzles.items()):
        lines += _puzzle(number, puzzle, width)
    return lines


def _spent(puzzle: Puzzle, room: int) -> list[Content]:
    """Return THINK tokens of the budget in numbers, and as a bar where there is room."""
    used, budget = puzzle.data.get("think_tokens"), puzzle.data.get("budget")
    if not isinstance(used, int):
        return [text(f"  {MISSING}", FAINT)]
    if not isinstance(budget, int):
        return [text(f"  {used}/{MISSING}", DIM)]
    counted = text(f" {used}/{budget}", DIM)
    cells = min(_BAR, room - counted.cell_length - 1)
    if cells < 1:
        return [counted]
    drawn = bar(used / budget if budget else 1.0, cells).replace(" ", "·")
    return [text(f" {drawn}", PLAIN), counted]


def _puzzle(number: int, puzzle: Puzzle, width: int) -> list[Content]:
    data = puzzle.data
    correct = data.get("correct")
    verdict = text("● right", OK) if correct else text("✖ wrong", FAIL)
    since = f"  since {puzzle.flips[-1][0]}" if puzzle.flips else ""
    first = [text(f"{number:>2} ", DIM), verdict, text(since, DIM)]
    first += _spent(puzzle, width - sum(part.cell_length for part in first))
    room = min(width - sum(part.cell_length for part in first) - 2, _COURSE)
    if len(puzzle.lengths) > 1 and room > 3:
        lengths = [float(length) for length in puzzle.lengths][-room:]
        first.append(text(f"  {course(lengths, len(lengths))[0]}", FAINT))
    answer = one_line(str(data.get("answer", MISSING)), max(width - 14, 8))
    wanted = "" if correct else f"  wanted {one_line(str(data.get('wanted', MISSING)), 20)}"
    return [
        Content("").join(first),
        text(f"   {one_line(str(data.get('question', MISSING)), width - 3)}", DIM),
        Content("").join([text("   → ", FAINT), text(answer, BRIGHT), text(wanted, FAINT)]),
    ]


def thought(words: str) -> Content:
    """Return THINK with its marked spans coloured: plan, exec, eval."""
    parts, at = [], 0
    for found in re.finditer(r"<(plan|exec|eval)>.*?(</\1>|\Z)", words, re.DOTALL):
        parts.append(text(words[at : found.start()], DIM))
        parts.append(text(found.group(), dict(_SPANS)[found.group(1)]))
        at = found.end()
    return Content("").join([*parts, text(words[at:], DIM)])


def unfolded(puzzle: Puzzle, width: int, *, is_folded: bool = False) -> Content:
    """Return the whole of one puzzle, its THINK written out unless it is folded."""
    data = puzzle.data
    turned = ", ".join(f"{'right' if right else 'wrong'} from {at}" for at, right in puzzle.flips)
    parts = [
        text(str(data.get("question", MISSING)), PLAIN),
        heading("THINK", f"{data.get('think_tokens', MISSING)} tokens", width),
        text("▸ folded; f opens it", FAINT)
        if is_folded
        else thought(str(data.get("thinking", MISSING))),
        heading("ANSWER", f"wanted {one_line(str(data.get('wanted', MISSING)), 30)}", width),
        text(str(data.get("answer", MISSING)), BRIGHT),
        text(
            f"plan {data.get('plan') or MISSING}  close {data.get('close_reason') or MISSING}", DIM
        ),
        text(f"verdict: {turned or MISSING}", DIM),
    ]
    return Content("\n").join(parts)
