import math

import pytest
import torch

from metacog.rewards.advantage import GroupReply, group_advantages

WEIGHTS = {"lambda_tokens": 0.5, "max_tokens": 100}


def advantages(*group: GroupReply) -> list[float]:
    return group_advantages(group, **WEIGHTS).tolist()


def test_under_one_cap_it_is_the_reward_above_the_mean_of_the_others() -> None:
    group = [GroupReply(reward, 20, math.inf, 0.6) for reward in (1.0, 0.0, 0.5)]
    assert advantages(*group) == pytest.approx([1 - 0.25, -0.75, 0.5 - 0.5])


def test_a_case_worked_by_hand() -> None:
    """A reply that was cut at 10 beside one that spent 40 without a cap."""
    cut = GroupReply(reward=-0.05, spend=10, cap=10.0, believed=0.2)
    free = GroupReply(reward=0.8, spend=40, cap=math.inf, believed=0.9)
    # At cap 10 the other would have been right less often, and spent 30 tokens less.
    of_cut = -0.05 - (0.8 + (0.2 - 0.9) + 0.005 * 30)
    # Without a cap the cut one would have been right more often; what it saved stays unknown.
    of_free = 0.8 - (-0.05 + (0.9 - 0.2))
    assert advantages(cut, free) == pytest.approx([of_cut, of_free], abs=1e-6)


def test_a_reply_is_not_blamed_for_its_cap_where_the_layer_knew() -> None:
    """With the right belief at each cap the mean advantage under either cap is zero."""
    generator = torch.Generator().manual_seed(0)
    chance = {10.0: 0.3, math.inf: 0.9}
    total = dict.fromkeys(chance, 0.0)
    for _ in range(4000):
        caps = [10.0, 10.0, math.inf, math.inf]
        right = [float(torch.rand(1, generator=generator) < chance[cap]) for cap in caps]
        group = [GroupReply(r, 5, cap, chance[cap]) for r, cap in zip(right, caps, strict=True)]
        for cap, value in zip(caps, advantages(*group), strict=True):
            total[cap] += value / 8000
    assert all(abs(value) < 0.02 for value in total.values())


def test_the_baseline_never_looks_at_the_reply_itself() -> None:
    others = [GroupReply(0.4, 30, 25.0, 0.5), GroupReply(0.9, 50, math.inf, 0.8)]
    low, high = (advantages(GroupReply(r, 12, 20.0, 0.3), *others)[0] for r in (0.0, 1.0))
    assert high - low == pytest.approx(1.0)


def test_all_alike_is_no_advantage_and_no_division() -> None:
    group = [GroupReply(0.7, 20, 30.0, 0.5)] * 4
    assert advantages(*group) == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_one_reply_alone_has_nothing_to_compare_with() -> None:
    with pytest.raises(ValueError, match=r"two replies.*group_size"):
        advantages(GroupReply(1.0, 1, 1.0, 1.0))
