import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metacog.cli.doctor import NANO, examine, examine_nano
from metacog.cli.main import app


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    """A directory that looks like the bundled base: two files and their hashes."""
    files = {"config.json": "{}", "tokenizer_config.json": '{"padding_side": "left"}'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    hashes = [f"{hashlib.sha256(t.encode()).hexdigest()}  {n}\n" for n, t in files.items()]
    (tmp_path / "HASH").write_text("".join(hashes))
    return tmp_path


def test_a_whole_base_has_no_problems(nano: Path) -> None:
    report = examine_nano(nano)
    assert (report.present, report.hash_matches, report.padding_side) == (True, True, "left")
    assert report.problems == ()


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_base_is_seen_by_its_hash(nano: Path, damage: str) -> None:
    file = nano / "tokenizer_config.json"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text('{"padding_side": "left" }')
    report = examine_nano(nano)
    assert report.hash_matches is False
    assert "tokenizer_config.json" in report.problems[0]


def test_without_a_record_nothing_is_said_about_the_hash(nano: Path) -> None:
    (nano / "HASH").unlink()
    assert examine_nano(nano).hash_matches is None


def test_right_padding_is_a_problem(nano: Path) -> None:
    (nano / "tokenizer_config.json").write_text('{"padding_side": "right"}')
    (nano / "HASH").unlink()
    report = examine_nano(nano)
    assert report.padding_side == "right"
    assert "padding_side left" in report.problems[0]


def test_a_missing_base_is_a_problem(tmp_path: Path) -> None:
    report = examine_nano(tmp_path)
    assert not report.present
    assert "missing" in report.problems[0]


def test_the_machine_is_described_as_the_system_describes_it(
    nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    report = examine(nano)
    assert report.packages["torch"] == version("torch")
    assert report.num_cores == os.cpu_count()
    assert report.memory_bytes > 1 << 28
    assert report.offline["HF_HUB_OFFLINE"] is True
    assert report.offline["TRANSFORMERS_OFFLINE"] is False


def test_the_verb_fails_exactly_when_there_is_a_problem() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    data = json.loads(result.stdout)
    assert result.exit_code == (0 if data["ok"] else 1)
    assert data["ok"] == (data["problems"] == [])
    assert data["nano"]["present"] == (NANO / "config.json").is_file()


def test_the_text_names_what_the_json_holds() -> None:
    text = CliRunner().invoke(app, ["doctor"]).stdout
    for name in ("python", "torch", "transformers", "cores", "memory", "free disk", "nano"):
        assert any(line.startswith(name) for line in text.splitlines())
