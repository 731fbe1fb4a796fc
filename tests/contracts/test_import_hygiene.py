"""What is imported when: the import graph is static, so a fresh process is asked."""

import subprocess
import sys
import tomllib

import pytest

from tests.contracts.source import PACKAGE, ROOT

HEAVY = {"torch", "transformers", "textual", "fastapi", "datasets", "reasoning_gym"}
LIGHT = ("config", "telemetry", "errors", "records")
"""Packages and modules that cost no torch; `records` as soon as it is there."""


def existing(names: tuple[str, ...]) -> list[str]:
    return [
        name
        for name in names
        if (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name / "__init__.py").is_file()
    ]


def submodules(name: str) -> list[str]:
    files = (PACKAGE / name).rglob("*.py")
    below = [path.relative_to(PACKAGE).with_suffix("").as_posix() for path in files]
    names = [path.removesuffix("/__init__").replace("/", ".") for path in below]
    return [f"metacog.{module}" for module in names] or [f"metacog.{name}"]


def heavy_after(statement: str) -> set[str]:
    """Return the heavy packages that a fresh process has loaded after a statement."""
    code = f"{statement}\nimport sys\nsys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()} & HEAVY


def test_the_command_line_starts_light() -> None:
    assert heavy_after("import metacog.cli.main") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["bench", "decode", "--help"], ["--version"]])
def test_help_costs_no_torch(arguments: list[str]) -> None:
    """The help's own words go elsewhere: they name libraries too."""
    asked = [
        "import contextlib, io",
        "from metacog.cli.main import app",
        "with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):",
        f"    app({arguments})",
        "assert told.getvalue()",
    ]
    assert heavy_after("\n".join(asked)) == set()


def test_the_cockpit_costs_no_torch() -> None:
    loaded = heavy_after("\n".join(f"import {module}" for module in submodules("tui")))
    assert loaded == {"textual"}


@pytest.mark.parametrize("name", existing(LIGHT))
def test_a_light_package_stays_light(name: str) -> None:
    assert heavy_after("\n".join(f"import {module}" for module in submodules(name))) == set()


def test_the_look_would_see_a_heavy_import() -> None:
    assert heavy_after("import torch") == {"torch"}


def test_the_import_law_names_every_light_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    torchless = next(c for c in contracts if c["name"].endswith("cost no torch"))
    wanted = {f"metacog.{name}" for name in existing(LIGHT)}
    assert set(torchless["source_modules"]) == wanted
