from collections.abc import Iterable, Mapping

import pytest

from metacog.train.alerts import (
    Alert,
    Bound,
    BudgetCollapse,
    MemoryGrowth,
    Watcher,
    watchers_for,
)

RANGE = {"budget_min": 1, "budget_max": 320}


def told(watcher: Watcher, steps: Iterable[Mapping[str, float]]) -> list[tuple[int, Alert]]:
    found = ((step, watcher.look(metrics)) for step, metrics in enumerate(steps, 1))
    return [(step, alert) for step, alert in found if alert is not None]


def named(name: str, num_layers: int = 6) -> Watcher:
    watchers = watchers_for(**RANGE, num_layers=num_layers)
    return next(w for w in watchers if isinstance(w, Bound) and w.name == name)


def test_a_bound_speaks_once_and_again_only_after_it_has_cleared() -> None:
    bound = Bound("high", "x", "above", 0.9, 0.5, 2, "It is bad.", "Lower it.")
    values = [1.0, 1.0, 1.0, 0.7, 1.0, 0.2, 0.2, 1.0, 1.0]
    found = told(bound, [{"x": value} for value in values])
    assert [(step, alert.is_over) for step, alert in found] == [(2, False), (7, True), (9, False)]
    assert found[0][1].message == (
        "high: x was 1 over the last 2 steps (above 0.9). It is bad. Lower it."
    )


def test_a_step_without_the_metric_changes_nothing() -> None:
    bound = Bound("high", "x", "above", 0.9, 0.5, 2, "", "")
    assert [step for step, _ in told(bound, [{"x": 1.0}, {}, {"y": 1.0}, {"x": 1.0}])] == [4]
    assert told(bound, [{}] * 10) == []


@pytest.mark.parametrize(
    ("name", "metric", "bad", "good", "after", "remedy"),
    [
        ("always at the cap", "metacog/budget/cap_hit_fraction", 1.0, 0.5, 20, "budget.max_tokens"),
        ("zero reward variance", "rl/reward_std", 0.0, 0.3, 10, "data.tasks"),
        ("alpha collapse", "metacog/alpha/entropy", 0.01, 1.5, 50, "metacog.agg=mean"),
        (
            "budget at its minimum",
            "metacog/budget/predicted_mean",
            2.0,
            60.0,
            50,
            "budget.quantile",
        ),
        ("gate never on", "metacog/gate/coverage", 0.0, 0.4, 50, "feedback.switch=always"),
        ("gate without effect", "metacog/gate/norm", 0.0, 0.2, 100, "feedback.strength"),
        ("gate saturated", "metacog/gate/saturation", 0.99, 0.1, 50, "run.learning_rate"),
    ],
)
def test_each_way_to_go_wrong_is_told_with_its_remedy(
    name: str, metric: str, bad: float, good: float, after: int, remedy: str
) -> None:
    found = told(named(name), [{metric: bad}] * (after + 30) + [{metric: good}] * (2 * after))
    assert [alert.is_over for _, alert in found] == [False, True]
    step, alert = found[0]
    assert step == after
    assert alert.name == name
    assert metric in alert.message
    assert remedy in alert.message
    assert told(named(name), [{metric: good}] * 300) == []


def test_one_block_has_no_spread_to_lose() -> None:
    entropy = [{"metacog/alpha/entropy": 0.0}] * 200
    for watcher in watchers_for(**RANGE, num_layers=1):
        assert told(watcher, entropy) == []


def steps_of(used: float, accuracy: float, count: int = 50) -> list[dict[str, float]]:
    return [{"think_tokens_used": used, "rl/accuracy": accuracy}] * count


def test_thinking_that_shrinks_while_answers_get_worse_is_a_collapse() -> None:
    course = steps_of(100.0, 0.8) + steps_of(10.0, 0.5) + steps_of(90.0, 0.8)
    found = told(BudgetCollapse(), course)
    assert [alert.is_over for _, alert in found] == [False, True]
    assert found[0][0] == 100
    assert "from 100 to 10" in found[0][1].message
    assert "losses.budget_target=need" in found[0][1].message


@pytest.mark.parametrize(("used", "accuracy"), [(10.0, 0.8), (40.0, 0.3), (100.0, 0.1)])
def test_a_saving_or_a_loss_alone_is_none(used: float, accuracy: float) -> None:
    assert told(BudgetCollapse(), steps_of(100.0, 0.8) + steps_of(used, accuracy, 200)) == []


def test_without_an_accuracy_nothing_is_called_a_collapse() -> None:
    course = [{"think_tokens_used": 100.0}] * 50 + [{"think_tokens_used": 1.0}] * 200
    assert told(BudgetCollapse(), course) == []


def test_memory_that_grows_on_is_told_once_with_a_remedy() -> None:
    course = [{"perf/memory": 5000.0}] * 100 + [{"perf/memory": 1000.0}] * 100
    course += [{"perf/memory": 2000.0}] * 300
    ((step, alert),) = told(MemoryGrowth(), course)
    assert step == 300, "the steps in which caches fill do not count"
    assert "from 1000 to 2000 MiB" in alert.message
    assert "data.prefetch" in alert.message
    assert any(isinstance(watcher, MemoryGrowth) for watcher in watchers_for(**RANGE, num_layers=6))


@pytest.mark.parametrize(("was", "now"), [(1000.0, 1400.0), (100.0, 500.0), (1000.0, 900.0)])
def test_memory_that_stays_or_grows_a_little_is_no_alert(was: float, now: float) -> None:
    assert told(MemoryGrowth(), [{"perf/memory": was}] * 200 + [{"perf/memory": now}] * 300) == []
