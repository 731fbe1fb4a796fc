import pytest

from metacog.config import RunConfig, parse
from metacog.config.compare import changes_result, differences, essence


def configured(**run: object) -> RunConfig:
    return parse({"run": run}, source="test")


def test_every_key_that_differs_is_named_with_both_values() -> None:
    before = configured(seed=1, steps=10)
    after = parse({"run": {"seed": 2, "steps": 10}, "budget": {"max_tokens": 99}}, source="test")
    assert differences(before, after) == {
        "budget.max_tokens": (before.budget.max_tokens, 99),
        "run.seed": (1, 2),
    }
    assert differences(before, before) == {}


def test_another_objective_differs_in_its_kind_and_its_own_keys() -> None:
    found = differences(configured(), configured(objective={"kind": "imitate"}))
    assert found["run.objective.kind"] == ("layer", "imitate")
    assert found["run.objective.cut_after"] == (None, 200)


@pytest.mark.parametrize(
    ("key", "before", "after", "wanted"),
    [
        ("run.steps", 10, 20, False),
        ("run.steps", 20, 10, True),
        ("run.save_interval", 10, 20, False),
        ("run.keep_last", None, 2, False),
        ("logging.sinks", ["jsonl"], ["jsonl", "console"], False),
        ("data.prefetch", 64, 8, False),
        ("data.shuffle_buffer", 64, 8, True),
        ("run.eval_interval", 10, 20, True),
        ("run.seed", 0, 1, True),
        ("model.path", "a", "b", True),
    ],
)
def test_what_makes_another_run(key: str, before: object, after: object, wanted: bool) -> None:
    assert changes_result(key, before, after) is wanted


def test_the_essence_is_that_of_the_settings_that_change_the_result() -> None:
    first = essence(configured(steps=10))
    assert essence(configured(steps=10, strikes=RunConfig().run.strikes)) == first
    assert essence(configured(steps=10, strikes=9)) != first
    assert essence(configured(steps=20, save_interval=3, name="x")) == first
    assert essence(configured(steps=10, seed=1)) != first
