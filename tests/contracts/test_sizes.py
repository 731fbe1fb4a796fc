"""No module over 400 lines, no function over 60."""

import ast

from tests.contracts.source import PACKAGE, ROOT, package_modules, parse

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60


def long_functions(tree: ast.Module) -> list[str]:
    return [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]


def test_no_module_is_too_long() -> None:
    folders = (PACKAGE, ROOT / "tests", ROOT / "examples", ROOT / "benchmarks")
    too_long = [
        f"{path.relative_to(ROOT)} ({num_lines} lines)"
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        if (num_lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_MODULE_LINES
    ]
    assert not too_long


def test_no_function_is_too_long() -> None:
    too_long = [
        f"{module.name}: {function}"
        for module in package_modules()
        for function in long_functions(module.tree)
    ]
    assert not too_long


def test_the_measure_counts_from_def_to_last_line() -> None:
    at_limit = "def short():\n" + "    x = 1\n" * 59
    over_limit = "class A:\n    def long(self):\n" + "        x = 1\n" * 60
    assert long_functions(parse("a.py", at_limit).tree) == []
    assert long_functions(parse("a.py", over_limit).tree) == ["long (61 lines)"]
