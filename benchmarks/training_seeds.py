"""The rows of the P table that hang on how training fell out, one training seed after the other.

    python -m benchmarks.training_seeds measure docs/training-seeds.jsonl --bare ROWS --trained 1=DIR 2=DIR
    python -m benchmarks.training_seeds measure docs/training-seeds.jsonl --bare ROWS --frozen 1=DIR 2=DIR
    python -m benchmarks.training_seeds keep docs/training-seeds.jsonl 1 EVAL.json
    python -m benchmarks.training_seeds table docs/training-seeds.jsonl --into docs/results.json

`measure` lets models answer many test questions beside nano's bare base: P1 and P10 of bases that were
trained, P2 and calibration of layers on the frozen base, their gate off. `keep` takes the other rows from
what `metacog eval` printed. Both add to the line of a seed. `table` puts the lines into a file of results
as `training_seeds`, behind seed 0's rows, which are that file's own.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.smollm2_rows import Line, read_lines
from metacog.cli.measure import digests_of
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.decode.terms import NO_LIMIT
from metacog.eval.arms import CHEAPEST_CONSTANT, UNCAPPED, Arm, ConstantCap
from metacog.eval.margins import bare_rows, margin_summary
from metacog.eval.proof.savings import AFTER_TRAINING, LAYER_ONLY, p10, saving
from metacog.eval.rows import EvalRow, read_rows, write_rows
from metacog.eval.runner import Runner
from metacog.eval.setup import setup_of
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry.files import write_text

_SAVING = ("ci95", "bound", "accuracy_difference", "against_cheapest_constant", "met")
MEASURED = {"P1": _SAVING, "P2": _SAVING, "P10": ("ci95", "met"), "P9": ("brier_skill",)}
"""Rows on many questions, and what is listed of them beside `value`, `n` and `seeds`."""
KEPT = {
    "P3": ("ci95", "least", "oracle_gap", "met"),
    "P4": ("points", "points_ci95", "met"),
    "P5": ("bound", "met"),
    "P6": ("met",),
    "P7": ("ci95", "spearman_within", "mae_below_best", "met"),
    "P8.a": ("ci95", "above_best", "best_baseline", "met"),
    "P8.b": ("ci95", "above_best", "above_best_ci95", "best_baseline", "met"),
    "P11": ("ci95",),
    "P13": ("alpha", "expert"),
}
"""Rows of `metacog eval`; of P11 what the gate saves against off, of P13 what no plans are run for."""
_ALWAYS = ("value", "n", "seeds")


def listed(results: Line, rows: Mapping[str, Sequence[str]]) -> Line:
    """Return some figures of some rows.

    Raises:
        SystemExit: If a row or a figure is missing.
    """
    found = {}
    for name, figures in rows.items():
        row: Any = results
        for part in name.split("."):
            row = row.get(part, {})
        missing = [figure for figure in (*_ALWAYS, *figures) if figure not in row]
        if missing:
            raise SystemExit(f"Wanted {name} with {', '.join(missing)}, got {sorted(row)}.")
        found[name] = {figure: row[figure] for figure in (*_ALWAYS, *figures)}
    return found


def measured(
    kind: str, model: MetacogModel, without: Sequence[EvalRow], questions: Sequence[Question]
) -> Line:
    """Return the rows on many questions of one training seed's model."""
    own = next(row for row in without if row.arm == UNCAPPED)
    differs = model.gate is not None or kind == "trained"
    runner = Runner(setup_of(model), questions, [own.seed])
    return _rows(kind, margin_summary(without, runner, differs=differs, prompt_only=False), model)


def rows_of_bare(file: Path, cap: int, questions: Sequence[Question]) -> list[EvalRow]:
    """Return nano's bare replies to the questions: those in the file, or new ones, which it then holds."""
    if not file.exists():
        nano = load_model("nano")
        runner = Runner(setup_of(MetacogModel(nano.base, decoding=nano.decoding)), questions, [0])
        write_rows(file, bare_rows(runner, Arm(CHEAPEST_CONSTANT, ConstantCap(float(cap)))))
    rows = list(read_rows(file))
    made_with = {(row.question_id, row.arm, row.requested) for row in rows}
    wanted = {(question.id, UNCAPPED, NO_LIMIT) for question in questions}
    wanted |= {(question.id, CHEAPEST_CONSTANT, cap) for question in questions}
    if made_with != wanted:
        raise SystemExit(
            f"Wanted {file} to hold nano's replies to these {len(questions)} questions without a "
            f"budget and under {cap} tokens, got others. Name another file."
        )
    return rows


def _rows(kind: str, summary: Line, model: MetacogModel) -> Line:
    if kind == "trained":
        names, rows = ("P1", "P10"), {"P1": saving(summary, AFTER_TRAINING), "P10": p10(summary)}
        found: Line = {name: row.as_json() for name, row in rows.items()}
    else:
        names = ("P2", "P9")
        told = summary["confidence"]
        calibrated = {"value": told["ece"], "n": told["n"], "seeds": summary["seeds"]}
        found = {
            "P2": saving(summary, LAYER_ONLY).as_json(),
            "P9": calibrated | {"brier_skill": told["brier_skill"]},
        }
    kept = listed(found, {name: MEASURED[name] for name in names})
    return {**kept, kind: digests_of(model)}


def add(out: Path, seed: int, rows: Line) -> None:
    """Put rows into a seed's line, in place of those that are there already."""
    lines = {line["training_seed"]: line for line in (read_lines(out) if out.exists() else [])}
    lines[seed] = {"training_seed": seed, **lines.get(seed, {}), **rows}
    write_text(out, "".join(f"{json.dumps(lines[one])}\n" for one in sorted(lines)))


def table(results: Line, lines: Sequence[Line]) -> Line:
    """Return every seed's line, and how far apart they lie."""
    rows = MEASURED | KEPT
    seeds = [{"training_seed": 0, **listed(results, rows)}, *lines]
    return {"listed": seeds, "over_seeds": {name: _over(seeds, name) for name in rows}}


def _over(seeds: Sequence[Line], name: str) -> Line:
    rows = [line[name] for line in seeds if name in line]
    values = [row["value"] for row in rows]
    return {
        "seeds": len(rows),
        "mean": sum(values) / len(values),
        "range": [min(values), max(values)],
        "met": sum(row.get("met") is True for row in rows) if "met" in rows[0] else None,
    }


def _measure(given: argparse.Namespace) -> None:
    questions = draw_questions(Split.TEST, given.n)
    without = rows_of_bare(given.bare, given.cap, questions)
    for kind in ("trained", "frozen"):
        for pair in getattr(given, kind):
            seed, path = pair.split("=", 1)
            model = load_model(path)
            if kind == "frozen":
                model = replace(model, gate=None)
            add(given.out, int(seed), measured(kind, model, without, questions))


def main() -> None:
    """Measure, keep, or make the table, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("out", type=Path)
    measuring.add_argument("--trained", nargs="*", default=[], metavar="SEED=DIR")
    measuring.add_argument("--frozen", nargs="*", default=[], metavar="SEED=DIR")
    measuring.add_argument("--bare", type=Path, required=True, help="rows of nano's bare base")
    measuring.add_argument("--n", type=int, default=12_000)
    measuring.add_argument("--cap", type=int, default=168, help="cheapest constant one of nano")
    keeping = commands.add_parser("keep")
    keeping.add_argument("out", type=Path)
    keeping.add_argument("seed", type=int)
    keeping.add_argument("results", type=Path)
    telling = commands.add_parser("table")
    telling.add_argument("rows", type=Path)
    telling.add_argument("--into", type=Path, required=True, help="results of seed 0")
    given = parser.parse_args()
    if given.what == "measure":
        _measure(given)
    elif given.what == "keep":
        kept = listed(json.loads(given.results.read_text(encoding="utf-8")), KEPT)
        add(given.out, given.seed, kept)
    else:
        results = json.loads(given.into.read_text(encoding="utf-8"))
        found = table(results, read_lines(given.rows))
        write_text(given.into, json.dumps(results | {"training_seeds": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
