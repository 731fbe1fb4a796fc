from pathlib import Path

import pytest

from metacog.data import fingerprint as module
from metacog.data.fingerprint import fingerprint


def test_name_size_and_content_tell_files_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, same, other = (tmp_path / name for name in ("a.jsonl", "other/a.jsonl", "b.jsonl"))
    one.write_bytes(b"123")
    same.write_bytes(b"123")
    other.write_bytes(b"124")
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one).startswith("a.jsonl:3:")
    assert fingerprint(one).rpartition(":")[2] != fingerprint(other).rpartition(":")[2]


@pytest.mark.parametrize("place", [0, 500, 999])
def test_of_a_large_file_both_ends_and_blocks_between_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: int
) -> None:
    monkeypatch.setattr(module, "_WHOLE", 100)
    monkeypatch.setattr(module, "_BLOCK", 20)
    content = bytearray(1000)
    (tmp_path / "a").write_bytes(content)
    content[place] = 1
    (tmp_path / "b").write_bytes(content)
    one, other = (fingerprint(tmp_path / name).rpartition(":")[2] for name in ("a", "b"))
    assert one != other
