"""The house's style of pictures. Imports matplotlib: only what draws imports this."""

from collections.abc import Callable, Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2330", "#6b7484", "#e4e7ec"
BLUE, ORANGE, GREEN, PURPLE, RED, BROWN = (
    "#2f6bda",
    "#e07b1f",
    "#1f9d6b",
    "#8a56c9",
    "#cf3e4a",
    "#8c6d4f",
)
_DPI = 160


def write_cells(axes: Axes, values: Sequence[Sequence[float]]) -> None:
    """Write each value into its cell of a heat map of blues."""
    most = max(max(row) for row in values)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            color = "white" if value > 0.6 * most else INK
            if value == value:  # NaN has no number
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)


def say(axes: Axes, text: str) -> None:
    """Write a sentence where a picture has nothing to show."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def picture(paint: Callable[[Axes], None], size: tuple[float, float], title: str) -> bytes:
    """Return what `paint` draws on axes in the house's style as PNG bytes; `size` is in inches."""
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    paint(axes)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
