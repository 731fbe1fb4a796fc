"""The line that says which run is shown, how far it is, and whether it lives."""

from collections.abc import Sequence

from textual.content import Content

from metacog.tui.follow import Pulse, Whole
from metacog.tui.literal import one_line
from metacog.tui.state import RunState
from metacog.tui.theme import BRIGHT, DIM, FAIL, FAINT, OK, PLAIN, WARN
from metacog.tui.widgets.draw import MISSING, bar
from metacog.tui.widgets.lines import text

_SHOWN = {
    Pulse.WAITING: ("◌ WAITING", DIM),
    Pulse.LIVE: ("● LIVE", OK),
    Pulse.STALE: ("◌ STALE", WARN),
    Pulse.DONE: ("● DONE", OK),
    Pulse.STOPPED: ("■ STOPPED", WARN),
    Pulse.GONE: ("✖ GONE", FAIL),
}


def status_line(follower: Whole, state: RunState, at: int | None, width: int) -> Content:
    """Return the run's name, steps, pulse and time left; `at` is the step of a replay."""
    pulse = follower.pulse()
    word, style = _SHOWN[pulse]
    name = one_line(follower.name, max(width // 3, 8))
    step, steps = state.step, state.steps
    counted = f"{MISSING if step is None else step}/{MISSING if steps is None else steps}"
    parts = [text(f"{name}  ", BRIGHT), text(word, style), text(f" {_age(follower, pulse)}  ", DIM)]
    if at is not None:
        parts.append(text(f"◀ REPLAY at {at}  ", WARN))
    parts.append(text(f"step {counted}  "))
    room = width - sum(part.cell_length for part in parts) - 20
    if step is not None and steps:
        room = min(max(room, 0), 40)
        parts.append(text(bar(step / steps, room).replace(" ", "·"), FAINT if at else PLAIN))
        parts.append(text(f" {step / steps:4.0%}", DIM))
    if pulse is Pulse.LIVE and at is None:
        parts.append(text(f"  left {_left(state)}", DIM))
    return Content("").join(parts)


def tab_line(names: Sequence[str], chosen: str | None) -> Content:
    """Return the panels with their keys, the chosen one bright."""
    parts = [
        text(f"{key} {name.upper()}  ", BRIGHT if name == chosen else DIM)
        for key, name in enumerate(names, 1)
    ]
    return Content("").join(parts)


def _age(follower: Whole, pulse: Pulse) -> str:
    age = follower.current.age()
    if age is None or pulse in {Pulse.DONE, Pulse.STOPPED}:
        return ""
    return f"last event {age:.1f} s ago" if age < 60 else f"last event {duration(age)} ago"


def _left(state: RunState) -> str:
    """Return how long the remaining steps will take, going by those that were recorded."""
    history = state.histories.get("train/loss")
    if history is None or state.steps is None or state.metrics_times is None:
        return MISSING
    (first_step, first), (last_step, last) = state.metrics_times
    if last_step <= first_step:
        return MISSING
    return duration((state.steps - last_step) * (last - first) / (last_step - first_step))


def duration(seconds: float) -> str:
    """Return seconds as people say them, such as `3 h 05 min`."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
