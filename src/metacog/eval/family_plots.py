"""Pictures by family and difficulty: gate, plans, what goes wrong, and what length is worth."""

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from metacog.eval.canvas import BLUE, GRID, INK, MUTED, RED, picture, say, write_cells
from metacog.eval.figures import GateFigure, LengthFigure, Lengths, PlanFigure, WrongFigure

_PLAN_COLORS = ("#2f6bda", "#1f9d6b", "#e07b1f", "#8a56c9", "#cf3e4a", "#8c6d4f")


def gate_png(figure: GateFigure) -> bytes:
    """Draw on how many THINK tokens the gate is on, a row for each family, a column for each level."""

    def paint(axes: Axes) -> None:
        if not figure.coverage:
            say(axes, "no reply had a gate")
            return
        families = list(figure.coverage)
        shares = np.array(
            [[math.nan if v is None else v for v in figure.coverage[f]] for f in families]
        )
        axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        axes.set_xticks(range(shares.shape[1]), [str(n + 1) for n in range(shares.shape[1])])
        axes.set_yticks(range(len(families)), families)
        axes.set_xlabel("level")
        write_cells(axes, shares.tolist())

    return picture(paint, (7.2, 3.8), "Share of THINK tokens on which the gate is on")


def plans_png(figure: PlanFigure) -> bytes:
    """Draw the share of replies under each plan, a bar for each family."""

    def paint(axes: Axes) -> None:
        if not figure.by_family:
            say(axes, "no reply has a plan")
            return
        families = list(figure.by_family)[::-1]
        plans = sorted({plan for shares in figure.by_family.values() for plan in shares})
        begin = np.zeros(len(families))
        for number, plan in enumerate(plans):
            width = np.array([figure.by_family[f].get(plan, 0.0) for f in families])
            color = _PLAN_COLORS[number % len(_PLAN_COLORS)]
            axes.barh(families, width, left=begin, height=0.62, color=color, label=plan)
            begin += width
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False)

    return picture(paint, (7.2, 3.8), "Plans that were followed")


def wrong_png(figure: WrongFigure) -> bytes:
    """Draw how long right and wrong replies think, with a budget and without."""

    def paint(axes: Axes) -> None:
        if not figure.learned and not figure.unlimited:
            say(axes, "no replies")
            return
        families = sorted({*figure.learned, *figure.unlimited}, reverse=True)
        sides = (
            ("no budget", figure.unlimited, 0.2, "white"),
            ("learned", figure.learned, -0.2, ""),
        )
        for label, lengths, offset, fill in sides:
            known = [(y, lengths[f]) for y, f in enumerate(families) if f in lengths]
            for name, color in (("right", BLUE), ("wrong", RED)):
                _dots(
                    axes, known, name, offset=offset, color=color, fill=fill or color, label=label
                )
        for y, family in enumerate(families):
            if family in figure.learned:
                share = figure.learned[family].share_wrong
                axes.annotate(
                    f"{share:.0%} wrong",
                    (1.0, y),
                    xycoords=("axes fraction", "data"),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    color=MUTED,
                )
        axes.set_yticks(range(len(families)), families)
        axes.set_xlim(left=0)
        axes.set_xlabel("mean THINK tokens")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, frameon=False)

    return picture(paint, (7.2, 4.2), "What goes wrong, and how long it was thought about")


def _dots(
    axes: Axes,
    known: list[tuple[int, Lengths]],
    name: str,
    *,
    offset: float,
    color: str,
    fill: str,
    label: str,
) -> None:
    points = [(y + offset, getattr(found, name)) for y, found in known]
    shown = [(y, tokens) for y, tokens in points if tokens is not None]
    axes.scatter(
        [tokens for _, tokens in shown],
        [y for y, _ in shown],
        s=34,
        color=color,
        facecolor=fill,
        label=f"{name}, {label}",
        zorder=3,
    )


def lengths_png(figure: LengthFigure) -> bytes:
    """Draw accuracy against length for each level: the curve of caps, its optimum, where budgets land."""

    def paint(axes: Axes) -> None:
        if not figure.levels:
            say(axes, "no traces without a budget")
            return
        shades = colormaps["viridis"](np.linspace(0, 0.9, len(figure.levels)))
        for found, shade in zip(figure.levels, shades, strict=True):
            tokens = [max(point.tokens, 0.8) for point in found.capped]
            accuracy = [point.accuracy for point in found.capped]
            axes.plot(tokens, accuracy, color=shade, lw=1.5, label=f"level {found.level + 1}")
            axes.plot(
                found.optimum.tokens, found.optimum.accuracy, "o", ms=7, mfc="white", color=shade
            )
            if found.learned is not None:
                axes.plot(found.learned.tokens, found.learned.accuracy, "*", ms=12, color=shade)
        axes.plot([], [], "o", ms=7, mfc="white", color=INK, label="smallest cap that is enough")
        axes.plot([], [], "*", ms=12, color=INK, label="learned budgets")
        axes.set_xscale("log")
        axes.grid(color=GRID, which="minor", lw=0.4)
        axes.set_xlabel("mean THINK tokens")
        axes.set_ylabel("accuracy")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)

    return picture(paint, (7.6, 4.6), "What length is worth, by difficulty")
