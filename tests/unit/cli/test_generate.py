"""`generate` and `observe` answer with a layer that lies apart from its base, and with a run's."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metacog.cli.main import app
from metacog.config import dump, parse
from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.model.bundle import MetacogModel

QUESTION = "What is 15 + 6?"
Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path) -> Path:
    """A run that trained the tiny model's layer."""
    path = tmp_path / "run"
    budget = BudgetConfig(min_tokens=2, max_tokens=24, answer_reserve=16)
    replace(tiny_model, decoding=DecodingConfig(budget=budget)).save_layer(path / "final")
    config = parse({"model": {"path": str(tiny_directory)}}, source="test")
    (path / "config.yaml").write_text(dump(config), encoding="utf-8")
    return path


def generated(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["generate", *arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def test_a_layer_apart_from_its_base_and_a_run_answer_as_one_directory_does(
    run: Path, tiny_directory: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(tiny_directory, tmp_path / "whole")
    shutil.copytree(run / "final", whole, dirs_exist_ok=True)
    wanted = generated(str(whole), QUESTION)
    assert wanted["reading"] is not None
    layer = str(run / "final")
    assert generated(str(tiny_directory), QUESTION, "--layer", layer) == wanted
    assert generated(str(run), QUESTION) == wanted
    assert generated(layer, QUESTION) == wanted
    assert generated(str(tiny_directory), QUESTION)["reading"] is None


def test_observe_takes_a_layer_too(run: Path, tiny_directory: Path, tmp_path: Path) -> None:
    path, layer = tmp_path / "reply.jsonl", str(run / "final")
    arguments = ["observe", str(tiny_directory), QUESTION, "--layer", layer, "--jsonl", str(path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    head = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert head["reading"] == generated(str(tiny_directory), QUESTION, "--layer", layer)["reading"]


def test_a_temperature_below_zero_is_bad_input(tiny_directory: Path) -> None:
    arguments = ["generate", str(tiny_directory), QUESTION, "--temperature", "-1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "temperature of 0 or more" in result.stderr
    assert result.stdout == ""
