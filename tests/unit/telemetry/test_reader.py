from collections.abc import Callable
from pathlib import Path

import pytest

from metacog.errors import InputError
from metacog.telemetry.events import Event, EventKind, encode
from metacog.telemetry.files import write_text
from metacog.telemetry.reader import EventTail, LogReplaced, follow, last_of, read_events


def event(step: int, message: str = "é") -> Event:
    return Event(time=1.0, run="r", step=step, kind=EventKind.LOG, data={"message": message})


def append(path: Path, text: str) -> None:
    with path.open("ab") as file:
        file.write(text.encode())


def test_a_torn_last_line_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = encode(event(2))
    append(path, f"{encode(event(1))}\n{whole[:20]}")
    tail = EventTail(path)
    assert tail.read() == [event(1)]
    assert tail.read() == []
    append(path, whole[20:])
    assert tail.read() == []
    append(path, "\n")
    assert tail.read() == [event(2)]
    assert read_events(path) == [event(1), event(2)]


def test_a_file_that_is_not_there_yet_has_no_events(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "events.jsonl")
    assert tail.read() == []
    append(tail.path, f"{encode(event(1))}\n")
    assert tail.read() == [event(1)]


def test_a_unicode_line_separator_is_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sent = event(1, "a\u2028b\x85c\rd")
    append(path, f"{encode(sent)}\n")
    assert read_events(path) == [sent]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, f"{encode(event(1))}\n{{oops\n{encode(event(2))}\n")
    with pytest.raises(InputError, match=r"events\.jsonl, line 2"):
        read_events(path)


def test_a_file_that_shrank_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, f"{encode(event(1))}\n" * 2)
    tail = EventTail(path)
    tail.read()
    path.write_text("")
    with pytest.raises(LogReplaced, match="replaced"):
        tail.read()


def test_a_file_that_was_replaced_by_a_longer_one_is_known(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, f"{encode(event(1))}\n" * 2)
    tail = EventTail(path)
    tail.read()
    write_text(path, f"{encode(event(1))}\n" * 3)
    for reader in (tail, EventTail(path, tail.place)):
        with pytest.raises(LogReplaced, match="replaced"):
            reader.read()
    assert len(EventTail(path).read()) == 3


def test_a_damaged_line_keeps_its_number_however_often_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, f"{encode(event(1))}\n{{oops\n")
    tail = EventTail(path)
    for _ in range(3):
        with pytest.raises(InputError, match=r"events\.jsonl, line 2"):
            tail.read()


def test_the_last_event_of_a_kind_is_sought_near_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, f"{encode(event(1))}\n{{oops\n{encode(event(2))}"[:-5])
    assert last_of(path, {EventKind.LOG}) == event(1)
    assert last_of(path, {EventKind.STATUS}) is None
    append(path, "x" * (1 << 20))
    assert last_of(path, {EventKind.LOG}) is None
    append(path, f"\n{encode(event(3))}\n")
    assert last_of(path, {EventKind.LOG}) == event(3)


def test_reading_a_run_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_events(tmp_path / "events.jsonl")


def test_following_ends_when_the_run_is_over_and_all_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    looks = iter([1, 2, 3])

    def writes_then_ends() -> bool:
        step = next(looks)
        append(path, f"{encode(event(step))}\n")
        return step == 3

    is_over: Callable[[], bool] = writes_then_ends
    followed = list(follow(path, is_over=is_over, seconds_between_looks=0.0))
    assert [event.step for event in followed] == [1, 2, 3]
