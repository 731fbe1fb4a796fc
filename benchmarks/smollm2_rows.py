"""The rows of the P table for SmolLM2-135M-Instruct, made from what was kept.

    python -m benchmarks.smollm2_rows docs/smollm2.jsonl --into docs/results.json

It needs neither model nor questions: it prints P2, P5, P7, P8 and P9 (without ECE, which takes 5,000
replies) as JSON, or puts them into a file of results as `smollm2`: of all levels evenly, and as `easier` of
the easier half of them alone. `benchmarks/smollm2_measure.py` wrote the lines.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from metacog.data.tasks.families import NUM_LEVELS
from metacog.eval import metrics
from metacog.eval.arms import MARGIN
from metacog.eval.bootstrap import Interval, mean_interval, saving_interval
from metacog.eval.proof.budgets import budget_row
from metacog.eval.proof.confidence import (
    GATE_AT_CLOSER,
    GATE_AT_PROMPT,
    Asked,
    high_enough,
    ranked,
)
from metacog.eval.proof.row import Row, all_met, at_least, interval
from metacog.eval.proof.savings import LAYER_ONLY
from metacog.eval.proof.table import p8
from metacog.telemetry.files import write_text

Line = dict[str, Any]
EASY = NUM_LEVELS // 2
"""Levels below this one are the easier half."""
LEAST_GAIN = 0.05
"""What thinking has to be worth on a task for a budget to mean anything there."""


def read_lines(path: Path) -> list[Line]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the rows on all levels evenly, and the same on the easier ones."""
    about, *rows = lines
    easier = [row for row in rows if row["level"] < EASY]
    return {"about": about, **_table(about, evenly(rows)), "easier": _table(about, easier)}


def evenly(rows: Sequence[Line]) -> list[Line]:
    """Return the first rows of each level, as many as the scarcest level has."""
    counts = Counter(row["level"] for row in rows)
    most, taken, found = min(counts.values()), Counter[int](), []
    for row in rows:
        taken[row["level"]] += 1
        if taken[row["level"]] <= most:
            found.append(row)
    return found


def _table(about: Line, rows: Sequence[Line]) -> dict[str, Any]:
    """Return the rows, and whether thinking is worth enough for them to mean anything."""
    correct = np.array([row["correct"] for row in rows])
    asked = Asked([row["question"] for row in rows], (about["seed"],), correct)
    fitted = about["fitted_to"]
    return {
        "worth_of_thinking": {
            family: _worth([row for row in rows if row["family"] == family])
            for family in about["families"]
        },
        "P2": _p2(rows, about["seed"]).as_json(),
        "P5": _p5(rows, about["seed"]).as_json(),
        "P7": _p7(rows, about).as_json(),
        "P8": p8(
            high_enough(
                ranked(
                    _column(rows, "confidence"),
                    _columns(rows, "at_prompt"),
                    asked,
                    gate=GATE_AT_PROMPT,
                    fitted_to=fitted,
                )
            ),
            ranked(
                _column(rows, "ready"),
                _columns(rows, "at_closer"),
                asked,
                gate=GATE_AT_CLOSER,
                fitted_to=fitted,
            ),
        ).as_json(),
        "P9": _p9(rows, about["seed"]).as_json(),
    }


def _worth(rows: Sequence[Line]) -> Line:
    gain = mean_interval({r["question"]: r["correct"] - r["right_at_0"] for r in rows})
    assert gain is not None
    return {
        "n": len(rows),
        "uncapped": metrics.mean(r["correct"] for r in rows),
        "budget_0": metrics.mean(r["right_at_0"] for r in rows),
        "gain": gain.mean,
        "gain_ci95": list(gain.ci95),
        "is_enough": gain.mean >= LEAST_GAIN,
    }


def _p2(rows: Sequence[Line], seed: int) -> Row:
    spent = {r["question"]: float(r["learned"]["spend"]) for r in rows}
    free = {r["question"]: r["natural"] + r["answer_tokens"] for r in rows}
    cheapest = {r["question"]: r["spend_at_cap"] for r in rows}
    saved, against = saving_interval(spent, free), saving_interval(spent, cheapest)
    lost = mean_interval(
        {r["question"]: float(r["learned"]["correct"]) - r["correct"] for r in rows}
    )
    assert saved is not None
    assert lost is not None
    return Row(
        value=saved.mean,
        ci95=saved.ci95,
        n=len(rows),
        seeds=(seed,),
        gate=f"saves {LAYER_ONLY[0]:.0%} at most {100 * MARGIN} points below uncapped, and "
        f"{LAYER_ONLY[1]:.0%} against the cheapest constant cap",
        met=all_met(
            lost.lower95 >= -MARGIN,
            at_least(saved.mean, LAYER_ONLY[0]),
            at_least(None if against is None else against.mean, LAYER_ONLY[1]),
        ),
        bound=lost.lower95,
        detail={
            "accuracy_difference": lost.mean,
            "right_uncapped": _of_right(rows, spent, free),
            "natural_over_need": _natural_over_need(rows),
            "uncapped": {
                "right": sum(r["correct"] for r in rows),
                "with_a_need": sum(r["need"] is not None for r in rows),
            },
            "against_cheapest_constant": None if against is None else _shown(against),
            "spend": {
                "uncapped": metrics.mean(free.values()),
                "learned": metrics.mean(spent.values()),
                "cheapest_constant": metrics.mean(cheapest.values()),
            },
            "accuracy": {
                "uncapped": metrics.mean(r["correct"] for r in rows),
                "learned": metrics.mean(r["learned"]["correct"] for r in rows),
                "cheapest_constant": metrics.mean(r["right_at_cap"] for r in rows),
            },
        },
    )


def _of_right(
    rows: Sequence[Line], spent: Mapping[str, float], free: Mapping[str, float]
) -> Line | None:
    """Return the saving on questions that are right uncapped."""
    right = [r["question"] for r in rows if r["correct"]]
    found = saving_interval({q: spent[q] for q in right}, {q: free[q] for q in right})
    return None if found is None else {**_shown(found), "n": len(right)}


def _natural_over_need(rows: Sequence[Line]) -> float | None:
    known = [(r["natural"], r["need"]) for r in rows if r["need"] is not None]
    return sum(n for n, _ in known) / sum(n for _, n in known) if known else None


def _p5(rows: Sequence[Line], seed: int) -> Row:
    count = sum(bool(r["learned"]["violations"]) for r in rows)
    return Row(
        value=float(count),
        n=len(rows),
        seeds=(seed,),
        gate="0 of all replies",
        met=count == 0,
        bound=3 / len(rows) if count == 0 else None,
    )


def _p7(rows: Sequence[Line], about: Line) -> Row:
    known = [r for r in rows if r["need"] is not None]
    asked = Asked(
        [r["question"] for r in known], (about["seed"],), np.array([r["correct"] for r in known])
    )
    return budget_row(
        _column(known, "budget"),
        _column(known, "need"),
        _columns(known, "needs"),
        [r["family"] for r in known],
        asked,
        fitted_to=about["fitted_to"],
    )


def _p9(rows: Sequence[Line], seed: int) -> Row:
    skill = metrics.brier_skill(
        [r["learned"]["confidence"] for r in rows], [r["learned"]["correct"] for r in rows]
    )
    known = [r for r in rows if r["need"] is not None and r["covering"] is not None]
    covered = np.array([r["covering"] >= r["need"] for r in known])
    share = float(covered.mean()) if known else None
    return Row(
        value=skill,
        n=len(rows),
        seeds=(seed,),
        gate="Brier skill > 0; coverage 0.9 +- 0.02",
        met=all_met(
            None if skill is None else skill > 0,
            None if share is None else abs(share - 0.9) <= 0.02,
        ),
        detail={
            "coverage": share,
            "coverage_n": len(known),
            **({} if known else {"missing": "too few needs to fit a covering scale to"}),
            "coverage_ci95": interval(
                [r["question"] for r in known], lambda drawn: float(covered[drawn].mean())
            ),
        },
    )


def _column(rows: Sequence[Line], name: str) -> ndarray:
    return np.array([math.nan if r[name] is None else r[name] for r in rows], dtype=np.float64)


def _columns(rows: Sequence[Line], name: str) -> dict[str, ndarray]:
    return {key: _column([r[name] for r in rows], key) for key in rows[0][name]}


def _shown(found: Interval) -> Line:
    return {"mean": found.mean, "ci95": list(found.ci95)}


def main() -> None:
    """Print the table, or put it into a file of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--into", type=Path, help="results to put them into")
    given = parser.parse_args()
    found = table(read_lines(given.rows))
    if given.into is None:
        print(json.dumps(found, indent=2))
        return
    results = json.loads(given.into.read_text(encoding="utf-8"))
    write_text(given.into, json.dumps(results | {"smollm2": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
