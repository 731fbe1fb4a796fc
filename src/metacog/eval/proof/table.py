"""The P table as data, and as lines to read."""

from collections.abc import Mapping
from typing import Any

from metacog.eval.proof.row import Json, Row

NAMES = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13")


def p8(at_prompt: Row, at_closer: Row) -> Row:
    """Return P8a and P8b as one row: the value is P8a's."""
    met = None if None in (at_prompt.met, at_closer.met) else at_prompt.met and at_closer.met
    if False in (at_prompt.met, at_closer.met):
        met = False
    return Row(
        at_prompt.value,
        at_prompt.n,
        at_prompt.seeds,
        f"a: {at_prompt.gate}; b: {at_closer.gate}",
        met,
        at_prompt.ci95,
        detail={"a": at_prompt.as_json(), "b": at_closer.as_json()},
    )


def table(rows: Mapping[str, Row]) -> dict[str, Json]:
    """Return one JSON object a row, in the table's order.

    Raises:
        ValueError: If a row is missing or too many.
    """
    if set(rows) != set(NAMES):
        raise ValueError(f"The table wants the rows {', '.join(NAMES)}, got {', '.join(rows)}.")
    return {name: rows[name].as_json() for name in NAMES}


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the rows that there are as lines: name, verdict, value with interval, n, gate."""
    return [_line(name, found[name]) for name in NAMES if name in found]


def _line(name: str, row: Mapping[str, Any]) -> str:
    verdict = {True: "met", False: "not met", None: "open"}[row["met"]]
    value = "--" if row["value"] is None else f"{row['value']:.3f}"
    ends = "" if row["ci95"] is None else f" [{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]"
    why = f" ({row['missing']})" if "missing" in row else ""
    return f"{name:4} {verdict:8} {value}{ends}  n = {row['n']}  {row['gate']}{why}"
