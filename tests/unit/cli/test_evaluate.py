"""The words of `metacog eval` and the lines it prints."""

import pytest

from metacog.cli.curve import print_curve
from metacog.cli.evaluate import parse_caps
from metacog.cli.generate import parse_budget
from metacog.errors import InputError

SUMMARY = {
    "n": 3,
    "seeds": [0, 1],
    "uncapped": {"accuracy": 0.7, "spend_mean": 100.0},
    "arms": {
        "uncapped": {"accuracy": 0.7, "spend_mean": 100.0},
        "learned": {"accuracy": 0.71, "spend_mean": 60.0},
        "learned.constant": {"accuracy": 0.5, "spend_mean": 61.0},
    },
}


def test_caps_are_whole_numbers_in_a_list() -> None:
    assert parse_caps("16, 32,64") == (16, 32, 64)
    assert parse_caps("auto,none, 64") == (64,)
    assert parse_caps("") == ()


@pytest.mark.parametrize("text", ["16,x", "-1", "1.5"])
def test_anything_else_is_refused(text) -> None:
    with pytest.raises(InputError, match="--budgets"):
        parse_caps(text)


def test_a_budget_is_a_number_or_auto() -> None:
    assert parse_budget("auto") is None
    assert parse_budget("-1") == -1
    with pytest.raises(InputError, match="--budget"):
        parse_budget("many")


def test_the_curve_lists_arms_by_spend_and_says_what_is_saved(capsys) -> None:
    print_curve(SUMMARY)
    printed = capsys.readouterr().out
    lines = [line.split()[0] for line in printed.splitlines() if line.strip()]
    assert lines[1:4] == ["learned", "learned.constant", "uncapped"]
    assert "40.0% fewer tokens, +1.0 points" in printed
    assert "n = 3 questions, 2 sampling seeds" in printed
