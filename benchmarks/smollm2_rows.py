"""The rows of the P table for SmolLM2-135M-Instruct: measured once, and made again from what was kept.

    python benchmarks/smollm2_rows.py measure runs/smollm2/final docs/smollm2.jsonl
    python benchmarks/smollm2_rows.py table docs/smollm2.jsonl --into docs/results.json

`measure` calibrates the layer on `--calibration` questions, lets the model answer test questions once without a budget and once under its own budgets,
and writes a line for each question: what happened, what the layer said, and what every baseline did,
fitted to `--fit` questions of the layer-train split. Constant caps are read off the uncapped traces,
valued after every token. `table` needs neither model nor questions: it prints P2, P5, P7, P8 and P9
(without ECE, which takes 5,000 replies) as JSON, or puts them into a file of results as `smollm2`.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from metacog.cli.calibration import Wanted, calibrate_model
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question, score
from metacog.data.tasks.splits import Split
from metacog.decode.collect import said
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.eval import metrics
from metacog.eval.arms import MARGIN
from metacog.eval.baselines.registry import AT_CLOSER, AT_PROMPT, BUDGETS
from metacog.eval.bootstrap import Interval, mean_interval, saving_interval
from metacog.eval.evidence import Evidence, collect_evidence
from metacog.eval.proof.budgets import budget_row, median_of
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
from metacog.eval.proof.view import view_of
from metacog.eval.runner import request_id
from metacog.eval.violations import violations
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.calibration import layer_digest
from metacog.telemetry.files import write_text
from metacog.text.render import render

Line = dict[str, Any]
_NAMES = tuple(FAMILIES)
LEAST_GAIN = 0.05
"""What thinking has to be worth on a task for a budget to mean anything there."""


def measured(
    model: MetacogModel, families: Sequence[str], fit: int, n: int, seed: int
) -> list[Line]:
    """Return a line about the model, and one for each test question."""
    assert model.reader is not None
    questions = draw_questions(Split.TEST, n, families=families)
    seen = draw_questions(Split.LAYER_TRAIN, fit, families=families)
    before = collect_evidence(model, seen, [seed], rows=64)
    test = collect_evidence(model, questions, [seed], rows=64)
    learned = learned_replies(model, questions, seed)
    cap = cheapest_cap(before)
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
                name: _where(known, predict(before, test.at(known)))
                for name, predict in BUDGETS.items()
            },
        },
    }
    about = {
        "base_sha256": model.base.digest,
        "layer_sha256": layer_digest(model.reader.layer),
        "families": list(families),
        "fitted_to": fit,
        "seed": seed,
        "temperature": model.decoding.sampling.temperature,
        "cheapest_cap": cap,
    }
    return [about, *(_line(test, columns, tables, learned, row) for row in range(n))]


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


def read_lines(path: Path) -> list[Line]:
    """Return what `measure` has written."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the rows, and whether thinking is worth enough for them to mean anything."""
    about, *rows = lines
    correct = np.array([row["correct"] for row in rows])
    asked = Asked([row["question"] for row in rows], (about["seed"],), correct)
    fitted = about["fitted_to"]
    return {
        "about": about,
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
    """Measure or print the table, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("model")
    measuring.add_argument("out", type=Path)
    measuring.add_argument("--families", nargs="+", default=["aiw"])
    measuring.add_argument("--calibration", type=int, default=300)
    measuring.add_argument("--fit", type=int, default=250)
    measuring.add_argument("--n", type=int, default=1000)
    measuring.add_argument("--seed", type=int, default=0)
    measuring.add_argument("--precision", default="bf16")
    telling = commands.add_parser("table")
    telling.add_argument("rows", type=Path)
    telling.add_argument("--into", type=Path, help="results to put them into")
    given = parser.parse_args()
    if given.what == "measure":
        loaded = load_model(given.model, precision=given.precision)
        wanted = Wanted(n=given.calibration, plan_prompts=0, families=tuple(given.families))
        model, account = calibrate_model(loaded, wanted)
        lines = measured(model, given.families, given.fit, given.n, given.seed)
        lines[0] |= {"precision": given.precision, "calibration": account}
        write_text(given.out, "".join(f"{json.dumps(line)}\n" for line in lines))
        return
    found = table(read_lines(given.rows))
    if given.into is None:
        print(json.dumps(found, indent=2))
        return
    results = json.loads(given.into.read_text(encoding="utf-8"))
    write_text(given.into, json.dumps(results | {"smollm2": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
