import hashlib
import json
from pathlib import Path

import pytest

from metacog.errors import RunError
from metacog.telemetry.files import new_directory, sha256_file, write_bytes, write_json, write_text


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced_in_full(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    write_json(path, {"a": 1, "b": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1, "b": "é"}
    write_text(path, "x")
    assert path.read_bytes() == b"x"
    assert names_in(path.parent) == ["state.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_bytes(path, b"x")
    assert names_in(tmp_path) == ["taken"]


def test_not_a_number_is_never_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names_in(tmp_path) == []


def test_a_directory_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    with new_directory(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("1")
        assert not path.exists()
    assert (path / "sub" / "a").read_text() == "1"
    assert names_in(path.parent) == ["one"]


def test_a_directory_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def fill_and_fail() -> None:
        with new_directory(tmp_path / "one") as temporary:
            (temporary / "a").write_text("1")
            raise KeyError

    with pytest.raises(KeyError):
        fill_and_fail()
    assert names_in(tmp_path) == []


def test_an_existing_directory_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.mkdir()
    with pytest.raises(RunError, match="exists"), new_directory(path):
        pytest.fail("the block must not run")
    other = tmp_path / "two"
    with pytest.raises(RunError, match="exists"), new_directory(other):
        other.mkdir()
    assert names_in(tmp_path) == ["one", "two"]


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert sha256_file(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
