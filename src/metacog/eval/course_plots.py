"""Draws the course of a run. Imports matplotlib: only `course_report` imports this."""

import numpy as np
from matplotlib.axes import Axes

from metacog.eval.canvas import BLUE, BROWN, GREEN, INK, MUTED, ORANGE, PURPLE, RED, picture, say
from metacog.eval.course import Course, GridFigure, LinesFigure, SpendFigure

_COLORS = (BLUE, ORANGE, GREEN, PURPLE, RED, BROWN, INK, MUTED)
_WIDE, _SQUARE = (7.2, 3.6), (5.6, 4.6)


def draw_course(course: Course) -> dict[str, bytes]:
    """Return each figure as PNG bytes, by its name."""
    return {
        "loss": lines_png(course.loss, "Loss", "loss"),
        "accuracy": lines_png(course.accuracy, "Accuracy", "share right"),
        "spending": lines_png(course.spending, "THINK tokens", "tokens a reply"),
        "budget": spend_png(course.budget),
        "plans": lines_png(course.plans, "Plans", "mean probability"),
        "confidence": lines_png(course.confidence, "Confidence", ""),
        "alpha": grid_png(course.alpha, "Weight of each block", "block"),
        "alpha_course": lines_png(course.alpha_course, "Weights of the blocks", ""),
        "gate": grid_png(course.gate, "What the gate changes", "THINK token"),
    }


def lines_png(figure: LinesFigure, title: str, label: str) -> bytes:
    """Draw figures over the steps of a run; a single value is a dot."""

    def paint(axes: Axes) -> None:
        if not figure.series:
            say(axes, "the run has no such figure")
            return
        for at, series in enumerate(figure.series):
            color = _COLORS[at % len(_COLORS)]
            style = "-" if at < len(_COLORS) else "--"
            marker = "o" if len(series.steps) < 30 else ""
            shown = series.name.removeprefix("metacog/").removeprefix("eval/")
            axes.plot(
                series.steps, series.values, style, color=color, marker=marker, ms=3.5, label=shown
            )
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)

    return picture(paint, _WIDE, title)


def spend_png(figure: SpendFigure) -> bytes:
    """Draw THINK tokens that were used against the budget that was predicted."""

    def paint(axes: Axes) -> None:
        if not figure.predicted:
            say(axes, "no reply ran under a predicted budget")
            return
        axes.scatter(figure.predicted, figure.used, s=14, alpha=0.6, linewidths=0, color=BLUE)
        most = max(*figure.predicted, *figure.used)
        axes.plot([0, most], [0, most], color=INK, lw=1, ls="--", label="all of it used")
        axes.set_xlabel("THINK tokens predicted")
        axes.set_ylabel("THINK tokens used")
        axes.legend(loc="upper left", frameon=False, fontsize=8)

    return picture(paint, _SQUARE, f"Budget and use{_at(figure.step)}")


def grid_png(figure: GridFigure, title: str, label: str) -> bytes:
    """Draw a grid with a row for each puzzle; where a row ends, nothing is drawn."""

    def paint(axes: Axes) -> None:
        width = max((len(row) for row in figure.values), default=0)
        if width == 0:
            say(axes, "the run has no such grid")
            return
        grid = np.full((len(figure.values), width), np.nan)
        for at, row in enumerate(figure.values):
            grid[at, : len(row)] = row
        drawn = axes.imshow(np.ma.masked_invalid(grid), aspect="auto", cmap="Blues", vmin=0)
        axes.grid(visible=False)
        axes.set_yticks(range(len(figure.rows)), [f"puzzle {n + 1}" for n in range(len(grid))])
        axes.set_xlabel(label)
        axes.figure.colorbar(drawn, ax=axes, shrink=0.9)

    return picture(paint, _WIDE, f"{title}{_at(figure.step)}")


def _at(step: int | None) -> str:
    return "" if step is None else f" at step {step}"
