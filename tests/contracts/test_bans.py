"""Constructs that src/ may not contain, and the few places where a marked line may."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.contracts.source import Module, dotted, imported, package_modules, parse

BANNED_IMPORTS = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "contextvars",
    "unittest.mock",
}
BANNED_CALLS = {
    "torch.load",
    "torch.save",
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}
BANNED_KEYWORDS = {"trust_remote_code": None, "shell": True, "allow_pickle": True}
"""Keyword of a call and the value that is banned; None bans every value."""

PLACES = {
    "broad except": ("serve/errors.py", "tui/bridge.py"),
    "getattr with a default": ("model/base.py",),
    "hasattr": ("model/base.py",),
}
"""Where a line may break a ban, if it carries `# allowed: reason`."""

MARK = "# allowed: "
GLOBAL_GENERATOR = re.compile(r"random\.[a-z]|(np|numpy)\.random\.(?!default_rng)")
"""Functions that draw from a state which no checkpoint holds."""


def broken_bans(module: Module) -> list[str]:
    """Return `file:line: ban` for every construct that may not stand there."""
    return [
        f"{module.name}:{node.lineno}: {ban}"
        for node, ban in _found(module)
        if not (module.name in PLACES.get(ban, ()) and MARK in module.line(node))
    ]


def _found(module: Module) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    for statement, name in imported(module.tree):
        if name in BANNED_IMPORTS or name.partition(".")[0] in BANNED_IMPORTS:
            yield statement, f"import {name}"
        elif name == "__future__":
            yield statement, "from __future__"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            yield node.body[0] if node.type is None else node.type, "broad except"
        elif isinstance(node, ast.Call):
            for ban in _broken_by_call(module.name, node):
                yield node, ban


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(dotted(name) in {"Exception", "BaseException"} for name in names)


def _broken_by_call(name: str, call: ast.Call) -> Iterator[str]:
    function = dotted(call.func)
    if function in BANNED_CALLS:
        yield function
    if function == "getattr" and len(call.args) == 3:
        yield "getattr with a default"
    if GLOBAL_GENERATOR.match(function):
        yield "a global random generator"
    if function == "hasattr":
        yield "hasattr"
    if function == "print" and not name.startswith("cli/"):
        yield "print"
    for keyword in call.keywords:
        if keyword.arg not in BANNED_KEYWORDS:
            continue
        banned = BANNED_KEYWORDS[keyword.arg]
        if banned is None or (
            isinstance(keyword.value, ast.Constant) and keyword.value.value is banned
        ):
            yield f"{keyword.arg}="


def test_the_package_breaks_no_ban() -> None:
    assert [ban for module in package_modules() for ban in broken_bans(module)] == []


@pytest.mark.parametrize(
    ("text", "ban"),
    [
        ("import pickle", "import pickle"),
        ("from pickle import loads", "import pickle"),
        ("from __future__ import annotations", "from __future__"),
        ("torch.load(p)", "torch.load"),
        ("eval('1')", "eval"),
        ("exec(s)", "exec"),
        ("yaml.load(f, Loader=L)", "yaml.load"),
        ("run(c, shell=True)", "shell="),
        ("load(p, trust_remote_code=flag)", "trust_remote_code="),
        ("getattr(a, 'b', None)", "getattr with a default"),
        ("hasattr(a, 'b')", "hasattr"),
        ("print(1)", "print"),
        ("random.choice(x)", "a global random generator"),
        ("np.random.rand(3)", "a global random generator"),
        ("try:\n    f()\nexcept Exception:\n    g()", "broad except"),
        ("try:\n    f()\nexcept (OSError, BaseException) as e:\n    g()", "broad except"),
        ("try:\n    f()\nexcept:\n    g()", "broad except"),
    ],
)
def test_a_ban_is_seen(text: str, ban: str) -> None:
    found = broken_bans(parse("train/loop.py", text))
    assert len(found) == 1
    assert found[0].endswith(f": {ban}")


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "getattr(a, 'b')",
        "run(c, shell=False)",
        "Random(3).choice(x)",
        "np.random.default_rng(3).random()",
        "try:\n    f()\nexcept OSError:\n    g()",
    ],
)
def test_what_only_looks_alike_is_free(text: str) -> None:
    assert broken_bans(parse("train/loop.py", text)) == []


def test_a_mark_counts_only_in_its_place() -> None:
    line = "x = getattr(a, 'b', None)  # allowed: third-party configs differ"
    assert broken_bans(parse("model/base.py", line)) == []
    assert broken_bans(parse("model/heads.py", line)) != []
    assert broken_bans(parse("model/base.py", line.partition("#")[0])) != []
    assert broken_bans(parse("cli/main.py", "print(1)")) == []
