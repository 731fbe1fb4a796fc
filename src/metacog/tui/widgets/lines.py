"""Lines that panels are made of, from the numbers of a run."""

from collections.abc import Sequence

from textual.content import Content

from metacog.tui.literal import literal
from metacog.tui.state import RunState
from metacog.tui.theme import BRIGHT, DIM, FAIL, FAINT, PLAIN
from metacog.tui.widgets.draw import bar, course, number

Line = Content
_LABEL = 15
_VALUE = 8


def join(lines: Sequence[Content]) -> Content:
    """Return lines one below the other."""
    return Content("\n").join(lines)


def beside(left: Sequence[Content], right: Sequence[Content], width: int) -> Content:
    """Return two columns of lines, the left one `width` wide."""
    empty = Content("")
    rows = max(len(left), len(right))
    pairs = zip(
        [*left, *[empty] * (rows - len(left))],
        [*right, *[empty] * (rows - len(right))],
        strict=True,
    )
    return join(
        [
            empty.join([a, text(" " * max(width - a.cell_length, 0) + " │ ", FAINT), b])
            for a, b in pairs
        ]
    )


def text(words: str, style: str = PLAIN) -> Content:
    """Return words in a style; nothing in them is markup or acts on the terminal."""
    return Content.styled(literal(words), style)


def value_of(state: RunState, name: str) -> Content:
    """Return the newest number of a name, `--` where there is none."""
    known = name in state.latest
    value = state.latest.get(name)
    shown = number(value, known=known).rjust(_VALUE)
    style = FAINT if not known else FAIL if shown.strip() == "NaN" else BRIGHT
    return text(shown, style)


def gauge(state: RunState, label: str, name: str, width: int) -> Content:
    """Return a number with its label and its course."""
    room = width - _LABEL - _VALUE - 2
    parts = [text(f"{label:<{_LABEL}}"[:_LABEL], DIM), value_of(state, name)]
    if room >= 4 and name in state.histories:
        columns = state.histories[name].columns(room)
        parts += [text("  "), text(course(columns, room)[0], DIM)]
    return Content("").join(parts)


def share(state: RunState, label: str, name: str, width: int) -> Content:
    """Return a number between 0 and 1 with its label and a bar."""
    room = width - _LABEL - _VALUE - 2
    parts = [text(f"{label:<{_LABEL}}"[:_LABEL], DIM), value_of(state, name)]
    value = state.latest.get(name)
    if room >= 4 and value is not None:
        parts += [text("  "), text(bar(value, room), PLAIN)]
    return Content("").join(parts)


def heading(words: str, note: str, width: int) -> Content:
    """Return a rule with words at its left end and a note at its right."""
    fill = "─" * max(width - len(words) - len(note) - 2, 0)
    return Content("").join([text(f"{words} ", PLAIN), text(fill, FAINT), text(f" {note}", DIM)])
