import json
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metacog.cli.main import app

SMALL = ["--prompts", "4", "--rows", "2", "--alone", "1", "--pairs", "1", "--max-new-tokens", "24"]


def test_bench_decode_prints_json_on_stdout_and_tells_on_stderr() -> None:
    result = CliRunner().invoke(app, ["bench", "decode", "nano", *SMALL, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {"speedup_batch", "speedup_single", "metacog_overhead"} < found.keys()
    assert (found["prompts"], found["rows"], found["pairs"]) == (4, 2, 1)
    assert "speedup_batch: " in result.stderr


def test_a_base_without_a_layer_is_timed_with_a_fresh_one(tiny_directory: Path) -> None:
    """The option is what makes the figure: without it there is no overhead to measure."""
    alone = CliRunner().invoke(app, ["bench", "decode", str(tiny_directory), *SMALL, "--json"])
    fresh = CliRunner().invoke(
        app, ["bench", "decode", str(tiny_directory), *SMALL, "--untrained-layer", "--json"]
    )
    assert "metacog_overhead" not in json.loads(alone.stdout)
    found = json.loads(fresh.stdout)
    assert found["untrained_layer"] is True
    assert found["metacog_overhead"] > 0


def test_bench_train_compares_with_a_bare_step_and_with_trl(tiny_directory: Path) -> None:
    small = ["--batch", "2", "--steps", "2", "--pairs", "1", "--json"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL's own
        result = CliRunner().invoke(app, ["bench", "train", str(tiny_directory), *small])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for name, of_ours in (("overhead_step", 1), ("sft_vs_trl", 0)):
        ((ours, peer),) = found[f"{name}_tokens_per_s"]
        wanted = peer / ours if of_ours else ours / peer
        assert found[name] == pytest.approx(wanted, rel=0.01)


def test_a_missing_model_is_an_error_of_input() -> None:
    result = CliRunner().invoke(app, ["bench", "decode", "nowhere/at/all", *SMALL])
    assert result.exit_code == 2
    assert "nowhere/at/all" in result.stderr
