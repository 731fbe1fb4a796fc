"""The tests that the requirements name exist and prove their behaviour in real code."""

import ast
from pathlib import Path

import pytest

from tests.contracts.source import ROOT, Module, dotted, imported, parse

NAMED = {
    "test_calibration_blob_extend.py": ("test_thresholds_and_clip_applied",),
    "test_heads_calibration_blob.py": (),
    "test_checkpoint_saving.py": (),
    "test_decode_parity_with_service_config.py": (),
    "test_gate_coverage_eval.py": (),
    "test_gate_coverage_mean.py": (),
    "test_gate_coverage_logging.py": (),
    "test_heads_training_integration.py": (),
    "test_onpolicy_decode.py": (),
    "test_quality_budget_curve.py": (),
    "test_style_entropy_bonus.py": (),
    "test_observe_infer_smoke.py": (),
    "test_train_entrypoint.py": ("test_end_to_end_config_load",),
    "test_qa_gates.py": (),
}
"""File name and the tests it must hold; with none named, any one test."""

EXISTING: frozenset[str] = frozenset(
    {
        "test_calibration_blob_extend.py",
        "test_checkpoint_saving.py",
        "test_decode_parity_with_service_config.py",
        "test_gate_coverage_eval.py",
        "test_gate_coverage_logging.py",
        "test_gate_coverage_mean.py",
        "test_heads_calibration_blob.py",
        "test_heads_training_integration.py",
        "test_observe_infer_smoke.py",
        "test_onpolicy_decode.py",
        "test_qa_gates.py",
        "test_quality_budget_curve.py",
        "test_style_entropy_bonus.py",
        "test_train_entrypoint.py",
    }
)
"""Files that are written; each issue adds those it brings, none is ever taken out."""

BANNED_NAMES = {"monkeypatch", "mocker", "skip", "skipif", "xfail", "importorskip"}
BANNED_MODULES = ("unittest.mock", "mock", "tests.fakes", "fakes")


def bypasses(module: Module) -> list[str]:
    """Return every name in a test by which it could get around the real code."""
    found = {
        node.attr if isinstance(node, ast.Attribute) else node.arg
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and node.attr in BANNED_NAMES)
        or (isinstance(node, ast.arg) and node.arg in BANNED_NAMES)
    }
    found |= {
        dotted(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name)
        and node.id in {"skip", "xfail", "importorskip", "MonkeyPatch"}
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name.startswith(BANNED_MODULES)}
    found |= {name for _, name in imported(module.tree) if name.startswith(BANNED_MODULES)}
    return sorted(found)


def functions_of(module: Module) -> set[str]:
    return {
        node.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def paths_of(name: str) -> list[Path]:
    return sorted((ROOT / "tests").rglob(name))


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_named_test_uses_only_real_code(name: str) -> None:
    paths = paths_of(name)
    assert len(paths) <= 1, f"{name} stands in more than one place"
    for path in paths:
        module = parse(name, path.read_text(encoding="utf-8"))
        assert bypasses(module) == []
        assert functions_of(module)
        assert functions_of(module) >= set(NAMED[name])


def test_every_named_test_of_finished_issues_exists() -> None:
    assert set(NAMED) >= EXISTING
    assert [name for name in sorted(EXISTING) if not paths_of(name)] == []


@pytest.mark.parametrize(
    ("text", "bypass"),
    [
        ("def test_a(monkeypatch): pass", "monkeypatch"),
        ("import pytest\n@pytest.mark.skipif(True)\ndef test_a(): pass", "skipif"),
        ("import pytest\ndef test_a(): pytest.skip('no')", "skip"),
        ("from unittest.mock import patch", "unittest.mock"),
        ("from unittest import mock", "unittest.mock"),
        ("from tests.fakes import FakeModel", "tests.fakes"),
        ("from tests import fakes", "tests.fakes"),
    ],
)
def test_a_bypass_is_seen(text: str, bypass: str) -> None:
    assert bypass in bypasses(parse("test_a.py", text))


def test_an_honest_test_passes() -> None:
    text = "from metacog.model.calibration import load\ndef test_a(tmp_path): assert load(tmp_path)"
    assert bypasses(parse("test_a.py", text)) == []
