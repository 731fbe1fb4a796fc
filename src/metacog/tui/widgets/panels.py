"""What each panel says of a run, at a width and height in characters."""

from collections.abc import Callable, Mapping
from datetime import datetime
from textwrap import wrap

from textual.content import Content

from metacog.tui.literal import literal
from metacog.tui.state import RunState, Told
from metacog.tui.theme import DIM, FAIL, FAINT, OK, PLAIN, WARN
from metacog.tui.widgets.draw import MISSING, course, number
from metacog.tui.widgets.lines import gauge, join, share, text, value_of
from metacog.tui.widgets.metacog import feedback_panel, metacog_panel
from metacog.tui.widgets.puzzles import board

Painter = Callable[[RunState, int, int], Content]
_VALIDATION = "eval/validation/"


def global_panel(state: RunState, width: int, height: int) -> Content:
    """Loss, entropy, reward, tokens of the segments, learning rates, gradient norm, memory."""
    lines = [
        gauge(state, "entropy", "train/entropy", width),
        gauge(state, "reward", "rl/reward", width),
        gauge(state, "think tokens", "think_tokens_used", width),
    ]
    for segment in ("plan", "exec", "eval"):
        tokens, part = f"segments/{segment}_tokens", f"segments/{segment}_fraction"
        shown = number(state.latest.get(tokens), known=tokens in state.latest)
        lines.append(share(state, f"{segment} {shown} tok", part, width))
    rates = sorted(name for name in state.latest if name.startswith("train/learning_rate"))
    for name in rates or ["train/learning_rate"]:
        group = name.removeprefix("train/learning_rate/")
        lines.append(gauge(state, f"lr {group}" if rates else "learning rate", name, width))
    unit = "points" if "perf/points_per_s" in state.latest else "tokens"
    lines += [
        gauge(state, "gradient norm", "train/grad_norm", width),
        gauge(state, f"{unit}/s", f"perf/{unit}_per_s", width),
        gauge(state, "GPU MiB", "perf/gpu_memory", width),
        gauge(state, "memory MiB", "perf/memory", width),
    ]
    return join([*_loss(state, width, min(max(height - len(lines) - 1, 2), 20)), *lines])


def _loss(state: RunState, width: int, rows: int) -> list[Content]:
    history = state.histories.get("train/loss")
    head = Content("").join([text(f"{'loss':<15}", DIM), value_of(state, "train/loss")])
    if history is None:
        return [head]
    drawn = course(history.columns(width), width, rows)
    low = min(bucket.low for bucket in history.buckets)
    high = max(bucket.high for bucket in history.buckets)
    span = text(f"  {number(low)} … {number(high)}", FAINT)
    fits = head.cell_length + span.cell_length <= width
    return [
        Content("").join([head, span]) if fits else head,
        *(text(line, PLAIN) for line in drawn),
    ]


def data_panel(state: RunState, width: int, _height: int) -> Content:
    """Lengths and the padding light."""
    ok = state.latest.get("data/left_padding_ok")
    light = text("-- unknown", FAINT)
    if ok is not None:
        light = text("● OK", OK) if ok >= 1 else text("✖ FAIL: right padding", FAIL)
    return join(
        [
            Content("").join([text(f"{'pad left':<19}", DIM), light]),
            gauge(state, "max_len", "data/max_len", width),
            gauge(state, "longest seen", "data/longest_seen", width),
        ]
    )


def alerts_panel(state: RunState, width: int, _height: int) -> Content:
    """What needs a person's eye, the newest first."""
    if not state.alerts:
        return text("● no alert", OK)
    return join([_sentence(told, "▲", WARN, width) for told in reversed(state.alerts)])


def log_panel(state: RunState, width: int, _height: int) -> Content:
    """What the run said, the newest first."""
    if not state.log:
        return text(f"{MISSING} nothing said yet", FAINT)
    return join([_sentence(told, "·", DIM, width) for told in reversed(state.log)])


def _sentence(told: Told, mark: str, style: str, width: int) -> Content:
    clock = datetime.fromtimestamp(told.time).astimezone().strftime("%H:%M:%S")
    head = f"{mark} {clock} {told.step:>6}  "
    room = max(width - len(head), 8)
    words = literal(" ".join(told.text[:2000].split()))
    rest = wrap(words, room) or [""]
    lines = [Content("").join([text(head, style), text(rest[0])])]
    lines += [text(" " * len(head) + part) for part in rest[1:6]]
    return join(lines)


def eval_panel(state: RunState, width: int, height: int) -> Content:
    """Accuracy, loss and what else was validated over time, and the puzzles with what was replied."""
    lines = [gauge(state, label, name, width) for label, name in _judged(state, height // 2)]
    if not lines:
        lines = [text(f"accuracy       {MISSING:>8}", FAINT)]
    lines.append(gauge(state, "THINK tokens", "eval/puzzles/think_tokens", width))
    return join([*lines, *board(state, width, height)])


def _judged(state: RunState, room: int) -> list[tuple[str, str]]:
    """Return labels and names of evaluations' figures; those of validation as far as there is room."""
    names = [name for name in state.latest if name.startswith("eval/")]
    whole = [name for name in names if name.endswith(("/accuracy", "/loss"))]
    parts = [name for name in names if name.startswith(_VALIDATION) and name not in whole]
    parts.sort(key=lambda name: ("accuracy" not in name, "loss" not in name))
    found = [(name.removeprefix("eval/").replace("/accuracy", " right"), name) for name in whole]
    for name in parts[: max(room - len(whole), 0)]:
        label = name.removeprefix(_VALIDATION).replace("_accuracy", " right").replace("_", " ")
        found.append((label, name))
    return found


PANELS: Mapping[str, Painter] = {
    "global": global_panel,
    "metacog": metacog_panel,
    "feedback": feedback_panel,
    "data": data_panel,
    "eval": eval_panel,
    "alerts": alerts_panel,
    "log": log_panel,
}
"""Every panel by its name, in the order of their keys."""
