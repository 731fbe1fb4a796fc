"""Coverage, norm and saturation reach what the command line writes."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metacog.cli.main import app
from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.model.bundle import MetacogModel

QUESTION = "What is 15 + 6?"
DECODING = DecodingConfig(
    budget=BudgetConfig(min_tokens=2, max_tokens=24, min_think=8, answer_reserve=16)
)


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_directory: Path,
    make_tiny_model: Callable[..., MetacogModel],
) -> Callable[[str], Path]:
    """Save a model with layer and gate beside its base."""

    def save(switch: str) -> Path:
        path = tmp_path_factory.mktemp("saved") / switch
        shutil.copytree(tiny_directory, path)
        replace(make_tiny_model(switch=switch), decoding=DECODING).save_layer(path)
        return path

    return save


def generated(model: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["generate", str(model), QUESTION, "--json", *options])
    assert result.exit_code == 0, result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def observed(model: Path, path: Path, *options: str) -> list[dict[str, Any]]:
    arguments = ["observe", str(model), QUESTION, "--jsonl", str(path), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_figures(gate: Mapping[str, Any]) -> None:
    assert math.isfinite(gate["norm"])
    assert 0 <= gate["coverage"] <= 1
    assert 0 <= gate["saturation"] <= 1
    assert 0 <= gate["norm"] <= 0.5, "strength bounds the relative change"
    assert all(math.isfinite(change) and change >= 0 for change in gate["per_token"])


def test_generate_reports_the_gate_as_json(saved: Callable[[str], Path]) -> None:
    data = generated(saved("learned"), "--budget", "24")
    check_figures(data["gate"])
    assert len(data["gate"]["per_token"]) == data["think_tokens"] == data["budget"]["used"] >= 8
    moved = sum(change > 0 for change in data["gate"]["per_token"])
    assert data["gate"]["coverage"] == pytest.approx(moved / data["think_tokens"], abs=1e-6)
    assert 0 < data["gate"]["coverage"] < 1
    assert data["gate"]["norm"] > 0


def test_a_gate_that_is_always_on_is_reported_as_such(saved: Callable[[str], Path]) -> None:
    assert generated(saved("always"), "--budget", "24")["gate"]["coverage"] == 1.0


def test_without_thinking_the_figures_are_null(saved: Callable[[str], Path]) -> None:
    data = generated(saved("learned"), "--budget", "0")
    assert data["think_tokens"] == 0
    assert data["gate"] == {"coverage": None, "norm": None, "saturation": None, "per_token": []}


def test_observe_writes_the_gate_of_every_think_token(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    model = saved("learned")
    head, *tokens = observed(model, tmp_path / "reply.jsonl", "--budget", "24")
    check_figures(head["gate"])
    inside = [line["gate_change"] for line in tokens if line["segment"] == "think"]
    outside = [line["gate_change"] for line in tokens if line["segment"] != "think"]
    assert inside == head["gate"]["per_token"]
    assert outside == [None] * len(outside)
    assert len(outside) > 0
    share = sum(change > 0 for change in inside) / len(inside)
    assert head["gate"]["coverage"] == pytest.approx(share, abs=1e-6)
    assert head["gate"] == generated(model, "--budget", "24")["gate"]
