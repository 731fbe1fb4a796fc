"""Measures what the P table for SmolLM2-135M-Instruct is made of: a line for each test question.

    python -m benchmarks.smollm2_measure runs/smollm2/final docs/smollm2.jsonl

Calibrates the layer on `--calibration` questions, lets the model answer test questions once without a
budget and once under its own budgets, and writes down what happened, what the layer said, and what every
baseline did, fitted to `--fit` questions of the layer-train split. Constant caps are read off the uncapped
traces, valued after every token. The file is written after every portion, and a file that is there
already is gone on with. `benchmarks/smollm2_rows.py` makes the table.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from benchmarks.smollm2_rows import EASY, Line, read_lines
from metacog.cli.calibration import Wanted, calibrate_model
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question, score
from metacog.data.tasks.splits import Split
from metacog.decode.collect import said
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.eval.arms import MARGIN
from metacog.eval.baselines.registry import AT_CLOSER, AT_PROMPT, BUDGETS
from metacog.eval.evidence import Evidence, collect_evidence
from metacog.eval.proof.budgets import median_of
from metacog.eval.proof.view import view_of
from metacog.eval.runner import request_id
from metacog.eval.violations import violations
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.calibration import layer_digest
from metacog.telemetry.files import write_text
from metacog.text.render import render

_NAMES = tuple(FAMILIES)
_PORTION = 100


def measure(
    model: MetacogModel, about: Line, before: Evidence, questions: Sequence[Question], out: Path
) -> None:
    """Add a line for each question that the file lacks; it is written after every portion.

    Raises:
        SystemExit: If the file's lines are of another model or other settings.
    """
    lines = read_lines(out) if out.exists() else [about]
    if _identity(about) != _identity(lines[0]):
        raise SystemExit(
            f"Wanted lines of {_identity(about)} in {out}, got {_identity(lines[0])}. "
            "Name another file."
        )
    known = {line["question"] for line in lines[1:]}
    missing = [question for question in questions if question.id not in known]
    for first in range(0, len(missing), _PORTION):
        lines += measured(model, about, before, missing[first : first + _PORTION])
        write_text(out, "".join(f"{json.dumps(line)}\n" for line in lines))


def _identity(about: Line) -> Line:
    """Return what lines of one file share to the bit; calibrated figures differ in their last digits."""
    exact = {name: value for name, value in about.items() if name != "calibration"}
    return {**exact, "calibrated_on": about["calibration"]["fitted"]}


def about_model(model: MetacogModel, families: Sequence[str], before: Evidence, seed: int) -> Line:
    """Return what every line of a file has in common."""
    assert model.reader is not None
    return {
        "base_sha256": model.base.digest,
        "layer_sha256": layer_digest(model.reader.layer),
        "families": list(families),
        "fitted_to": len(before),
        "seed": seed,
        "temperature": model.decoding.sampling.temperature,
        "cheapest_cap": cheapest_cap(before),
    }


def measured(
    model: MetacogModel, about: Line, before: Evidence, questions: Sequence[Question]
) -> list[Line]:
    """Return a line for each test question."""
    seed, cap, n = about["seed"], about["cheapest_cap"], len(questions)
    test = collect_evidence(model, questions, [seed], rows=64)
    learned = learned_replies(model, questions, seed)
    known = ~np.isnan(test.need)
    told = view_of(model, test)
    columns: dict[str, ndarray] = {
        "natural": test.natural,
        "need": test.need,
        "answer_tokens": test.answer_tokens,
        "correct": test.correct,
        "right_at_0": test.right[:, 0],
        "right_at_cap": test.right_at(np.full(n, float(cap))),
        "spend_at_cap": np.minimum(test.natural, cap) + test.answer_tokens,
        "budget": told.budget,
        "covering": test.need * math.nan if told.covering is None else told.covering,
        "confidence": told.confidence,
        "ready": told.ready,
    }
    tables = {
        "at_prompt": {name: predict(before, test) for name, predict in AT_PROMPT.items()},
        "at_closer": {name: predict(before, test) for name, predict in AT_CLOSER.items()},
        "needs": {
            "layer": median_of(view_of(model, before).budget, before.need, told.budget),
            **{
                name: _where(
                    known, predict(before, test.at(known)) if known.any() else test.need[known]
                )
                for name, predict in BUDGETS.items()
            },
        },
    }
    return [_line(test, columns, tables, learned, row) for row in range(n)]


def learned_replies(
    model: MetacogModel, questions: Sequence[Question], seed: int
) -> dict[str, Line]:
    """Return what replies under the model's own budgets come to, by question."""
    asked = {request_id(question): question for question in questions}
    requests = [
        request_for(
            model,
            tuple(render(model.base.tokenizer, [{"role": "user", "content": question.text}])),
            request_id=number,
            seed=seed,
        )
        for number, question in asked.items()
    ]
    close = model.base.tags.think_close
    found = {}
    for reply in Engine(model, engine_settings(model, rows=64)).generate(requests):
        question = asked[reply.request_id]
        assert reply.reading is not None
        found[question.id] = {
            "used": reply.budget.used,
            "spend": reply.spend,
            "correct": score(question, said(reply, model.base)),
            "confidence": reply.reading.confidence,
            "close": str(reply.budget.close_reason),
            "violations": violations(reply, close),
        }
    return found


def cheapest_cap(replies: Evidence) -> int:
    """Return the smallest constant cap that loses at most the margin on some uncapped traces."""
    longest = int(replies.natural.max())
    free = replies.right_at(replies.natural).mean()
    caps = (np.full(len(replies), float(cap)) for cap in range(longest))
    good = (cap for cap, stop in enumerate(caps) if replies.right_at(stop).mean() >= free - MARGIN)
    return next(good, longest)


def _where(known: ndarray, values: ndarray) -> ndarray:
    """Return values of the known rows among all, NaN elsewhere."""
    found = np.full(len(known), math.nan)
    found[known] = values
    return found


def _line(
    test: Evidence,
    columns: Mapping[str, ndarray],
    tables: Mapping[str, Mapping[str, ndarray]],
    learned: Mapping[str, Line],
    row: int,
) -> Line:
    question = str(test.question[row])
    return {
        "question": question,
        "family": _NAMES[test.family[row]],
        "level": int(test.level[row]),
        **{name: _plain(column[row]) for name, column in columns.items()},
        **{
            table: {name: _plain(found[row]) for name, found in entries.items()}
            for table, entries in tables.items()
        },
        "learned": learned[question],
    }


def _plain(value: Any) -> float | bool | None:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return None if math.isnan(value) else round(float(value), 5)


def asked(n: int, easier: int, families: Sequence[str]) -> list[Question]:
    """Return test questions, evenly over levels, and behind them so many more that the easier ones are enough."""
    drawn = draw_questions(Split.TEST, max(n, 2 * easier), families=families)
    among = [question for question in drawn if question.level < EASY][:easier]
    first = {question.id for question in drawn[:n]}
    return drawn[:n] + [question for question in among if question.id not in first]


def main() -> None:
    """Calibrate and measure, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", nargs="+", default=["aiw"])
    parser.add_argument("--calibration", type=int, default=300)
    parser.add_argument("--fit", type=int, default=250)
    parser.add_argument("--n", type=int, default=1000, help="questions of all levels")
    parser.add_argument("--easier", type=int, default=1000, help="questions of the easier ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="bf16")
    given = parser.parse_args()
    loaded = load_model(given.model, precision=given.precision)
    wanted = Wanted(n=given.calibration, plan_prompts=0, families=tuple(given.families))
    model, account = calibrate_model(loaded, wanted)
    seen = draw_questions(Split.LAYER_TRAIN, given.fit, families=given.families)
    before = collect_evidence(model, seen, [given.seed], rows=64)
    about = about_model(model, given.families, before, given.seed)
    about |= {"precision": given.precision, "calibration": account}
    measure(model, about, before, asked(given.n, given.easier, given.families), given.out)


if __name__ == "__main__":
    main()
