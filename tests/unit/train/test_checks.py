from typing import Any

import pytest

from metacog.config import parse
from metacog.errors import ConfigError
from metacog.train.checks import refuse_unused

TASKS = {"data": {"tasks": ["gcd"]}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"wanted families in data\.tasks, got none"),
        ({"data": {"tasks": ["gcd", "chess"]}}, r"data\.tasks among .*gcd.*got chess\."),
        ({**TASKS, "run": {"grad_accum": 4}}, r"grad_accum above 1"),
        ({"data": {"tasks": ["gcd"], "sample_limit": 5}}, r"data\.sample_limit"),
        ({**TASKS, "model": {"grad_checkpoint": True}}, r"model\.grad_checkpoint"),
        ({**TASKS, "model": {"flash_attn": True}}, r"model\.flash_attn. No gradient passes"),
        ({**TASKS, "model": {"base_path": "x"}}, r"model\.base_path"),
        ({**TASKS, "losses": {"hopeless_target": 3}}, r"losses\.hopeless_target"),
        (
            {**TASKS, "feedback": {"enabled": False}, "run": {"objective": {"kind": "gate"}}},
            r"objective gate has no use for feedback\.enabled=false",
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_unused(parse(settings, source="test"))


def test_what_is_used_passes() -> None:
    refuse_unused(parse(TASKS, source="test"))
    refuse_unused(parse({**TASKS, "feedback": {"enabled": False}}, source="test"))
