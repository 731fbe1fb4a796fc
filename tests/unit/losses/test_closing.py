import math

import pytest
import torch

from metacog.losses.closing import closing_gains, closing_loss


def found(p: list[float], value: list[float]) -> tuple[list[float], dict[str, float], list[float]]:
    """Return the gradient by log-odds at each cut of one trace, the metrics, and the gains."""
    odds = torch.tensor([p]).logit(eps=1e-9).requires_grad_()
    known = torch.ones(1, len(p), dtype=torch.bool)
    report = closing_loss(odds.sigmoid().log(), torch.tensor([value]), known)
    report.total.backward()
    assert odds.grad is not None
    last = torch.tensor([[len(p) - 1]])
    gains = closing_gains(torch.tensor([p]), torch.tensor([value]), last)
    return odds.grad[0].tolist(), report.values(), gains[0].tolist()


def test_a_case_worked_by_hand() -> None:
    """Three cuts: behind the second lies the end, behind the first a choice at the second."""
    slopes, metrics, gains = found([0.5, 0.25, 0.9], [0.2, 0.9, 0.7])
    second = 0.9 - 0.7
    first = 0.2 - (0.25 * 0.9 + 0.75 * 0.7)
    assert gains == pytest.approx([first, second, 0.0], abs=1e-6)
    # d(-A log p) = -A (1 - p) and d(-|A| log(1 - p)) = |A| p, by log-odds
    assert slopes == pytest.approx([-first * 0.5, -second * 0.75, 0.0], abs=1e-5)
    assert metrics["rl/closing_gain"] == pytest.approx((first + second) / 2)
    # p = .5 is no worse than the better choice at the first cut; at the second it goes on, wrongly
    assert metrics["rl/closing_regret"] == pytest.approx(second / 2)


def test_a_closer_that_never_comes_is_still_learned_where_nothing_is_lost() -> None:
    slopes, _, gains = found([1e-7, 0.9], [0.99, 0.97])
    assert slopes[0] == pytest.approx(-gains[0], rel=1e-3)
    lost, _, _ = found([1e-7, 0.9], [0.1, 0.97])
    assert 0 <= lost[0] < 1e-6, "what never happens costs nothing"


def test_the_best_chance_weighs_what_closing_wins_against_what_it_loses() -> None:
    """Of a hundred traces that look alike, three lose the answer: the odds are those of the costs."""
    value = torch.tensor([[0.99, 0.97]] * 97 + [[0.0, 0.97]] * 3)
    odds = torch.zeros(1, requires_grad=True)
    known = torch.ones(100, 2, dtype=torch.bool)
    optimizer = torch.optim.Adam([odds], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        logp = torch.stack([odds.sigmoid().log(), torch.zeros(1)], dim=1).expand(100, 2)
        closing_loss(logp, value, known).mean().backward()
        optimizer.step()
    wanted = (97 * 0.02) / (97 * 0.02 + 3 * 0.97)
    assert odds.sigmoid().item() == pytest.approx(wanted, abs=5e-3)


def test_rows_of_other_lengths_and_without_cuts_change_nothing() -> None:
    logp = torch.tensor([[0.5, 0.25, 0.9], [0.7, 0.8, 0.1], [0.5, 0.5, 0.5]]).log()
    value = torch.tensor([[0.2, 0.9, 0.7], [0.3, 0.6, 9.0], [5.0, 6.0, 7.0]])
    known = torch.tensor([[True] * 3, [True, True, False], [False] * 3])
    whole = closing_loss(logp, value, known)
    alone = closing_loss(logp[:1], value[:1], known[:1])
    short = closing_loss(logp[1:2, :2], value[1:2, :2], known[1:2, :2])
    torch.testing.assert_close(whole.total, alone.total + short.total)
    assert whole.count.item() == 3


def test_certainty_has_a_finite_loss() -> None:
    slopes, metrics, _ = found([1.0, 1.0], [0.1, 0.9])
    assert all(math.isfinite(slope) for slope in slopes)
    assert metrics["rl/closing_regret"] == pytest.approx(0.8)


def test_no_cut_at_all_is_no_loss_and_no_figure() -> None:
    logp = torch.full((2, 1), -1.0, requires_grad=True)
    report = closing_loss(logp, torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.bool))
    report.mean().backward()
    assert report.values() == {}
    assert logp.grad is not None
    assert bool((logp.grad == 0).all())
