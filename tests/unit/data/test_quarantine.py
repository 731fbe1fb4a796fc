import json
from pathlib import Path

import pytest

from metacog.data.quarantine import Quarantine, Tallied
from metacog.data.rows import Row
from metacog.errors import DataError
from metacog.records import RowFault


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def filled(path: Path | None, *, good: int, bad: int, most: float = 1.0) -> Quarantine:
    quarantine = Quarantine(path, most=most)
    for _ in range(good):
        quarantine.passed()
    for number in range(bad):
        quarantine.set_aside("s", 0, Row(number, {"prompt": "a"}), RowFault.UNCLOSED)
    return quarantine


def test_a_malformed_row_is_written_with_id_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    quarantine = Quarantine(path, most=1.0)
    quarantine.set_aside("a.jsonl", 2, Row(7, {"id": "r-1", "prompt": "x" * 999}), RowFault.NESTED)
    quarantine.set_aside("a.jsonl", 2, Row(8, {}, RowFault.UNREADABLE), RowFault.UNREADABLE)
    first, second = lines(path)
    assert len(str(first.pop("excerpt"))) == 200
    assert first == {"source": "a.jsonl", "epoch": 2, "row": 7, "id": "r-1", "reason": "nested"}
    assert (second["id"], second["reason"], second["excerpt"]) == ("8", "unreadable", None)
    assert quarantine.tallied == Tallied(2, {"nested": 1, "unreadable": 1})
    assert quarantine.tallied.malformed == 2


def test_too_many_stop_the_run_with_reasons_and_place(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    quarantine = filled(path, good=95, bad=10, most=0.1)
    with pytest.raises(DataError, match=r"at most 10%.*got 11 of 106: unclosed 11\. They are in"):
        quarantine.set_aside("s", 0, Row(11, {}), RowFault.UNCLOSED)
    assert len(lines(path)) == 11


def test_a_few_rows_stop_nothing_until_the_pass_is_over() -> None:
    quarantine = filled(None, good=3, bad=3, most=0.1)
    with pytest.raises(DataError, match=r"got 3 of 6"):
        quarantine.require_few()
    filled(None, good=9, bad=1, most=0.1).require_few()


def test_going_back_takes_back_what_was_written_since(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    quarantine = filled(path, good=5, bad=2)
    then = quarantine.tallied
    quarantine.set_aside("s", 0, Row(9, {}), RowFault.NESTED)
    quarantine.go_to(then)
    assert quarantine.tallied == then
    assert [line["row"] for line in lines(path)] == [0, 1]
    quarantine.set_aside("s", 0, Row(9, {}), RowFault.NESTED)
    assert [line["row"] for line in lines(path)] == [0, 1, 9]


def test_without_a_file_rows_are_counted_alone() -> None:
    assert filled(None, good=1, bad=2).tallied == Tallied(3, {"unclosed": 2})
