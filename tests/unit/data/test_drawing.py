from collections import Counter

import pytest

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.splits import Split, split_of
from metacog.errors import DataError

FEW = ("gcd", "count_bits", "ab")


def test_questions_are_distinct_even_and_of_their_split() -> None:
    found = draw_questions(Split.TEST, 240, families=FEW)
    assert len({question.id for question in found}) == 240
    assert {split_of(question.text) for question in found} == {Split.TEST}
    assert Counter(question.family for question in found) == dict.fromkeys(FEW, 80)
    levels = Counter(question.level for question in found if question.family == "gcd")
    assert set(levels.values()) == {10}


def test_every_family_is_there_by_default() -> None:
    found = draw_questions(Split.VALIDATION, 2 * len(FAMILIES))
    assert Counter(question.family for question in found) == dict.fromkeys(FAMILIES, 2)


def test_the_seed_fixes_them_and_fewer_are_a_prefix() -> None:
    texts = [question.text for question in draw_questions(Split.TEST, 60, families=FEW)]
    again = [question.text for question in draw_questions(Split.TEST, 30, families=FEW)]
    assert again == texts[:30]
    other = draw_questions(Split.TEST, 30, seed=1, families=FEW)
    assert [question.text for question in other] != again


def test_a_level_that_is_used_up_leaves_its_turns_to_the_others() -> None:
    found = draw_questions(Split.VALIDATION, 160, families=("count_bits",), patience=40)
    levels = Counter(question.level for question in found)
    assert len({question.id for question in found}) == 160
    assert levels[0] < 20 < levels[7]


def test_too_many_are_refused() -> None:
    with pytest.raises(DataError, match=r"Wanted 5000 distinct .* found \d+"):
        draw_questions(Split.VALIDATION, 5000, families=("prime_factorization",), patience=2)


@pytest.mark.parametrize("families", [(), ("gcd", "chess")])
def test_unknown_families_are_refused(families: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="Wanted families among"):
        draw_questions(Split.TEST, 3, families=families)
