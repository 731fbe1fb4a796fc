import json
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from metacog.cli.main import app
from metacog.cli.preflight import print_preflight, printable
from metacog.config import load
from metacog.data.tasks.splits import Split, split_of
from metacog.train.preflight import preflight
from tests.textdata import rows, write_jsonl

runner = CliRunner()
EVIL = "\x1b]0;title\x07\x1b[31m red \u202e \x9b0m"


@pytest.fixture
def recipe(tiny_directory: Path, tmp_path: Path) -> Path:
    """A small imitation of rows, of which one tries to command the terminal."""
    first = next(r for r in rows(60) if split_of(r["prompt"]) is Split.BASE_TRAIN)
    evil = {**first, "response": f"<think>{EVIL}</think>4"}
    write_jsonl(tmp_path / "rows.jsonl", [evil, *rows(60)])
    document = {
        "model": {"path": str(tiny_directory)},
        "data": {"path": str(tmp_path / "rows.jsonl"), "shuffle_buffer": 1},
        "metacog": {"proj_dim": 8},
        "budget": {"max_tokens": 48, "answer_reserve": 8},
        "run": {"batch": 3, "objective": {"kind": "imitate"}},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_a_dry_run_shows_configuration_checks_and_first_rows_and_writes_nothing(
    recipe: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    result = runner.invoke(app, ["train", str(recipe), "--dry-run"], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    for part in (
        "run.objective.kind",
        "● left",
        "opens THINK itself",
        "columns prompt/response",
        "prompt, not learned",
        "think, learned",
        "answer, learned",
        "frozen",
        "row 1 of 3",
    ):
        assert part in result.stdout, part
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_answers_in_json(recipe: Path) -> None:
    result = runner.invoke(app, ["train", str(recipe), "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["left_padding"] is True
    assert [len(found["batch"]), len(found["lengths"]["batch"])] == [3, 3]
    assert found["config"]["run"]["batch"] == 3
    assert len(found["digest"]) == 64
    assert {"part", "learned", "tokens", "text"} == found["batch"][0][0].keys()


def test_bad_data_end_a_dry_run_with_two_and_the_remedy(recipe: Path) -> None:
    arguments = ["train", str(recipe), "--dry-run", "--set", "data.path=none.jsonl"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "Wanted a file or folder at none.jsonl" in result.stderr


@pytest.mark.parametrize("no_color", [False, True])
def test_masks_are_coloured_unless_colour_is_unwanted_and_rows_command_nothing(
    no_color: bool, recipe: Path
) -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, no_color=no_color, width=120)
    print_preflight(preflight(load(recipe)), console)
    shown = out.getvalue()
    assert ("\x1b[36m" in shown) is not no_color, "cyan is what is learned of THINK"
    assert "␛]0;title␇␛[31m red" in shown
    for command in ("\x1b]0", "\x07", "\x9b", "\u202e"):
        assert command not in shown


def test_text_without_commands_is_shown_as_it_is() -> None:
    plain = "é 𝄞 <b>\nnext [link=x] line"
    assert printable(plain) == plain
    assert printable("\t\x00\x7f") == "␉␀␡"
