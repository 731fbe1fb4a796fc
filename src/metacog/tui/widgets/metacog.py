"""What the layer and its gate do: plans, budgets, confidence, blocks, feedback."""

from collections.abc import Sequence

from textual.content import Content

from metacog.tui.state import RunState
from metacog.tui.theme import DIM, FAINT
from metacog.tui.widgets.draw import MISSING, number
from metacog.tui.widgets.grids import grid_lines, scale_line, spine
from metacog.tui.widgets.lines import beside, gauge, heading, join, share, text
from metacog.tui.widgets.plots import budget_scatter, confidence_lines

_WIDE = 96
"""From here on two columns fit."""
_PLANS = "metacog/plan/"


def metacog_panel(state: RunState, width: int, height: int) -> Content:
    """Plans, budgets predicted and used, confidence, alpha, agreement, variance."""
    wide = width >= _WIDE
    half = (width - 3) // 2 if wide else width
    rows = 6 if wide or height >= 40 else 4
    left = [*_plans(state, half), *_budgets(state, half, rows), *_confidence(state, half, rows)]
    right = [*_alpha(state, half), *_agreement(state, half)]
    return beside(left, right, half) if wide else join([*left, *right])


def _plans(state: RunState, width: int) -> list[Content]:
    names = [name for name in state.latest if name.startswith(_PLANS)]
    lines = [share(state, name.removeprefix(_PLANS), name, width) for name in names]
    return [
        heading("PLAN", "mean probability", width),
        *(lines or [share(state, "plans", _PLANS, width)]),
    ]


def _budgets(state: RunState, width: int, rows: int) -> list[Content]:
    hits = short(state, "metacog/budget/cap_hit_fraction")
    return [
        heading("BUDGET", f"cap hit {hits}", width),
        gauge(state, "predicted", "metacog/budget/predicted_mean", width),
        gauge(state, "used", "metacog/budget/used_mean", width),
        gauge(state, "mean error", "metacog/budget/mae", width),
        gauge(state, "mse", "train/budget_mse", width),
        gauge(state, "layer variance", "metacog/budget_variance", width),
        *budget_scatter(state, width, rows),
    ]


def _confidence(state: RunState, width: int, rows: int) -> list[Content]:
    names = ("ece", "brier", "auroc") if width >= 44 else ("ece", "auroc")
    figures = " ".join(f"{name} {short(state, f'metacog/confidence/{name}')}" for name in names)
    return [
        heading("CONFIDENCE", figures, width),
        gauge(state, "mean", "metacog/confidence/mean", width),
        *confidence_lines(state, width, rows),
    ]


def _alpha(state: RunState, width: int) -> list[Content]:
    figures = [gauge(state, n, f"metacog/alpha/{n}", width) for n in ("min", "mean", "max")]
    return [
        heading("ALPHA", f"entropy {short(state, 'metacog/alpha/entropy')}", width),
        *figures,
        gauge(state, "entropy", "metacog/alpha/entropy", width),
        _axis("spine", state, "alpha", width),
        *spine(state.courses.get("alpha"), width),
    ]


def _agreement(state: RunState, width: int) -> list[Content]:
    return [
        heading("PLAN AGREEMENT", f"mean {short(state, 'metacog/plan_agreement')}", width),
        gauge(state, "agreement", "metacog/plan_agreement", width),
        _axis("by layer", state, "agreement", width),
        *spine(state.courses.get("agreement"), width, top=1.0),
    ]


def _axis(label: str, state: RunState, name: str, width: int) -> Content:
    """Return what a spine's axes are: blocks up, steps across."""
    course = state.courses.get(name)
    if course is None or not course.rows:
        return text(f"{label}", FAINT)
    first, last = course.rows[0][0], course.rows[-1][0]
    return text(f"{label}, step {first} to {last}"[:width].ljust(width - 6) + "   now"[:6], DIM)


def short(state: RunState, name: str) -> str:
    """Return the newest number of a name alone, `--` where there is none."""
    return number(state.latest.get(name), known=name in state.latest)


def feedback_panel(state: RunState, width: int, height: int) -> Content:
    """The gate: norm, coverage, saturation, and its change over time."""
    lines = [
        gauge(state, "gate norm", "metacog/gate/norm", width),
        share(state, "coverage", "metacog/gate/coverage", width),
        share(state, "saturation", "metacog/gate/saturation", width),
    ]
    told = state.heatmaps.get("gate")
    if told is None:
        return join([*lines, text(f"{'heat map':<15}{MISSING:>8}", FAINT)])
    step, grid = told
    longest = max(map(len, grid))
    lines.append(heading("HEAT MAP", f"step {step}", width))
    lines += grid_lines(grid, width, max(len(grid), height - 6))
    lines.append(_time_axis(longest, grid, width))
    return join(lines)


def _time_axis(longest: int, grid: Sequence[Sequence[float | None]], width: int) -> Content:
    scale = scale_line(grid, "")
    words = f"    puzzles ↑  THINK token 1 to {longest} → "
    if width < len(words) + scale.cell_length:
        words = f"    1 to {longest} → "
    return Content("").join([text(words, DIM), scale])
