import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from metacog import __version__
from metacog.cli.main import ErrorBoundary, app
from metacog.errors import ConfigError, MetacogError, RunError

runner = CliRunner()


def app_that_raises(error: BaseException) -> typer.Typer:
    raising = typer.Typer(cls=ErrorBoundary, pretty_exceptions_enable=False)

    @raising.callback()
    def root() -> None:
        """Keep the verb a verb."""

    @raising.command()
    def verb() -> None:
        raise error

    return raising


def test_metacog_alone_without_a_terminal_prints_help_and_is_done() -> None:
    result = runner.invoke(app, [])
    assert result.exit_code == 0
    assert "doctor" in result.stdout
    assert "config" in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["config", "--help"], ["doctor", "-h"]])
def test_every_verb_has_help(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_the_version_is_the_package_s() -> None:
    assert runner.invoke(app, ["--version"]).stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("error", "exit_code"), [(ConfigError("Wanted x, got y."), 2), (RunError("It failed."), 1)]
)
def test_an_error_of_ours_is_its_message_and_exit_code(error: MetacogError, exit_code: int) -> None:
    result = runner.invoke(app_that_raises(error), ["verb"])
    assert result.exit_code == exit_code
    assert result.stderr == f"metacog: {error}\n"
    assert result.stdout == ""


def test_an_interrupt_exits_with_130() -> None:
    result = runner.invoke(app_that_raises(KeyboardInterrupt()), ["verb"])
    assert result.exit_code == 130
    assert result.stderr == "metacog: stopped.\n"


def test_an_error_that_is_not_ours_keeps_its_traceback() -> None:
    error = ZeroDivisionError("bug")
    assert runner.invoke(app_that_raises(error), ["verb"]).exception is error


def test_an_unknown_verb_is_bad_input() -> None:
    assert runner.invoke(app, ["dance"]).exit_code == 2


def test_the_installed_script_shows_no_traceback(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("run: {step: 1}\n")
    script = Path(sys.executable).parent / "metacog"
    done = subprocess.run(
        [script, "config", "validate", recipe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"metacog: {recipe}: unknown key run.step. Did you mean run.steps?\n"
