"""What a model's thinking costs beside another's, on the same questions with the same noise.

    python -m benchmarks.two_models runs/adapt/final nano --n 1000 --seeds 0 1

Two arms of each, on the test split: without a budget, gate in place, and under its own budgets with
re-readings. Prints JSON: accuracy and THINK and ANSWER tokens of each arm, then for both arms the
first model less the second with 95 % intervals over questions, and the share of tokens saved.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.eval.arms import LEARNED, LEARNED_ARM, UNCAPPED, UNCAPPED_ARM
from metacog.eval.bootstrap import Interval, mean_interval, saving_interval
from metacog.eval.rows import EvalRow, write_rows
from metacog.eval.runner import Runner
from metacog.eval.setup import setup_of
from metacog.model.bundle import load_model

ARMS = {UNCAPPED: UNCAPPED_ARM, LEARNED: LEARNED_ARM}


def rows_of(name: str, questions: Sequence[Question], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the rows of both arms of a model."""
    runner = Runner(setup_of(load_model(name)), questions, seeds)
    needs = dict.fromkeys((question.id, seed) for question in questions for seed in seeds)
    return {arm: runner.run(what, needs) for arm, what in ARMS.items()}


def by_question(rows: Sequence[EvalRow], figure: str) -> dict[str, float]:
    """Return a figure of each question, its mean over seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.question_id, []).append(float(vars(row)[figure]))
    return {question: float(np.mean(values)) for question, values in found.items()}


def described(rows: Sequence[EvalRow]) -> dict[str, float]:
    """Return what an arm comes to."""
    figures = {"accuracy": "correct", "think_tokens": "used", "spend": "spend"}
    values = {name: [float(vars(row)[key]) for row in rows] for name, key in figures.items()}
    return {
        **{name: float(np.mean(found)) for name, found in values.items()},
        "think_tokens_deviation": float(np.std(values["think_tokens"])),
        "cap_violations": sum(row.cap_violation for row in rows),
    }


def compared(first: Sequence[EvalRow], second: Sequence[EvalRow]) -> dict[str, Any]:
    """Return the first less the second: accuracy, and the share of tokens that it saves."""
    right, other = by_question(first, "correct"), by_question(second, "correct")
    return {
        "accuracy": _shown(mean_interval({key: right[key] - other[key] for key in right})),
        "spend_saved": _shown(
            saving_interval(by_question(first, "spend"), by_question(second, "spend"))
        ),
    }


def _shown(interval: Interval | None) -> Mapping[str, Any] | None:
    return None if interval is None else asdict(interval)


def main() -> None:
    """Compare two models and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--n", type=int, default=1000, help="test questions")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of sampling")
    parser.add_argument("--rows", type=Path, help="directory for the rows of each model")
    given = parser.parse_args()
    questions = draw_questions(Split.TEST, given.n, families=tuple(FAMILIES))
    found = {name: rows_of(name, questions, given.seeds) for name in (given.first, given.second)}
    if given.rows is not None:
        for number, arms in enumerate(found.values(), start=1):
            rows = [row for arm in arms.values() for row in arm]
            write_rows(given.rows / f"{number}.jsonl", rows)
    first, second = found[given.first], found[given.second]
    told = {
        "n": given.n,
        "seeds": given.seeds,
        "models": {
            name: {arm: described(rows) for arm, rows in arms.items()}
            for name, arms in found.items()
        },
        "difference": {arm: compared(first[arm], second[arm]) for arm in ARMS}
        | {"learned against the second uncapped": compared(first[LEARNED], second[UNCAPPED])},
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
