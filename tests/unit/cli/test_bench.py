import json
from pathlib import Path

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


def test_a_missing_model_is_an_error_of_input() -> None:
    result = CliRunner().invoke(app, ["bench", "decode", "nowhere/at/all", *SMALL])
    assert result.exit_code == 2
    assert "nowhere/at/all" in result.stderr
