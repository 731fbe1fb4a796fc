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
        ["*", "run.objective.layer_path", "null"],
        ["*", "run.objective.rollouts", "4"],
        ["*", "run.steps", "7"],
    ]
    assert len(lines) == len(list(settings(config)))


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
