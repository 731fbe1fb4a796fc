"""The lines of every solver, read again by rules that share no code with the solvers."""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from reasoning_gym.arithmetic.leg_counting import ANIMALS

from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.questions import Question, score
from metacog.data.tasks.solvers import SOLVERS

DIVISION = re.compile(r"(\d+):(\d+)=(\d+)r(\d+)")


def divided(line: str) -> tuple[int, int, int, int]:
    """Return dividend, divisor, quotient and remainder of a line that is true."""
    found = DIVISION.fullmatch(line)
    assert found is not None, line
    dividend, divisor, quotient, remainder = map(int, found.groups())
    assert dividend == divisor * quotient + remainder
    assert 0 <= remainder < divisor
    return dividend, divisor, quotient, remainder


def check_chain_sum(text: str, work: Sequence[str], answer: str) -> None:
    expression = text.split(":")[1].removesuffix("=").split()
    total = int(expression[0])
    signed = list(zip(expression[1::2], expression[2::2], strict=True))
    assert len(work) == len(signed)
    for line, (sign, term) in zip(work, signed, strict=True):
        found = re.fullmatch(r"(-?\d+)([+-])(\d+)=(-?\d+)", line)
        assert found is not None, line
        assert (int(found[1]), found[2], found[3]) == (total, sign, term)
        total += int(term) if sign == "+" else -int(term)
        assert int(found[4]) == total
    assert total == int(answer)


def check_gcd(text: str, work: Sequence[str], answer: str) -> None:
    numbers = re.search(r"numbers: (\d+), (\d+)\.", text)
    assert numbers is not None
    left, right = map(int, numbers.groups())
    assert math.gcd(left, right) == int(answer)
    steps = [divided(line) for line in work]
    assert steps[0][:2] == (left, right)
    for (_, divisor, _, remainder), after in pairwise(steps):
        assert after[:2] == (divisor, remainder)
    assert steps[-1][1] == int(answer)
    assert steps[-1][3] == 0


def check_prime_factorization(text: str, work: Sequence[str], answer: str) -> None:
    number = int(re.findall(r"\d+", text)[0])
    factors = [int(factor) for factor in answer.split(" × ")]
    assert math.prod(factors) == number
    assert all(all(f % d for d in range(2, math.isqrt(f) + 1)) for f in factors)
    left, exact, tried = number, [], [1]
    for line in work:
        found = re.fullmatch(r"(\d+)=(\d+)r(\d+)", line)
        assert found is not None, line
        divisor, quotient, remainder = map(int, found.groups())
        assert left == divisor * quotient + remainder
        assert 0 <= remainder < divisor
        assert divisor * divisor <= left
        assert divisor >= tried[-1]
        tried.append(divisor)
        if remainder == 0:
            exact.append(divisor)
            left = quotient
    assert [*exact, left] == factors
    primes = [d for d in range(2, tried[-1] + 1) if all(d % p for p in range(2, d))]
    assert sorted(set(tried) - {1}) == primes, "a prime was left out or a composite tried"


def check_count_bits(text: str, work: Sequence[str], answer: str) -> None:
    number = int(re.findall(r"\d+", text)[-1])
    digits = f"{number:b}"
    assert len(work) == len(digits)
    for place, line in enumerate(work, 1):
        half, count = line.split(",")
        assert int(half) == number >> place
        assert int(count) == digits[-place:].count("1")
    assert int(answer) == digits.count("1")


BASES = {"binary": 2, "hexadecimal": 16}


def check_base_conversion(text: str, work: Sequence[str], answer: str) -> None:
    found = re.search(r"convert the (\S+) number (\w+) to (\S+)$", text)
    assert found is not None
    source, target = (
        BASES.get(name) or int(name.removeprefix("base-")) for name in (found[1], found[3])
    )
    value = int(found[2], source)
    assert int(answer, target) == value
    horner = [line for line in work if "*" in line]
    assert list(work[: len(horner)]) == horner, "the number is read before it is divided"
    read = int(found[2][0], source)
    for line, digit in zip(horner, found[2][1:], strict=False):
        numbers = re.fullmatch(r"(\d+)\*(\d+)\+(\d+)=(\d+)", line)
        assert numbers is not None, line
        assert [int(n) for n in numbers.groups()[:3]] == [read, source, int(digit, source)]
        read = read * source + int(digit, source)
        assert int(numbers[4]) == read
    assert len(horner) == (0 if source == 10 else len(found[2]) - 1)
    steps = [divided(line) for line in work[len(horner) :]]
    if target == 10:
        assert steps == []
        return
    assert "".join("0123456789abcdef"[step[3]] for step in reversed(steps)) == answer
    left = value
    for dividend, divisor, quotient, _ in steps:
        assert (dividend, divisor) == (left, target)
        left = quotient
    assert left == 0


def check_leg_counting(text: str, work: Sequence[str], answer: str) -> None:
    stated = text.split("if you have ")[1].removesuffix("?").split(", ")
    legs = [(item, ANIMALS.get(item.split(" ", 1)[1])) for item in stated]
    legs = [
        (item, ANIMALS[item.split(" ", 1)[1].removesuffix("s")] if n is None else n)
        for item, n in legs
    ]
    total, walking = 0, [(item, n) for item, n in legs if n]
    assert len(work) == len(walking)
    for line, (item, each) in zip(work, walking, strict=True):
        found = re.fullmatch(r" ([a-z ]+) (\d+)\*(\d+)=(\d+),(\d+)", line)
        assert found is not None, line
        assert f"{found[2]} {found[1]}" == item
        assert int(found[3]) == each
        assert int(found[4]) == int(found[2]) * each
        total += int(found[2]) * each
        assert int(found[5]) == total
    assert total == int(answer)


def check_aiw(text: str, work: Sequence[str], answer: str) -> None:
    women = re.findall(r"(\d+) (?:sisters|female friends|female colleagues)", text)
    assert list(work) == [f"{women[0]}+1={int(women[0]) + 1}"]
    assert int(answer) == int(women[0]) + 1


def rewritten(state: str) -> str | None:
    """Rewrite the first facing pair of a state written `A# #B`, or None where none faces."""
    tokens = state.split()
    for place, (left, right) in enumerate(pairwise(tokens)):
        if left[1] == "#" == right[0]:
            middle = [] if left[0] == right[1] else [right, left]
            return " ".join([*tokens[:place], *middle, *tokens[place + 2 :]])
    return None


def check_ab(text: str, work: Sequence[str], answer: str) -> None:
    state = text.split("following program:")[1].split("Return")[0].strip()
    assert re.fullmatch(r"([AB]#|#[AB])( ([AB]#|#[AB]))*", state)
    for line in work:
        after = rewritten(state)
        assert after is not None
        assert line.split() == after.split()
        state = after
    assert rewritten(state) is None
    assert state == answer


CHECKS: dict[str, Callable[[str, Sequence[str], str], None]] = {
    "chain_sum": check_chain_sum,
    "gcd": check_gcd,
    "prime_factorization": check_prime_factorization,
    "ab": check_ab,
    "aiw": check_aiw,
    "count_bits": check_count_bits,
    "base_conversion": check_base_conversion,
    "leg_counting": check_leg_counting,
}


def test_every_family_has_a_solver_and_a_check() -> None:
    assert FAMILIES.keys() == SOLVERS.keys() == CHECKS.keys()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_line_of_work_is_true_and_leads_to_the_answer(drawn, family: str) -> None:
    for level in range(NUM_LEVELS):
        kept = [question for question in drawn[family, level] if question is not None]
        assert len(kept) >= len(drawn[family, level]) // 2, f"level {level} is mostly left out"
        for question in kept:
            *work, last = question.lines
            assert last == question.answer == str(question.entry["answer"])
            assert (question.family, question.level) == (family, level)
            CHECKS[family](question.text, work, question.answer)


def test_only_questions_with_a_doubtful_label_or_no_answer_are_left_out(drawn) -> None:
    for (family, _), items in drawn.items():
        if family != "ab":
            assert None not in items


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_scores_tell_right_from_wrong(drawn, family: str) -> None:
    for level in range(NUM_LEVELS):
        for question in [item for item in drawn[family, level] if item is not None][:10]:
            assert score(question, question.answer)
            assert score(question, f"  {question.answer}\n")
            assert not score(question, wrong(question))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(
    "reply", ["", " \n", "no", "2 x 5", "2 3", "×", "1e999999", "<plan>", "3×", "ß²"]
)
def test_a_reply_that_makes_no_sense_is_wrong_and_no_error(drawn, family: str, reply: str) -> None:
    question = next(item for item in drawn[family, 5] if item is not None)
    assert not score(question, reply)


def wrong(question: Question) -> str:
    """Return an answer of the right kind that is not right."""
    answer = question.answer
    match question.family:
        case "ab":
            return answer[:-2] + answer[-2:][::-1]
        case "prime_factorization":
            return f"{answer} × 2"
        case _:
            return answer[:-1] + ("1" if answer[-1] != "1" else "2")


def test_need_varies_within_a_family(drawn) -> None:
    """Work that the question's length does not show: five times and more within four families."""
    spread = 0
    for family in FAMILIES:
        counts = [
            len(question.lines) - 1
            for level in range(NUM_LEVELS)
            for question in drawn[family, level]
            if question is not None
        ]
        spread += max(counts) >= 5 * max(1, min(counts))
    assert spread >= 4
