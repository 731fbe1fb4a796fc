"""Every example runs from a shell, as its first lines say."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
PRINTS = {
    "budgets": ["of 16 tokens", "0 of 0 tokens, disabled"],
    "stay_with_transformers": ["budget 24: ", "budget 0: 0 tokens of thinking, then '"],
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    for expected in PRINTS[path.stem]:
        assert expected in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_examples_are_type_checked() -> None:
    found = Path(__file__).parents[2] / "pyproject.toml"
    assert 'files = ["src", "examples"]' in found.read_text()
