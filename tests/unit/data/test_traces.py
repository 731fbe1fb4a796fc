import re
from collections import Counter
from random import Random

import pytest

from metacog.data.tasks.traces import Piece, choose_plan, think
from metacog.text.tags import PLAN_NAMES

LINES = ("12+30=42", "42+5=47", "47-9=38", "38+2=40", "40")
WORK, ANSWER = LINES[:-1], LINES[-1]
WORDS = (" Ada mother Eve", " Eve husband Tom", "father-in-law")
NUM = 1500


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def traces(plan: str, lines: tuple[str, ...] = LINES, num: int = NUM) -> list[list[Piece]]:
    return [think(lines, plan, Random(seed)) for seed in range(num)]


def body(lines: tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in lines)


def without_slips(pieces: list[Piece]) -> bool:
    return all(piece.trained for piece in pieces)


def checks_in(text: str) -> list[tuple[str, str]]:
    """Return body and verdict of every check."""
    return re.findall(r"<eval>(.*?)(ok|no)\n</eval>\n", text, re.DOTALL)


def test_direct_writes_nothing_but_its_mark() -> None:
    assert {text_of(t) for t in traces("direct", num=50)} == {"<plan>direct</plan>\n"}


def test_outline_writes_the_lines_once() -> None:
    clean = f"<plan>outline</plan>\n<exec>{body(WORK)}>{ANSWER}\n</exec>\n"
    found = [text_of(t) for t in traces("outline") if without_slips(t)]
    assert set(found) == {clean}
    assert len(found) > NUM // 2


def test_decompose_derives_the_second_half_again() -> None:
    clean = (
        f"<plan>decompose</plan>\n<exec>{body(WORK)}>{ANSWER}\n</exec>\n"
        f"<eval>{body(WORK[2:])}>{ANSWER}\nok\n</eval>\n"
    )
    assert {text_of(t) for t in traces("decompose") if without_slips(t)} == {clean}


def test_verify_derives_everything_again_one_to_three_times() -> None:
    counts: Counter[int] = Counter()
    for pieces in traces("verify"):
        checks = checks_in(text_of(pieces))
        agreeing = [check for check in checks if check[1] == "ok"]
        assert {check[0] for check in checks} == {f"{body(WORK)}>{ANSWER}\n"}
        counts[len(agreeing)] += 1
    assert set(counts) == {1, 2, 3}
    assert [counts[n] / NUM for n in (1, 2, 3)] == pytest.approx([0.75, 0.2, 0.05], abs=0.04)


def test_a_wrong_result_is_never_trained_on_and_a_check_says_no_and_derives_again() -> None:
    wrong = 0
    for pieces in traces("verify"):
        text = text_of(pieces)
        result = re.search(r"<exec>.*?>(\S+)\n</exec>", text, re.DOTALL)
        assert result is not None
        verdicts = [verdict for _, verdict in checks_in(text)]
        untrained = [piece.text for piece in pieces if not piece.trained]
        if result[1] == ANSWER:
            assert set(verdicts) == {"ok"}
            continue
        wrong += 1
        assert f">{result[1]}\n" in untrained
        assert verdicts[0] == "no"
        assert set(verdicts[1:]) == {"ok"}
        assert checks_in(text)[0][0] == f"{body(WORK)}>{ANSWER}\n"
    assert 0.07 < wrong / NUM < 0.13


@pytest.mark.parametrize("plan", PLAN_NAMES)
def test_slips_and_only_slips_are_left_out_of_training(plan: str) -> None:
    true = {f"{line}\n" for line in WORK} | {f">{ANSWER}\n"}
    slips = 0
    for pieces in traces(plan):
        for piece in pieces:
            if piece.trained:
                derived = [line for line in piece.text.splitlines() if "=" in line or ">" in line]
                lines = [re.sub(r"</?\w+>|\w+</plan>", "", line) for line in derived]
                assert {f"{line}\n" for line in lines if line} <= true
            else:
                assert piece.text not in true
                assert len(piece.text) in {len(line) for line in true}
                slips += 1
    assert (slips == 0) == (plan == "direct")


def test_a_derivation_slips_now_and_then_and_at_most_once() -> None:
    counts = Counter(sum(not piece.trained for piece in t) for t in traces("outline"))
    assert set(counts) == {0, 1}
    assert 0.09 < counts[1] / NUM < 0.15


def test_a_slip_changes_one_digit() -> None:
    for pieces in traces("outline"):
        for piece in pieces:
            if not piece.trained:
                near = [
                    sum(a != b for a, b in zip(piece.text, f"{line}\n", strict=True))
                    for line in WORK
                    if len(line) + 1 == len(piece.text)
                ]
                assert min(near) == 1


@pytest.mark.parametrize("lines", [WORDS, ("A# B#",), ("#A A#", "#A A#"), ("A#",)])
def test_a_check_says_no_only_to_a_result_that_is_wrong(lines: tuple[str, ...]) -> None:
    for pieces in traces("verify", lines):
        text = text_of(pieces)
        result = re.search(r"<exec>.*?>([^\n]+)\n</exec>", text, re.DOTALL)
        assert result is not None
        says_no = "no" in [verdict for _, verdict in checks_in(text)]
        assert says_no == (result[1] != lines[-1]), "a right result was called wrong"


def test_direct_is_drawn_only_where_at_most_two_lines_would_be_written() -> None:
    rng = Random(0)
    for work, allowed in ((0, True), (1, True), (2, True), (3, False), (9, False)):
        lines = ["1+1=2"] * work + ["2"]
        plans = Counter(choose_plan(lines, rng) for _ in range(400))
        assert ("direct" in plans) == allowed
        assert set(plans) >= {"outline", "decompose", "verify"}


def test_direct_can_be_ruled_out_where_little_would_be_written() -> None:
    rng = Random(0)
    plans = {choose_plan(["1+1=2", "2"], rng, may_be_direct=False) for _ in range(400)}
    assert plans == {"outline", "decompose", "verify"}


def test_the_same_seed_gives_the_same_trace() -> None:
    for plan in PLAN_NAMES:
        assert think(LINES, plan, Random(5)) == think(LINES, plan, Random(5))
