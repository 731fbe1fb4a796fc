import json
from pathlib import Path

from typer.testing import CliRunner

from metacog.cli.main import app
from metacog.config import RunConfig, digest, json_schema, load
from metacog.config.show import show

runner = CliRunner()


def test_the_schema_is_printed_as_json() -> None:
    result = runner.invoke(app, ["config", "schema"])
    assert json.loads(result.stdout) == json_schema()


def test_the_defaults_are_shown_without_a_recipe() -> None:
    assert runner.invoke(app, ["config", "show"]).stdout == show(RunConfig())


def test_overrides_apply_with_and_without_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("run: {steps: 5}\n")
    for arguments in ([str(recipe)], []):
        result = runner.invoke(
            app, ["config", "show", *arguments, "--set", "run.steps=1e9", "--json"]
        )
        assert json.loads(result.stdout)["run"]["steps"] == 1_000_000_000


def test_a_valid_recipe_is_told_with_its_cautions(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("metacog: {var_reg: 0.1}\n")
    result = runner.invoke(app, ["config", "validate", str(recipe), "--json"])
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["valid"], data["digest"]) == (True, digest(load(recipe)))
    assert "metacog.var_reg" in data["cautions"][0]
    assert "metacog.var_reg" in result.stderr


def test_an_invalid_override_is_bad_input(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("{}\n")
    result = runner.invoke(app, ["config", "validate", str(recipe), "--set", "run.steps=0"])
    assert result.exit_code == 2
    assert "run.steps" in result.stderr
    assert result.stdout == ""


def test_a_written_recipe_is_valid_and_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    assert runner.invoke(app, ["config", "init", str(path)]).exit_code == 0
    assert load(path) == RunConfig()
    path.write_text("mine\n")
    result = runner.invoke(app, ["config", "init", str(path)])
    assert result.exit_code == 2
    assert path.read_text() == "mine\n"
    missing = tmp_path / "no" / "folder.yaml"
    assert runner.invoke(app, ["config", "init", str(missing)]).exit_code == 2


def test_without_a_path_the_recipe_goes_to_stdout(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(runner.invoke(app, ["config", "init"]).stdout)
    assert load(path) == RunConfig()
