"""The files that the contracts look at, parsed once."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "metacog"


class Module(NamedTuple):
    """A Python file, its text by lines and its syntax tree."""

    name: str
    """Path below src/metacog, or below the repository for other files."""

    lines: tuple[str, ...]
    tree: ast.Module

    def line(self, node: ast.stmt | ast.expr) -> str:
        return self.lines[node.lineno - 1]


def parse(name: str, text: str) -> Module:
    return Module(name, tuple(text.splitlines()), ast.parse(text))


@cache
def package_modules() -> tuple[Module, ...]:
    """Every module of metacog."""
    return tuple(
        parse(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def repository_files() -> list[Path]:
    """Every file that is tracked, or would be by `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    names = sorted({name for name in listed.stdout.split("\0") if name})
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def imported(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each import statement with the full name of what it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or ""


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for a name or attribute, with an empty part for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""
