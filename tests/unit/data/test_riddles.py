import pytest

from metacog.data.tasks.riddles import RIDDLES, Riddle, answers


def test_the_set_is_small_fixed_and_asks_for_one_word() -> None:
    assert len(RIDDLES) == 8
    assert len({riddle.id for riddle in RIDDLES}) == 8
    for riddle in RIDDLES:
        assert len(riddle.answer.split()) == 1
        assert answers(riddle, riddle.answer)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Cleo", True),
        (" cleo.\n", True),
        ("The shortest is **Cleo**!", True),
        ("Cleo is shorter than Bea", False),
        ("Bea", False),
        ("", False),
        ("...", False),
    ],
)
def test_the_last_word_counts(reply: str, right: bool) -> None:
    assert answers(Riddle("Who?", "Cleo"), reply) is right
