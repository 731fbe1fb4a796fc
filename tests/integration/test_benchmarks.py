"""Every benchmark starts the way its document says: from the repository, as a module."""

import subprocess
import sys

from tests.contracts.source import ROOT

PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    assert callable(importlib.import_module(f"benchmarks.{name}").main), name
    print(name)
"""


def test_all_start_from_the_repository() -> None:
    names = sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == names
