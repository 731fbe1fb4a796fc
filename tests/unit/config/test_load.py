import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from metacog.config import RunConfig, digest, dump, json_schema, load, parse
from metacog.errors import ConfigError

UNUSUAL: dict[str, Any] = {
    "data": {"path": "rows.jsonl", "sample_limit": 1e9},
    "metacog": {"plans": ["short", "long"], "budget_scale": "log"},
    "plan": {"scale": {"short": 0.5}},
    "run": {
        "objective": {"kind": "practice", "group_size": 4},
        "name": "1e9",
        "learning_rate": 1e-5,
    },
    "losses": {"hopeless_target": 0},
    "logging": {"sinks": ["jsonl"]},
}


def told(document: dict[Any, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(document, source="r.yaml")
    return str(caught.value)


def test_a_recipe_and_its_overrides_become_a_config(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("run: {steps: 1e3, learning_rate: 1e-5}\n")
    config = load(path, ["run.batch=1e9", "metacog.agg=mean"])
    assert (config.run.steps, config.run.batch) == (1000, 1_000_000_000)
    assert config.run.learning_rate == 0.00001
    assert config.metacog.agg == "mean"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"run": {"step": 1}}, "r.yaml: unknown key run.step. Did you mean run.steps?"),
        ({"var_reg": 1}, "r.yaml: unknown key var_reg. Did you mean metacog.var_reg?"),
        ({"modle": {}}, "r.yaml: unknown key modle. Did you mean model?"),
        (
            {"run": {"objective": {"kind": "gate", "rolouts": 2}}},
            "r.yaml: unknown key run.objective.rolouts. Did you mean run.objective.rollouts?",
        ),
        (
            {"data": {"zzzzzz": 1}},
            "r.yaml: unknown key data.zzzzzz. The keys of data are: dataset, path, mixture, "
            "streaming, split, sample_limit, shuffle_buffer, prefetch, max_malformed, "
            "validation_rows, tasks, num_prompts.",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_and_the_file(
    document: dict[str, Any], message: str
) -> None:
    assert told(document) == message


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        ({"run": {"steps": 1.5}}, ["run.steps: wanted a whole number", "got 1.5"]),
        ({"metacog": {"agg": "max"}}, ["metacog.agg", "'attn' or 'mean'", "got 'max'"]),
        ({"run": 3}, ["run: wanted a section", "got 3"]),
        ({"run": {"objective": {"kind": "dream"}}}, ["run.objective", "'practice'"]),
        (
            {"run": {"objective": {"kind": "layer", "rollouts": 0}}},
            ["run.objective.rollouts:", "got 0"],
        ),
        ({"plan": {"scale": {"direct": -1}}}, ["plan.scale.direct:", "got -1"]),
        ({"logging": {"sinks": ["jsonl", "tv"]}}, ["logging.sinks.1:", "'wandb'", "got 'tv'"]),
    ],
)
def test_a_refused_value_is_shown_with_its_key(document: dict[str, Any], parts: list[str]) -> None:
    message = told(document)
    assert [part for part in parts if part not in message] == []


def test_every_complaint_is_told_at_once() -> None:
    lines = told({"run": {"steps": 0, "seed": -1}, "x": 1}).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("r.yaml: ") for line in lines)


@pytest.mark.parametrize("document", [{}, UNUSUAL])
def test_a_dump_loads_to_an_equal_config(tmp_path: Path, document: dict[str, Any]) -> None:
    config = parse(document, source="test")
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    assert load(path) == config
    assert digest(load(path)) == digest(config)


def test_the_digest_is_that_of_canonical_json() -> None:
    config = parse(UNUSUAL, source="test")
    text = json.dumps(
        yaml.safe_load(dump(config)), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    assert digest(config) == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_tells_configs_apart_and_not_spellings() -> None:
    thousand = parse({"run": {"steps": 1000}}, source="test")
    assert digest(thousand) == digest(parse({"run": {"steps": "1e3"}}, source="test"))
    assert digest(thousand) == digest(RunConfig())
    assert digest(thousand) != digest(parse({"run": {"steps": 1001}}, source="test"))


def test_a_deep_copy_shares_nothing_that_can_change() -> None:
    config = RunConfig()
    copied = copy.deepcopy(config)
    copied.plan.scale["direct"] = 9.0
    assert config.plan.scale == {}
    assert RunConfig().plan.scale == {}


def test_the_json_schema_explains_and_bounds_every_key() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    steps = definitions["TrainingConfig"]["properties"]["steps"]
    assert (steps["type"], steps["minimum"], steps["default"]) == ("integer", 1, 1000)
    assert "maximum" not in steps
    undescribed = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, field in definition["properties"].items()
        if "description" not in field
    ]
    assert undescribed == []
    assert all(definition["additionalProperties"] is False for definition in definitions.values())
