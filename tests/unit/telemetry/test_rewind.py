from pathlib import Path

import pytest

from metacog.telemetry.events import Event, EventKind, encode
from metacog.telemetry.reader import read_events
from metacog.telemetry.rewind import rewind


def log_of(path: Path, *steps: int, torn: bytes = b"") -> Path:
    lines = [
        encode(Event(time=float(i), run="r", step=step, kind=EventKind.METRICS, data={"n": i}))
        for i, step in enumerate(steps)
    ]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode() + torn)
    return path


def numbers(path: Path) -> list[object]:
    return [event.data["n"] for event in read_events(path)]


def test_events_of_later_steps_are_moved_and_none_is_lost(tmp_path: Path) -> None:
    events = log_of(tmp_path / "events.jsonl", 0, 1, 2, 2, 3, 4)
    assert rewind(events, 2, kept_in=tmp_path / "logs") == 2
    assert numbers(events) == [0, 1, 2, 3]
    assert numbers(tmp_path / "logs" / "events-after-2-1.jsonl") == [4, 5]


def test_a_second_rewind_to_the_same_step_keeps_the_first_ones_events(tmp_path: Path) -> None:
    for _ in range(2):
        assert rewind(log_of(tmp_path / "e", 1, 2), 1, kept_in=tmp_path) == 1
    assert numbers(tmp_path / "events-after-1-1.jsonl") == [1]
    assert numbers(tmp_path / "events-after-1-2.jsonl") == [1]


@pytest.mark.parametrize("torn", [b"", b'{"v":1,"t":0'])
def test_a_log_without_later_events_keeps_all_but_a_torn_line(tmp_path: Path, torn: bytes) -> None:
    events = log_of(tmp_path / "events.jsonl", 0, 1, torn=torn)
    assert rewind(events, 1, kept_in=tmp_path) == 0
    assert events.read_bytes().endswith(b"\n")
    assert numbers(events) == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_without_a_log_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert rewind(tmp_path / "none", 3, kept_in=tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
