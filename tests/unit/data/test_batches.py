"""Batches: what is left out, what processes agree on, and a position that resumes."""

import json
from pathlib import Path

import pytest

from metacog.data.batches import BatchSource
from metacog.data.lengths import LengthProbe, ShareMaximum, alone
from metacog.data.sources import Source
from metacog.errors import DataError
from tests.textdata import row, rows, write_jsonl
from tests.unit.data.test_stream import ENCODER, file_source, stream_of


def batches_of(
    *sources: Source,
    max_len: int = 400,
    auto: bool = True,
    share: ShareMaximum = alone,
    **settings: object,
) -> BatchSource:
    probe = LengthProbe(max_len, context=400, is_on=auto)
    return BatchSource(stream_of(*sources, **settings), probe, ahead=8, share=share)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Rows of 20 lengths, in no order."""
    values = [row(n, words=1 + (n * 7) % 20) for n in range(150)]
    return file_source(write_jsonl(tmp_path / "rows.jsonl", values))


@pytest.mark.parametrize(("world", "buffer"), [(1, 1), (1, 40), (3, 12)])
def test_a_source_resumed_twice_gives_just_what_would_have_come(
    source: Source, buffer: int, world: int
) -> None:
    for rank in range(world):
        settings = {
            "shuffle_buffer": buffer,
            "rank": rank,
            "world_size": world,
            "max_len": 110,
            "probe_interval": 37,
        }
        straight = batches_of(source, **settings)
        whole = [(straight.next_batch(4), straight.report) for _ in range(20)]
        straight.close()
        state = None
        found = []
        for steps in (3, 10, 7):
            resumed = batches_of(source, **settings)
            if state is not None:
                resumed.load_state(state)
            found += [(resumed.next_batch(4), resumed.report) for _ in range(steps)]
            state = json.loads(json.dumps(resumed.state()))
            resumed.close()
        assert found == whole
        assert state["batches"] == 20
        last = found[-1][1]
        assert last.max_len > 110
        # A large buffer is filled, and what the probe met there known, before the first row leaves.
        assert (last.left_out > 0) is (buffer < 40)


def test_the_position_is_that_of_what_was_used_not_of_what_was_read_ahead(source: Source) -> None:
    ahead = batches_of(source)
    ahead.next_batch(2)
    taken = ahead.state()["stream"]["rows"][0]["read"]
    assert taken == 3, "two that were used and the one that the buffer holds"
    ahead.close()
    (second,) = ahead.next_batch(1)
    assert second.example.id == "2", "what was read ahead and forgotten is read again"
    ahead.close()


def test_processes_read_different_rows_and_together_all(source: Source) -> None:
    found: list[str] = []
    for rank in range(3):
        share = batches_of(source, rank=rank, world_size=3)
        found += [e.example.messages[0].content for e in share.next_batch(50)]
        share.close()
    assert len(found) == len(set(found)) == 150


def test_an_example_beyond_max_len_is_left_out_whole_and_counted(source: Source) -> None:
    short = batches_of(source, max_len=90, auto=False)
    found = short.next_batch(20)
    assert max(e.length for e in found) <= 90
    assert all(ENCODER.encode(e.example) == e for e in found)
    assert short.report.left_out == int(found[-1].example.id) + 1 - 20
    assert short.report.max_len == 90
    short.close()


def test_the_probe_raises_max_len_and_longer_examples_are_taken_from_then_on(
    tmp_path: Path,
) -> None:
    values = [row(n, words=20 if n % 4 == 0 and n else 2) for n in range(100)]
    path = file_source(write_jsonl(tmp_path / "rows.jsonl", values))
    probed = batches_of(path, max_len=60, probe_interval=20)
    lengths, limits = [], []
    for _ in range(12):
        lengths.append(max(e.length for e in probed.next_batch(4)))
        limits.append(probed.report.max_len)
    probed.close()
    assert limits[0] == 60
    assert limits == sorted(limits)
    assert limits[-1] == max(lengths) > 60
    assert 0 < probed.report.left_out < 12


def test_processes_share_max_len_once_a_batch(source: Source) -> None:
    asked: list[int] = []

    def share(value: int) -> int:
        asked.append(value)
        return max(value, 123)

    shared = batches_of(source, max_len=50, auto=False, share=share)
    assert shared.report.max_len == 50
    shared.next_batch(2)
    assert shared.report.max_len == 123
    shared.next_batch(2)
    shared.close()
    assert len(asked) == 4, "max_len and the longest seen, once a batch"


def test_data_that_are_all_too_long_end_in_an_error(source: Source) -> None:
    long = batches_of(source, max_len=20, auto=False)
    with pytest.raises(DataError, match=r"at most 20 tokens \(length\.max_len\).*all are longer"):
        long.next_batch(1)
    long.close()


def test_an_error_of_the_stream_surfaces(tmp_path: Path) -> None:
    values = [*rows(6), *[{"prompt": "a"}] * 6]
    faulty = batches_of(file_source(write_jsonl(tmp_path / "rows.jsonl", values)))
    faulty.next_batch(5)
    with pytest.raises(DataError, match="malformed rows"):
        faulty.next_batch(5)
    faulty.close()
