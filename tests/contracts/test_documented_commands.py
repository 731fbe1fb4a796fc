"""What the documents tell a reader to type is there."""

import re
from pathlib import Path

from tests.contracts.source import ROOT

RUN = re.compile(r"(?:python|\$\(BIN\)/python) (-m benchmarks\.|benchmarks/)(\w+)")


def documents() -> list[Path]:
    folders = {"docs": "*.md", "recipes": "*.yaml", "benchmarks": "*.py"}
    found = [file for folder, kind in folders.items() for file in (ROOT / folder).rglob(kind)]
    return [ROOT / "README.md", ROOT / "Makefile", *found]


def broken(text: str, there: set[str]) -> list[str]:
    """Return the runs of a benchmark that are not there, or that Python could not start as they stand."""
    return [
        run.group(0)
        for run in RUN.finditer(text)
        if run.group(1) == "benchmarks/" or run.group(2) not in there
    ]


def test_every_benchmark_that_is_named_can_be_run() -> None:
    there = {file.stem for file in (ROOT / "benchmarks").glob("*.py")}
    found = {
        str(file.relative_to(ROOT)): broken(file.read_text(encoding="utf-8"), there)
        for file in documents()
    }
    assert {name: runs for name, runs in found.items() if runs} == {}
    assert {file.stem for file in (ROOT / "benchmarks").glob("*.py")} <= {
        run.group(2)
        for file in documents()
        for run in RUN.finditer(file.read_text(encoding="utf-8"))
    }


def test_a_run_that_does_not_work_is_seen() -> None:
    assert broken("python benchmarks/unseen.py nano", {"unseen"}) == ["python benchmarks/unseen"]
    assert broken("python -m benchmarks.seen nano", {"unseen"}) == ["python -m benchmarks.seen"]
    assert broken("python -m benchmarks.unseen nano", {"unseen"}) == []
