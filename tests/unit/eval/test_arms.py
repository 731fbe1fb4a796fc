from collections import Counter

import pytest

from metacog.eval.arms import (
    LEARNED_ARM,
    PROMPT_ONLY_ARM,
    UNCAPPED_ARM,
    Arm,
    ConstantCap,
    FamilyCaps,
    Looking,
    PromptCaps,
    cap_arm,
    permuted,
    whole_cap,
)


def test_each_arm_asks_for_its_budget() -> None:
    assert UNCAPPED_ARM.budget("q", "gcd", 0) == -1
    assert LEARNED_ARM.budget("q", "gcd", 0) is None
    assert PROMPT_ONLY_ARM.budget("q", "gcd", 0) is None
    assert cap_arm(12).budget("q", "gcd", 0) == 12
    assert Arm("a", FamilyCaps({"gcd": 7.0, "ab": 9.0})).budget("q", "ab", 0) == 9
    prompt_caps = PromptCaps({("q", 0): 3.0, ("q", 1): 4.0})
    assert Arm("a", prompt_caps).budget("q", "ab", 1) == 4


def test_only_the_learned_arm_acts_on_what_it_reads_again() -> None:
    assert LEARNED_ARM.looking is Looking.ACTING
    assert PROMPT_ONLY_ARM.looking is Looking.AWAY
    assert UNCAPPED_ARM.looking is Looking.ON
    assert cap_arm(3).looking is Looking.AWAY


def test_a_fraction_is_the_chance_of_the_upper_neighbour() -> None:
    drawn = Counter(whole_cap(20.3, (f"q{i}", i % 3)) for i in range(4000))
    assert set(drawn) == {20, 21}
    assert drawn[21] / 4000 == pytest.approx(0.3, abs=0.02)


def test_the_draw_belongs_to_question_and_seed() -> None:
    keys = [(f"q{i}", seed) for i in range(50) for seed in range(2)]
    drawn = [whole_cap(5.5, key) for key in keys]
    assert drawn == [whole_cap(5.5, key) for key in keys]
    assert any(a != b for a, b in zip(drawn[::2], drawn[1::2], strict=True))
    assert whole_cap(5.0, keys[0]) == 5


def test_a_higher_cap_is_never_lower_for_anyone() -> None:
    caps = [tenth / 10 for tenth in range(40)]
    for key in [("a", 0), ("b", 1), ("c", 2)]:
        drawn = [whole_cap(cap, key) for cap in caps]
        assert drawn == sorted(drawn)


USED = {(f"q{i}", seed): float(10 * i + seed) for i in range(12) for seed in range(2)}
GROUP = {key: "even" if int(key[0][1:]) % 2 == 0 else "odd" for key in USED}


def test_a_permutation_keeps_the_numbers_of_each_group_and_seed() -> None:
    found = permuted(USED, GROUP)
    assert found.keys() == USED.keys()
    assert found != USED
    for seed in range(2):
        for group in ("even", "odd"):
            keys = [key for key in USED if key[1] == seed and GROUP[key] == group]
            assert sorted(found[key] for key in keys) == sorted(USED[key] for key in keys)


def test_over_all_the_numbers_cross_groups() -> None:
    found = permuted(USED, dict.fromkeys(USED, "all"))
    assert sorted(found.values()) == sorted(USED.values())
    assert any(found[key] // 10 % 2 != int(key[0][1:]) % 2 for key in USED)


def test_a_permutation_is_fixed_by_its_seed_and_not_by_order() -> None:
    backwards = dict(reversed(USED.items()))
    assert permuted(USED, GROUP, seed=1) == permuted(backwards, GROUP, seed=1)
    assert permuted(USED, GROUP, seed=1) != permuted(USED, GROUP, seed=2)


def test_an_arm_is_data() -> None:
    assert Arm("a", ConstantCap(3.0)) == Arm("a", ConstantCap(3.0))
