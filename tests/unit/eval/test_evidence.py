"""Evidence of a tiny model's replies, against what its parts say one by one."""

from dataclasses import replace

import numpy as np
import pytest

from metacog.eval.evidence import collect_evidence, joined, operands_of
from tests.unit.eval.evidence import replies
from tests.unit.eval.hand import question_of

FAMILIES = ("gcd", "ab", "count_bits")


@pytest.fixture(scope="module")
def found(tiny_model):
    questions = [question_of(family, level) for family in FAMILIES for level in range(2)]
    return questions, collect_evidence(tiny_model, questions, (0, 1))


def test_there_is_a_row_for_every_question_and_seed(found) -> None:
    questions, evidence = found
    assert len(evidence) == 2 * len(questions)
    assert sorted(set(evidence.question.tolist())) == sorted(q.id for q in questions)
    assert evidence.seed.tolist() == [0] * len(questions) + [1] * len(questions)
    by_id = {q.id: q for q in questions}
    for row, question in enumerate(evidence.question):
        assert evidence.text[row] == by_id[question].text
        assert evidence.operands[row].tolist() == pytest.approx(
            operands_of(by_id[question].text), nan_ok=True
        )
        assert len(evidence.think[row]) == evidence.natural[row]


def test_tables_go_on_as_they_end(found) -> None:
    _, evidence = found
    for row, end in enumerate(evidence.end):
        assert (evidence.right[row, end:] == evidence.right[row, end]).all()
        assert not evidence.line_end[row, end + 1 :].any()
    assert evidence.right_at(evidence.natural + 99).tolist() == pytest.approx(
        evidence.right_at(evidence.natural).tolist()
    )


def test_a_need_lies_within_its_reply(found) -> None:
    _, evidence = found
    known = ~np.isnan(evidence.need)
    assert (evidence.need[known] <= np.maximum(1, evidence.natural[known])).all()


def test_parts_of_different_width_are_joined() -> None:
    short, long = replies([2]), replies([5])
    both = joined([replace(short, right=np.array([[0.0, 0.3, 0.7]])), long])
    assert both.right.shape == (2, 6)
    assert both.right[0].tolist() == [0.0, 0.3, 0.7, 0.7, 0.7, 0.7]
    assert both.at(np.array([1])).natural.tolist() == [5]
