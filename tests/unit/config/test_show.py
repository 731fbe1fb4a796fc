import pytest
import yaml

from metacog.config import RunConfig, parse
from metacog.config.explain import walk
from metacog.config.show import settings, show, template


def test_the_table_has_a_line_for_each_value_and_stars_what_was_changed() -> None:
    config = parse({"run": {"steps": 7, "objective": {"kind": "gate"}}}, source="test")
    lines = show(config).splitlines()
    starred = [line.split() for line in lines if line.startswith("*")]
    assert starred == [
        ["*", "run.objective.kind", "gate"],
        ["*", "run.steps", "7"],
    ]
    assert len(lines) == len(list(settings(config)))


@pytest.mark.parametrize(
    ("objective", "starred"),
    [
        ({"kind": "layer"}, []),
        ({"kind": "layer", "rollouts": 4}, ["run.objective.rollouts"]),
        ({"kind": "gate", "rollouts": 4}, ["run.objective.kind"]),
        ({"kind": "gate", "rollouts": 1}, ["run.objective.kind", "run.objective.rollouts"]),
        (
            {"kind": "schedule", "stages": [{"objective": {"kind": "gate"}, "steps": 3}]},
            ["run.objective.kind", "run.objective.stages"],
        ),
    ],
)
def test_the_defaults_of_an_objective_are_its_own(
    objective: dict[str, object], starred: list[str]
) -> None:
    config = parse({"run": {"objective": objective}}, source="test")
    assert [s.key for s in settings(config) if not s.is_default] == starred


def test_the_settings_are_the_leaves_of_the_schema() -> None:
    keys = [setting.key for setting in settings(RunConfig())]
    known = set(walk(RunConfig))
    assert set(keys) <= known
    assert "budget.landing.window" in keys
    assert "budget.landing" not in keys
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "document", [{}, {"data": {"path": "a: b #c"}, "run": {"objective": {"kind": "practice"}}}]
)
def test_a_template_loads_to_the_config_and_explains_every_key(document: dict[str, object]) -> None:
    config = parse(document, source="test")
    text = template(config)
    assert parse(yaml.safe_load(text), source="test") == config
    lines = text.splitlines()
    unexplained = [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if not line.lstrip().startswith("#") and not above.lstrip().startswith("#")
    ]
    assert unexplained == []
