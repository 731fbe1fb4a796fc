"""A summary as tables of text, the same for Markdown and HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metacog.eval.arms import LEARNED, MATCHED, PROMPT_ONLY, UNCAPPED

_MISSING = "n/a"


@dataclass(frozen=True)
class Table:
    """A table with its heading; the first column names the row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def arm_table(summary: Mapping[str, Any]) -> Table:
    """Return every arm with its accuracy and spend, and what the learned arm gains over it."""
    rows = []
    for name, found in summary["arms"].items():
        head, _, baseline = name.rpartition(".")
        block = summary if head == LEARNED else summary[PROMPT_ONLY]
        gain = block[f"delta_{baseline}"] if baseline in MATCHED else None
        rows.append(
            (
                name,
                percent(found["accuracy"]),
                _interval(found["accuracy_ci95"]),
                tokens(found["think_tokens_mean"]),
                tokens(found["spend_mean"]),
                "" if gain is None else points(gain["mean"]),
                "" if gain is None else _interval(gain["ci95"]),
            )
        )
    rows.sort(key=lambda row: _place(row[0]))
    head_row = ("arm", "accuracy", "95 %", "THINK", "spend", "learned gains", "95 %")
    return Table("Arms", head_row, tuple(rows))


def quality_table(summary: Mapping[str, Any]) -> Table:
    """Return what budget, confidence and re-readings are worth, both ways of reading."""
    columns = (summary, summary[PROMPT_ONLY])
    lines = (
        ("budget and need, Spearman", ("budget", "spearman"), number),
        ("the same within family, median", ("budget", "spearman_within"), number),
        ("budget error, tokens", ("budget", "mae"), tokens),
        ("need within the budget", ("budget", "coverage"), percent),
        ("natural length / need", ("budget", "natural_over_need"), number),
        ("confidence, AUROC", ("confidence", "auroc"), number),
        ("confidence, Brier skill", ("confidence", "brier_skill"), number),
        ("confidence, ECE", ("confidence", "ece"), number),
        ("last re-reading, AUROC", ("closer", "auroc"), number),
        ("saving below uncapped", ("saving", "mean"), percent),
        ("  of it overthinking", ("saving", "split", "overthinking"), percent),
        ("  of it futility (wrong uncapped)", ("saving", "split", "futility"), percent),
        ("  of it loops (token limit)", ("saving", "split", "loops"), percent),
        ("the same on prompts right uncapped", ("saving", "right_uncapped", "mean"), percent),
        ("saving below the cheapest constant", ("saving", "cheapest_constant", "mean"), percent),
        ("accuracy against uncapped", ("noninferiority", "difference"), points),
        ("its one-sided 95 % bound", ("noninferiority", "lower95"), points),
        ("escapes after forced closes", ("escapes", "after_forced_close"), percent),
    )
    rows = [
        (label, *(show(_at(column, path)) for column in columns)) for label, path, show in lines
    ]
    return Table("Readings", ("", "with re-readings", "prompt only"), tuple(rows))


def family_table(summary: Mapping[str, Any]) -> Table:
    """Return each family's figures."""
    rows = [
        (
            name,
            str(found["domain"]),
            str(found["n"]),
            percent(found["uncapped_accuracy"]),
            percent(found["accuracy"]),
            tokens(found["uncapped_spend_mean"]),
            tokens(found["spend_mean"]),
            tokens(found["need_mean"]),
            number(summary["budget"]["spearman_by_family"].get(name)),
        )
        for name, found in summary["by_family"].items()
    ]
    head = (
        "family",
        "domain",
        "n",
        "uncapped",
        "learned",
        "uncapped spend",
        "spend",
        "need",
        "rho",
    )
    return Table("Families", head, tuple(rows))


def _place(arm: str) -> tuple[bool, str, int]:
    """Return what arms are sorted by: uncapped first, then names, caps by their size."""
    name, _, last = arm.rpartition(".")
    return (arm != UNCAPPED, name, int(last)) if last.isdigit() else (arm != UNCAPPED, arm, 0)


def _at(values: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = values
    for name in path:
        found = None if found is None else found[name]
    return found


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return _MISSING if value is None else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return _MISSING if value is None else f"{100 * value:+.2f}"


def tokens(value: float | None) -> str:
    """Return a mean number of tokens."""
    return _MISSING if value is None else f"{value:.1f}"


def number(value: float | None) -> str:
    """Return a number with as many digits as mean something."""
    if value is None:
        return _MISSING
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _interval(ci95: Sequence[float] | None) -> str:
    return _MISSING if ci95 is None else f"{100 * ci95[0]:.1f} to {100 * ci95[1]:.1f}"
