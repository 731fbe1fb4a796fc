"""What cannot be answered ends at the command line in one clear message and exit code 2."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from metacog.cli.main import app
from metacog.model.bundle import MetacogModel
from tests.faults.hostile import WEIGHTS, copied, rewrite_json

QUESTION = "What is 3 + 4?"


def refused(*arguments: str) -> str:
    """Run a command that must fail as bad input, and return its one message."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    message = result.stderr[result.stderr.index("metacog: ") :]
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("verb", ["generate", "observe"])
@pytest.mark.parametrize("budget", ["-5", "-2", "many", "1.5", "", "9" * 5000])
def test_a_budget_that_is_none(tmp_path: Path, verb: str, budget: str) -> None:
    more = ["--jsonl", str(tmp_path / "reply.jsonl")] if verb == "observe" else []
    message = refused(verb, "nowhere", QUESTION, "--budget", budget, *more)
    assert f"whole number of tokens (-1 for no limit), got {budget!r}." in message


def test_a_budget_beyond_all_numbers_is_no_limit(tiny_directory: Path) -> None:
    arguments = ["generate", str(tiny_directory), QUESTION, "--json", "--budget", "9" * 30]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["budget"]["used"] > 0


@pytest.mark.parametrize("prompt", ["", " \n\t"])
def test_an_empty_prompt(tiny_directory: Path, prompt: str) -> None:
    assert "Wanted a prompt, got an empty one. Write a question." in refused(
        "generate", str(tiny_directory), prompt
    )


def test_a_prompt_longer_than_the_context(tiny_directory: Path) -> None:
    message = refused("generate", str(tiny_directory), QUESTION * 1000)
    assert "may hold 1024 tokens together, got a prompt of" in message
    assert "Shorten the prompt" in message


def test_a_tag_that_the_tokenizer_cannot_hold(tiny_directory: Path, tmp_path: Path) -> None:
    """Its tags are no tokens, and it writes their first letter otherwise."""
    hostile = copied(tiny_directory, tmp_path)
    path = hostile / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["added_tokens"] = [t for t in found["added_tokens"] if "think" not in t["content"]]
    found["model"]["vocab"] = {
        word.replace("think", "THINK"): index for word, index in found["model"]["vocab"].items()
    }
    found["normalizer"] = {"type": "Replace", "pattern": {"String": "<"}, "content": "["}
    path.write_text(json.dumps(found), encoding="utf-8")
    message = refused("generate", str(hostile), QUESTION)
    assert "Wanted the mark <think> of the segment think to be a fixed sequence of ids" in message
    assert "tokenizer.add_special_tokens" in message


def test_a_layer_of_another_base(
    tiny_model: MetacogModel, tiny_directory: Path, tmp_path: Path
) -> None:
    tiny_model.save_layer(tmp_path / "layer")
    other = copied(tiny_directory, tmp_path)
    weights = load_file(other / WEIGHTS)
    weights["model.norm.weight"] += 1
    save_file(weights, other / WEIGHTS, metadata={"format": "pt"})
    message = refused("generate", str(other), QUESTION, "--layer", str(tmp_path / "layer"))
    assert "was saved for another base: weights_sha256 wanted" in message
    assert "Load it with the base it was trained on." in message


def test_a_layer_of_a_wider_base(tiny_model: MetacogModel, tmp_path: Path) -> None:
    tiny_model.save_layer(tmp_path / "layer")
    message = refused("generate", "nano", QUESTION, "--layer", str(tmp_path / "layer"))
    assert "hidden_size wanted 32, got 128" in message


def test_an_architecture_that_is_unknown(tiny_directory: Path, tmp_path: Path) -> None:
    hostile = copied(tiny_directory, tmp_path)
    rewrite_json(hostile / "config.json", model_type="perpetuum")
    assert "got 'perpetuum'" in refused("generate", str(hostile), QUESTION)


def test_an_unknown_key_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("run: {setps: 1}\n", encoding="utf-8")
    for verb in (["train"], ["config", "validate"]):
        assert "unknown key run.setps. Did you mean run.steps?" in refused(*verb, str(recipe))
