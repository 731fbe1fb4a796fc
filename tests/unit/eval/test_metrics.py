from itertools import product

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from metacog.eval import metrics
from metacog.eval.metrics import SpendPair


def test_spearman_by_hand() -> None:
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8.
    assert metrics.spearman([1.0, 5.0, 7.0, 90.0], [2.0, 8.0, 3.0, 9.0]) == pytest.approx(0.8)


def test_spearman_takes_the_mean_rank_of_ties() -> None:
    # Ranks 1.5 1.5 3 and 1 2 3: covariance 0.5 + 0.25 * 0 ... = Pearson of the ranks.
    expected = np.corrcoef([1.5, 1.5, 3.0], [1.0, 2.0, 3.0])[0, 1]
    assert metrics.spearman([4.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(expected)


@pytest.mark.parametrize("values", [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0])])
def test_a_correlation_without_variation_is_missing(
    values: tuple[list[float], list[float]],
) -> None:
    assert metrics.spearman(*values) is None
    assert metrics.spearman(*reversed(values)) is None


def test_within_a_family_only_its_own_rows_count() -> None:
    families = ["up"] * 3 + ["down"] * 3 + ["flat"] * 3 + ["few"]
    first = [1.0, 2.0, 3.0] * 3 + [1.0]
    second = [1.0, 2.0, 3.0, 30.0, 20.0, 10.0, 5.0, 5.0, 5.0, 1.0]
    found = metrics.spearman_within(families, first, second, least=3)
    assert found.by_family == {"up": pytest.approx(1.0), "down": pytest.approx(-1.0)}
    assert found.median == pytest.approx(0.0)
    assert metrics.spearman_within(families, first, second).median is None


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    scores, right = [0.1, 0.4, 0.4, 0.8, 0.9], [False, True, False, True, False]
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for (a, won), (b, lost) in product(zip(scores, right, strict=True), repeat=2)
        if won and not lost
    ]
    assert metrics.auroc(scores, right) == pytest.approx(sum(pairs) / len(pairs))
    assert metrics.auroc(scores, right) == pytest.approx(roc_auc_score(right, scores))
    assert metrics.auroc([0.1, 0.2], [True, True]) is None
    assert metrics.auroc([], []) is None


def test_expected_auroc_weighs_pairs_by_their_probability() -> None:
    scores, right = [0.2, 0.5, 0.9], [0.1, 0.5, 0.8]
    won = total = 0.0
    for (a, p), (b, q) in product(zip(scores, right, strict=True), repeat=2):
        weight = p * (1 - q)
        total += weight
        won += weight * (1.0 if a > b else 0.5 if a == b else 0.0)
    assert metrics.expected_auroc(scores, right) == pytest.approx(won / total)
    assert metrics.expected_auroc([0.1, 0.2], [1.0, 1.0]) is None
    assert metrics.expected_auroc([], []) is None


def test_brier_and_its_skill_by_hand() -> None:
    confidence, right = [0.9, 0.6, 0.2, 0.5], [True, True, False, False]
    # (0.01 + 0.16 + 0.04 + 0.25) / 4 = 0.115; the base rate's is 0.25.
    assert metrics.brier(confidence, right) == pytest.approx(0.115)
    assert metrics.brier_skill(confidence, right) == pytest.approx(1 - 0.115 / 0.25)
    assert metrics.brier([], []) is None
    assert metrics.brier_skill([0.5], [True]) is None


def test_ece_by_hand() -> None:
    confidence = [0.9, 0.1, 0.7, 0.3]
    right = [True, False, False, True]
    # Two bins of two: (0.1, 0.3) right in half, |0.2 - 0.5|; (0.7, 0.9) right in half, |0.8 - 0.5|.
    assert metrics.ece(confidence, right, bins=2) == pytest.approx(0.3)
    bins = metrics.reliability(confidence, right, bins=2)
    assert [(b.confidence, b.accuracy, b.count) for b in bins] == [
        (pytest.approx(0.2), 0.5, 2),
        (pytest.approx(0.8), 0.5, 2),
    ]


def test_bins_weigh_by_their_number() -> None:
    # Three in the first bin, two in the second: (3 * |0.2 - 1/3| + 2 * |0.8 - 1|) / 5.
    confidence = [0.2, 0.2, 0.2, 0.8, 0.8]
    right = [True, False, False, True, True]
    expected = (3 * abs(0.2 - 1 / 3) + 2 * 0.2) / 5
    assert metrics.ece(confidence, right, bins=2) == pytest.approx(expected)
    assert metrics.ece(confidence, right, bins=50) == pytest.approx(
        np.mean(np.abs(np.array(confidence) - np.array(right)))
    )
    assert metrics.ece([], []) is None


def test_error_coverage_and_shares() -> None:
    assert metrics.mean_absolute_error([3.0, 10.0], [5.0, 9.0]) == 1.5
    assert metrics.mean_absolute_error([], []) is None
    assert metrics.coverage([5, 6, 7, 400], [5, 5, 9, None]) == 0.75
    assert metrics.coverage([], []) is None
    assert metrics.shares(["b", "a", "b", None]) == {"a": 0.25, "b": 0.5, "open": 0.25}
    assert metrics.shares([]) == {}
    assert metrics.mean([]) is None


def test_the_parts_of_a_saving_sum_to_it() -> None:
    pairs = [
        SpendPair(40, 20, right=True, hit_limit=False),
        SpendPair(30, 35, right=True, hit_limit=False),
        SpendPair(50, 10, right=False, hit_limit=False),
        SpendPair(80, 30, right=True, hit_limit=True),
    ]
    found = metrics.split_saving(pairs)
    assert found is not None
    assert found.overthinking == pytest.approx(15 / 200)
    assert found.futility == pytest.approx(40 / 200)
    assert found.loops == pytest.approx(50 / 200)
    total = 1 - sum(pair.spent for pair in pairs) / 200
    assert found.overthinking + found.futility + found.loops == pytest.approx(total)
    assert metrics.split_saving([]) is None
