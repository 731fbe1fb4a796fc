"""Rows of docs/results.json, measured again on few questions of the test split.

A few questions say little: a row holds where its interval there and the one that stands in the file have
a point in common.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import training_seeds
from benchmarks.smollm2_rows import evenly, read_lines, table
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.eval import metrics
from metacog.eval.evidence import Evidence, collect_evidence
from metacog.eval.margins import margin_summaries
from metacog.eval.proof.row import interval
from metacog.eval.proof.view import view_of
from metacog.eval.runner import Runner
from metacog.eval.setup import setup_of
from metacog.model.bundle import MetacogModel, load_model

RESULTS = Path(__file__).parents[2] / "docs" / "results.json"
NUM_QUESTIONS = 160


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def nano() -> MetacogModel:
    return load_model("nano")


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return draw_questions(Split.TEST, NUM_QUESTIONS)


@pytest.fixture(scope="module")
def evidence(nano: MetacogModel, questions: list[Question]) -> Evidence:
    return collect_evidence(nano, questions, [0])


def assert_meet(mine: Any, published: Any) -> None:
    assert mine is not None
    assert mine[0] <= published[1], (mine, published)
    assert published[0] <= mine[1], (mine, published)


def test_the_figures_are_of_the_base_that_ships(
    nano: MetacogModel, published: dict[str, Any]
) -> None:
    assert published["base_sha256"] == nano.base.digest


def test_the_rows_of_smollm2_are_what_its_lines_say(published: dict[str, Any]) -> None:
    again = table(read_lines(RESULTS.with_name("smollm2.jsonl")))
    assert json.loads(json.dumps(again)) == published["smollm2"]


def test_more_of_the_easier_levels_change_nothing_of_all_levels(published: dict[str, Any]) -> None:
    about, *rows = read_lines(RESULTS.with_name("smollm2.jsonl"))
    of_all = evenly(rows)
    assert len(of_all) == 1000 == published["smollm2"]["P2"]["n"]
    assert [sum(row["level"] == level for row in of_all) for level in range(8)] == [125] * 8
    assert json.loads(json.dumps(table([about, *of_all])["P2"])) == published["smollm2"]["P2"]


def test_the_rows_of_the_training_seeds_are_what_was_kept(published: dict[str, Any]) -> None:
    kept = read_lines(RESULTS.with_name("training-seeds.jsonl"))
    again = training_seeds.table(published, kept)
    assert json.loads(json.dumps(again)) == published["training_seeds"]
    assert [line["training_seed"] for line in again["listed"]] == list(range(len(kept) + 1))


def test_p2_holds_on_few_questions(
    nano: MetacogModel, questions: list[Question], published: dict[str, Any]
) -> None:
    bare = Runner(setup_of(MetacogModel(nano.base, decoding=nano.decoding)), questions, [0])
    alone = Runner(setup_of(replace(nano, gate=None)), questions, [0])
    found = margin_summaries(bare, {"alone": (alone, False)}, None)["alone"]
    assert_meet(found["saving"]["ci95"], published["P2"]["ci95"])
    assert found["cap_violations"] == published["P5"]["value"] == 0


def test_p7_holds_on_few_questions(
    nano: MetacogModel, evidence: Evidence, published: dict[str, Any]
) -> None:
    said = view_of(nano, evidence)
    known = evidence.need == evidence.need
    budget, need = said.budget[known], evidence.need[known]
    asked = evidence.question[known].tolist()
    mine = interval(
        asked, lambda rows: metrics.spearman(budget[rows].tolist(), need[rows].tolist())
    )
    assert_meet(mine, published["P7"]["ci95"])


def test_p8_holds_on_few_questions(
    nano: MetacogModel, evidence: Evidence, published: dict[str, Any]
) -> None:
    said, right = view_of(nano, evidence).confidence, evidence.correct
    mine = interval(
        evidence.question.tolist(),
        lambda rows: metrics.auroc(said[rows].tolist(), right[rows].tolist()),
    )
    assert_meet(mine, published["P8"]["ci95"])
