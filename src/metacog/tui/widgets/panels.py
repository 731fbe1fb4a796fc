"""What each panel says of a run, at a width and height in characters."""

from collections.abc import Callable, Mapping
from datetime import datetime
from textwrap import wrap

from textual.content import Content

from metacog.tui.literal import literal, one_line
from metacog.tui.state import RunState, Told
from metacog.tui.theme import BRIGHT, DIM, FAIL, FAINT, OK, PLAIN, WARN
from metacog.tui.widgets.draw import MISSING, course, number, scatter
from metacog.tui.widgets.lines import gauge, heading, join, share, text, value_of
from metacog.tui.widgets.puzzles import board

Painter = Callable[[RunState, int, int], Content]


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
    lines += [
        gauge(state, "gradient norm", "train/grad_norm", width),
        gauge(state, "tokens/s", "perf/tokens_per_s", width),
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
    return [Content("").join([head, span]), *(text(line, PLAIN) for line in drawn)]


def metacog_panel(state: RunState, width: int, height: int) -> Content:
    """Plans, budgets predicted and used, confidence, alpha, agreement, variance."""
    prefix = "metacog/plan/"
    plans = [name for name in state.latest if name.startswith(prefix)]
    lines = [heading("PLAN", f"agreement {_short(state, 'metacog/plan_agreement')}", width)]
    lines += [share(state, name.removeprefix(prefix), name, width) for name in plans]
    if not plans:
        lines.append(share(state, "plans", prefix, width))
    hits = _short(state, "metacog/budget/cap_hit_fraction")
    lines += [
        heading("BUDGET", f"cap hit {hits}", width),
        gauge(state, "predicted", "metacog/budget/predicted_mean", width),
        gauge(state, "used", "metacog/budget/used_mean", width),
        gauge(state, "error (mean)", "metacog/budget/mae", width),
        gauge(state, "layer variance", "metacog/budget_variance", width),
        *budget_scatter(state, width, 6 if height >= 30 else 4),
        heading("CONFIDENCE", _calibration(state), width),
        gauge(state, "mean", "metacog/confidence/mean", width),
        *_confidences(state, width),
        heading("ALPHA", f"entropy {_short(state, 'metacog/alpha/entropy')}", width),
    ]
    lines += [gauge(state, kind, f"metacog/alpha/{kind}", width) for kind in ("min", "mean", "max")]
    return join(lines)


def _short(state: RunState, name: str) -> str:
    return number(state.latest.get(name), known=name in state.latest)


def _calibration(state: RunState) -> str:
    names = ("ece", "brier", "auroc")
    return " ".join(f"{name} {_short(state, f'metacog/confidence/{name}')}" for name in names)


def _confidences(state: RunState, width: int) -> list[Content]:
    """Return the spread of the puzzles' confidences over ten bins."""
    found = [p.data.get("confidence") for p in state.puzzles.values()]
    known = [value for value in found if isinstance(value, float)]
    if not known:
        return [text(f"puzzles        {MISSING:>8}", FAINT)]
    bins = [sum(int(min(v, 0.999) * 10) == b for v in known) for b in range(10)]
    wide = 2 if width >= 48 else 1
    cells = "".join(" ▁▂▃▄▅▆▇█"[round(8 * count / max(bins))] * wide for count in bins)
    label = text(f"puzzles n={len(known):<6}", DIM)
    return [Content("").join([label, text("0▕", FAINT), text(cells), text("▏1", FAINT)])]


def budget_scatter(state: RunState, width: int, rows: int) -> list[Content]:
    """Return predicted budget (across) against THINK tokens used (up), with the line where equal."""
    points = _budgets(state)
    if not points:
        return [text(f"puzzles        {MISSING:>8}", FAINT)]
    most = max(max(point) for point in points) or 1.0
    columns = min(width - 9, rows * 5)
    diagonal, drawn = scatter(points, columns, rows, most=most)
    lines = []
    for row, (below, above) in enumerate(zip(diagonal, drawn, strict=True)):
        label = dict(enumerate(("used", f"≤{number(most)}", f"n={len(points)}"))).get(row, "")
        cells = [
            text(b if a == " " else a, FAINT if a == " " else BRIGHT)
            for b, a in zip(below, above, strict=True)
        ]
        end = text(" budget", DIM) if row == rows - 1 else text("")
        lines.append(Content("").join([text(f"{label:>6} ", DIM), *cells, end]))
    return lines


def _budgets(state: RunState) -> list[tuple[float, float]]:
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


def feedback_panel(state: RunState, width: int, height: int) -> Content:
    """The gate: norm, coverage, saturation, and its change over time."""
    lines = [
        gauge(state, "gate norm", "metacog/gate/norm", width),
        share(state, "coverage", "metacog/gate/coverage", width),
        share(state, "saturation", "metacog/gate/saturation", width),
    ]
    names = [name for name in state.heatmaps if "gate" in name]
    if not names:
        return join([*lines, text(f"heat map       {MISSING:>8}", FAINT)])
    step, grid = state.heatmaps[names[-1]]
    lines.append(heading(one_line(names[-1], width // 2), f"step {step}", width))
    return join([*lines, *_grid(grid, width, max(height - 5, 2))])


def _grid(grid: list[list[float | None]], width: int, rows: int) -> list[Content]:
    known = [value for row in grid for value in row if value is not None]
    if not known:
        return [text(MISSING, FAINT)]
    low, span = min(known), (max(known) - min(known)) or 1.0
    lines = []
    for row in grid[:rows]:
        shades = ("?" if v is None else " ░▒▓█"[round(4 * (v - low) / span)] for v in row[:width])
        lines.append(text("".join(shades), PLAIN))
    return lines


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
    """Accuracy over time, and the puzzles with what was replied."""
    names = [
        n for n in state.latest if n.startswith("eval/") and n.endswith(("/accuracy", "/loss"))
    ]
    lines = [
        gauge(state, name.removeprefix("eval/").replace("/accuracy", " right"), name, width)
        for name in names
    ]
    if not lines:
        lines = [text(f"accuracy       {MISSING:>8}", FAINT)]
    return join([*lines, *board(state, width, height)])


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
