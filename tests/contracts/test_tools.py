"""What `make check` asks of the tools, asked wherever the tests run too; types take longer and are left to it."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.contracts.source import ROOT

SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.mark.parametrize(
    "command",
    ["lint-imports --no-cache", "ruff check --no-cache .", "ruff format --check --no-cache ."],
)
def test_it_has_nothing_to_say(command: str) -> None:
    name, *arguments = command.split()
    run = subprocess.run(
        [str(SCRIPTS / name), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
