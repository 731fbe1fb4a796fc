"""Draws the pictures of a report. Imports matplotlib: only `report` imports this."""

import numpy as np
from matplotlib.axes import Axes

from metacog.eval.arms import CHEAPEST_CONSTANT, GATED, LEARNED, PROMPT_ONLY, UNCAPPED
from metacog.eval.canvas import (
    BLUE,
    BROWN,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    picture,
    say,
    write_cells,
)
from metacog.eval.family_plots import gate_png, lengths_png, plans_png, wrong_png
from metacog.eval.figures import (
    AlphaFigure,
    ArmPoint,
    BudgetFigure,
    CurveFigure,
    Figures,
    ReliabilityFigure,
)

DOMAINS = {"math": BLUE, "logic": ORANGE, "code": GREEN, "qa": PURPLE}
_BASELINES = {
    "constant": ("s", MUTED, "constant cap"),
    "label": ("^", GREEN, "budget by family"),
    "permuted": ("v", ORANGE, "its spends, shuffled"),
    "permuted_within": ("D", PURPLE, "shuffled within family"),
}
_ARMS = {
    UNCAPPED: ("o", INK, "uncapped"),
    GATED: ("h", MUTED, "gate alone"),
    LEARNED: ("*", RED, "learned, with re-readings"),
    PROMPT_ONLY: ("P", BLUE, "learned, prompt only"),
    CHEAPEST_CONSTANT: ("X", BROWN, "cheapest constant within half a point"),
}


def draw(figures: Figures) -> dict[str, bytes]:
    """Return each figure as PNG bytes, by its name."""
    return {
        "curve": curve_png(figures.curve),
        "budget": budget_png(figures.budget),
        "reliability": reliability_png(figures.reliability),
        "alpha": alpha_png(figures.alpha),
        "gate": gate_png(figures.gate),
        "plans": plans_png(figures.plans),
        "wrong": wrong_png(figures.wrong),
        "lengths": lengths_png(figures.lengths),
    }


def curve_png(figure: CurveFigure) -> bytes:
    """Draw accuracy against spend, every arm with its intervals."""

    def paint(axes: Axes) -> None:
        if figure.constant:
            spends = [point.spend for point in figure.constant]
            accuracies = [point.accuracy for point in figure.constant]
            axes.plot(spends, accuracies, color=MUTED, lw=1.6, label="constant caps", zorder=1)
        for point in figure.arms:
            _paint_arm(axes, point)
        axes.set_xlabel("mean THINK and ANSWER tokens a reply")
        axes.set_ylabel("accuracy")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.legend(loc="lower right", frameon=False, fontsize=8)

    return picture(paint, (7.2, 4.6), "Accuracy against spend")


def _paint_arm(axes: Axes, point: ArmPoint) -> None:
    name, _, baseline = point.arm.rpartition(".")
    if point.arm in _ARMS:
        marker, color, label = _ARMS[point.arm]
    elif baseline in _BASELINES:
        marker, color, label = _BASELINES[baseline]
        label = f"{label} ({'re-readings' if name == LEARNED else 'prompt only'})"
    else:
        marker, color, label = ".", MUTED, ""
    hollow = name == PROMPT_ONLY
    axes.errorbar(
        point.spend,
        point.accuracy,
        xerr=_arms_of(point.spend, point.spend_ci95),
        yerr=_arms_of(point.accuracy, point.accuracy_ci95),
        fmt=marker,
        ms=13 if marker == "*" else 6.5,
        color=color,
        mfc="white" if hollow else color,
        elinewidth=1,
        alpha=0.95,
        label=label,
        zorder=3 if point.arm in _ARMS else 2,
    )


def budget_png(figure: BudgetFigure) -> bytes:
    """Draw predicted budget against need, both on a log scale, with the line where they agree."""

    def paint(axes: Axes) -> None:
        for domain in sorted({dot.domain for dot in figure.dots}):
            dots = [dot for dot in figure.dots if dot.domain == domain]
            axes.scatter(
                [dot.need for dot in dots],
                [dot.predicted for dot in dots],
                s=11,
                alpha=0.4,
                linewidths=0,
                color=DOMAINS.get(domain, INK),
                label=domain,
            )
        if not figure.dots:
            say(axes, "no reply has both a prediction and a need")
            return
        most = max(max(dot.need, dot.predicted) for dot in figure.dots) * 1.2
        axes.plot([1, most], [1, most], color=INK, lw=1, ls="--", label="predicted = needed")
        axes.set(xscale="log", yscale="log", xlim=(0.8, most), ylim=(0.8, most))
        axes.set_xlabel("THINK tokens needed")
        axes.set_ylabel("THINK tokens predicted")
        legend = axes.legend(loc="lower right", frameon=False, fontsize=8)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)

    rho = (
        "" if figure.spearman is None else f" (Spearman {figure.spearman:.2f}, n = {figure.total})"
    )
    return picture(paint, (5.6, 5.2), f"Predicted budget against need{rho}")


def reliability_png(figure: ReliabilityFigure) -> bytes:
    """Draw the share of right answers against confidence, in bins of equal mass."""

    def paint(axes: Axes) -> None:
        if not figure.bins:
            say(axes, "no reply has a confidence")
            return
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--", label="perfect")
        lows = [found.accuracy - found.accuracy_ci95[0] for found in figure.bins]
        highs = [found.accuracy_ci95[1] - found.accuracy for found in figure.bins]
        axes.errorbar(
            [found.confidence for found in figure.bins],
            [found.accuracy for found in figure.bins],
            yerr=np.clip([lows, highs], 0, None),
            fmt="o-",
            color=BLUE,
            ms=5,
            lw=1.4,
            elinewidth=1,
            capsize=2,
            label="bins of equal mass, 95 %",
        )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_xlabel("confidence at the prompt")
        axes.set_ylabel("share of right answers")
        axes.legend(loc="upper left", frameon=False, fontsize=8)

    title = "Reliability" if figure.ece is None else f"Reliability (ECE {figure.ece:.3f})"
    return picture(paint, (5.6, 5.2), title)


def alpha_png(figure: AlphaFigure) -> bytes:
    """Draw the aggregator's weight of each block, a row for each domain."""

    def paint(axes: Axes) -> None:
        if not figure.by_domain:
            say(axes, "no reply was read by a layer")
            return
        domains = list(figure.by_domain)
        weights = np.array([figure.by_domain[domain] for domain in domains])
        axes.imshow(weights, aspect="auto", cmap="Blues", vmin=0, vmax=max(weights.max(), 1e-9))
        axes.grid(visible=False)
        axes.set_xticks(range(weights.shape[1]), [str(n + 1) for n in range(weights.shape[1])])
        axes.set_yticks(range(len(domains)), domains)
        axes.set_xlabel("block")
        if weights.shape[1] <= 16:
            write_cells(axes, weights.tolist())

    return picture(paint, (6.4, 3.0), "Weight of each block at the end of the prompt")


def _arms_of(value: float, ci95: tuple[float, float]) -> list[list[float]]:
    """Return the lengths of an error bar; an interval may not hold its estimate by a rounding."""
    return [[max(value - ci95[0], 0.0)], [max(ci95[1] - value, 0.0)]]
