"""The arms of a measurement as lines for a terminal, the cheapest first."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_BAR = 30


def print_curve(summary: Mapping[str, Any]) -> None:
    """Print accuracy and spend of every arm, and what the learned arm saves."""
    console = Console(highlight=False)
    arms = summary["arms"]
    most = max(arm["spend_mean"] for arm in arms.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("arm", "left"),
        ("tokens", "right"),
        ("accuracy", "right"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # a literal by content
    for name, arm in sorted(arms.items(), key=lambda item: float(item[1]["spend_mean"])):
        style = "bold cyan" if name in {"learned", "prompt_only"} else ""
        bar = "█" * round(_BAR * arm["spend_mean"] / most)
        table.add_row(
            Text(name, style=style), f"{arm['spend_mean']:.1f}", f"{arm['accuracy']:.1%}", bar
        )
    console.print(table)
    console.print(_sentence(summary), soft_wrap=True)


def _sentence(summary: Mapping[str, Any]) -> str:
    uncapped, arms = summary["uncapped"], summary["arms"]
    learned = arms["learned"]
    saved = 1 - learned["spend_mean"] / uncapped["spend_mean"]
    points = 100 * (learned["accuracy"] - uncapped["accuracy"])
    return (
        f"Against thinking without a budget: {saved:.1%} fewer tokens, {points:+.1f} points "
        f"(n = {summary['n']} questions, {len(summary['seeds'])} sampling seeds)."
    )
