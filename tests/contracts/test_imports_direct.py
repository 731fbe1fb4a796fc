"""Who may name a third party, register a hook, or run a decode loop.

import-linter follows indirect imports, so rules about direct ones stand here.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.contracts.source import Module, dotted, imported, package_modules, parse

MAY_IMPORT = {
    "textual": ("tui/",),
    "textual_serve": ("tui/browser.py",),
    "aiohttp": ("tui/browser.py",),
    "fastapi": ("serve/",),
    "uvicorn": ("serve/",),
    "transformers": ("model/", "text/", "train/optim.py", "eval/speed.py"),
}
HOOKS = {"register_forward_hook", "register_forward_pre_hook"}
OTHER_HOOKS = {
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
}
MAY_HOOK = ("model/taps.py", "model/gate.py")
DECODE_LOOP = "decode/engine.py"
PEERS = "eval/speed.py"
"""Runs what the engine is compared with."""
_MODEL = re.compile(r"(^|[._])(model|base|lm|base_model|backbone)$")


def foreign_imports(module: Module) -> list[str]:
    return [
        f"{module.name}:{node.lineno}: {name}"
        for node, name in imported(module.tree)
        if (allowed := MAY_IMPORT.get(name.partition(".")[0])) is not None
        and not module.name.startswith(allowed)
    ]


def stray_hooks(module: Module) -> list[str]:
    return [
        f"{module.name}:{node.lineno}: {node.attr}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and ((node.attr in HOOKS and module.name not in MAY_HOOK) or node.attr in OTHER_HOOKS)
    ]


def _calls_inside_loops(tree: ast.Module) -> Iterator[ast.Call]:
    for loop in ast.walk(tree):
        if isinstance(loop, ast.For | ast.While):
            yield from (node for node in ast.walk(loop) if isinstance(node, ast.Call))


def decode_loops(module: Module) -> list[str]:
    """Return calls of a model's `generate`, and cached forward passes inside a loop."""
    found = (
        set()
        if module.name == PEERS
        else {
            f"{module.name}:{node.lineno}: generate"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"generate", "generate_batch"}
            and _MODEL.search(dotted(node.func.value))
        }
    )
    if module.name != DECODE_LOOP:
        found |= {
            f"{module.name}:{call.lineno}: cached forward pass in a loop"
            for call in _calls_inside_loops(module.tree)
            if any(keyword.arg == "past_key_values" for keyword in call.keywords)
        }
    return sorted(found)


@pytest.mark.parametrize("rule", [foreign_imports, stray_hooks, decode_loops])
def test_the_package_keeps_the_rule(rule) -> None:
    assert [breach for module in package_modules() for breach in rule(module)] == []


def test_a_foreign_import_is_seen() -> None:
    text = "from transformers.models import llama"
    assert foreign_imports(parse("train/loop.py", text)) == ["train/loop.py:1: transformers.models"]
    assert foreign_imports(parse("model/base.py", text)) == []
    assert foreign_imports(parse("cli/main.py", "def f():\n    import textual")) != []


def test_a_stray_hook_is_seen() -> None:
    text = "handle = block.mlp.register_forward_hook(f)"
    assert stray_hooks(parse("decode/engine.py", text)) == [
        "decode/engine.py:1: register_forward_hook"
    ]
    assert stray_hooks(parse("model/gate.py", text)) == []


def test_a_second_decode_loop_is_seen() -> None:
    loop = "while True:\n    out = forward(x, past_key_values=cache)"
    assert decode_loops(parse("eval/runner.py", loop)) != []
    assert decode_loops(parse("decode/engine.py", loop)) == []
    assert decode_loops(parse("train/step.py", "out = forward(x, past_key_values=c)")) == []
    assert decode_loops(parse("decode/engine.py", "self.base_model.generate(x)")) != []
    assert decode_loops(parse("eval/speed.py", "base.model.generate_batch(x)")) == []
    assert decode_loops(parse("eval/speed.py", loop)) != []
    assert decode_loops(parse("eval/runner.py", "for s in engine.generate(x):\n    f(s)")) == []
