"""Examples out of files, through `datasets` and the real tokenizer."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from metacog.data.encode import Encoder
from metacog.data.quarantine import Quarantine
from metacog.data.rows import find_kind
from metacog.data.sources import Place, Source
from metacog.data.stream import Drawn, ExampleStream, StreamSettings, held_out
from metacog.data.tasks.splits import Split, split_of
from metacog.errors import CheckpointError, DataError
from metacog.text.resolve import resolve_tags
from tests.textdata import row, rows, write_jsonl, write_parquet
from tests.unit.text.tokenizers import bundled

ENCODER = Encoder(bundled(), closer=resolve_tags(bundled()).think_close, context=400)
TRAINED = {Split.BASE_TRAIN, Split.LAYER_TRAIN}
ALL = frozenset(Split)


def stream_of(
    *sources: Source, path: Path | None = None, most: float = 0.1, **settings: object
) -> ExampleStream:
    found = [(source, find_kind(source)) for source in sources]
    values = {"shuffle_buffer": 1, "splits": ALL, **settings}
    return ExampleStream(found, ENCODER, Quarantine(path, most=most), StreamSettings(**values))


def file_source(path: Path, **settings: object) -> Source:
    return Source(str(path), Place.LOCAL, **settings)


def prompts(drawn: Iterator[Drawn], count: int) -> list[str]:
    return [d.encoded.example.messages[0].content for d in islice(drawn, count)]


def counts(drawn: Drawn) -> tuple[object, ...]:
    """All that a position says beside where `datasets` stands, which has several ways to say it."""
    at = drawn.position
    rows = [(row.epoch, row.read) for row in at.rows]
    return (rows, at.chosen, at.drawn, at.held, at.tallied, at.longest)


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Source, Source]:
    """Two small sources of different kinds and weights, with a malformed row in one."""
    first = [*rows(30), {"prompt": "x", "response": "<think>a"}]
    math = write_jsonl(tmp_path / "math.jsonl", first)
    logic = write_parquet(tmp_path / "logic.parquet", rows(40, start=100), group=7)
    return (
        file_source(math, domain="math", weight=3.0),
        file_source(logic, domain="logic", weight=1.0),
    )


def test_examples_come_from_every_source_by_weight(mixed: tuple[Source, Source]) -> None:
    domains = [d.encoded.example.domain for d in islice(stream_of(*mixed), 400)]
    assert set(domains) == {"math", "logic"}
    assert abs(domains.count("math") / 400 - 0.75) < 0.07


def test_a_pass_holds_every_row_once(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", rows(20))
    found = prompts(iter(stream_of(file_source(path))), 40)
    asked = [r["prompt"] for r in rows(20)]
    assert found == [*asked, *asked]


@pytest.mark.parametrize(("buffer", "world"), [(1, 1), (16, 2), (1000, 1)])
def test_a_stream_resumed_anywhere_goes_on_as_if_never_stopped(
    mixed: tuple[Source, Source], buffer: int, world: int, tmp_path: Path
) -> None:
    settings = {"shuffle_buffer": buffer, "world_size": world, "probe_interval": 3}
    for rank in range(world):
        straight = list(islice(stream_of(*mixed, rank=rank, **settings), 120))
        state = None
        found: list[Drawn] = []
        for steps in (1, 30, 1, 1, 1, 61, 25):
            path = tmp_path / f"{buffer}-{world}-{rank}.jsonl"
            stream = stream_of(*mixed, rank=rank, path=path, **settings)
            if state is not None:
                stream.go_to(state)
            found += list(islice(stream, steps))
            ahead = list(islice(stream, 7))
            assert ahead
            state = json.loads(json.dumps(found[-1].position.as_json()))
        assert [d.encoded for d in found] == [d.encoded for d in straight]
        assert [counts(d) for d in found] == [counts(d) for d in straight]


def test_only_rows_of_the_wanted_splits_come(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", rows(300))
    trained = prompts(iter(stream_of(file_source(path), splits=TRAINED)), 200)
    assert {split_of(prompt) for prompt in trained} == TRAINED
    source = file_source(path)
    validation = held_out([(source, find_kind(source))], ENCODER, 10, longest=400)
    asked = [e.example.messages[0].content for e in validation]
    assert {split_of(prompt) for prompt in asked} == {Split.VALIDATION}
    assert len(set(asked)) == 10
    assert not set(asked) & set(trained)


def test_held_out_examples_come_from_all_sources_and_are_no_longer_than_asked(
    tmp_path: Path,
) -> None:
    sources = []
    for part in range(2):
        long = [row(n, words=60) for n in range(400 * part, 400 * part + 200)]
        short = rows(200, start=400 * part + 200)
        path = write_jsonl(tmp_path / f"{part}.jsonl", [*long, *short])
        sources.append(file_source(path))
    kinds = [(source, find_kind(source)) for source in sources]
    found = held_out(kinds, ENCODER, 6, longest=100)
    assert [e.example.source for e in found] == [sources[0].name] * 3 + [sources[1].name] * 3
    assert max(e.length for e in found) <= 100
    assert held_out(kinds, ENCODER, 0, longest=100) == []


def test_malformed_rows_are_set_aside_and_the_stream_goes_on(tmp_path: Path) -> None:
    bad = [
        {"prompt": "a", "response": "<think>b"},
        {"prompt": "a", "response": "<think>b</think>"},
        {"prompt": "a", "response": f"<think>{'3 + ' * 400}</think>b"},
    ]
    path = write_jsonl(tmp_path / "rows.jsonl", [*rows(60), *bad])
    quarantine = tmp_path / "quarantine.jsonl"
    stream = stream_of(file_source(path), path=quarantine)
    *_, last = islice(stream, 61)
    lines = [json.loads(line) for line in quarantine.read_text(encoding="utf-8").splitlines()]
    assert [(line["row"], line["reason"]) for line in lines] == [
        (60, "unclosed"),
        (61, "empty_answer"),
        (62, "too_long"),
    ]
    assert last.position.tallied.seen == 65
    assert last.position.tallied.faults == {"unclosed": 1, "empty_answer": 1, "too_long": 1}


def test_too_many_malformed_rows_stop_it(tmp_path: Path) -> None:
    good_and_bad = [r for pair in zip(rows(90), [{"prompt": "a"}] * 90, strict=True) for r in pair]
    path = write_jsonl(tmp_path / "rows.jsonl", good_and_bad)
    with pytest.raises(DataError, match=r"at most 10%.*got 50 of 100: wrong_type 50"):
        prompts(iter(stream_of(file_source(path))), 90)


@pytest.mark.parametrize("splits", [frozenset(), ALL])
def test_a_pass_without_an_example_ends_in_an_error(
    splits: frozenset[Split], tmp_path: Path
) -> None:
    values = rows(5) if not splits else [{"prompt": "a", "response": "b"}] * 5
    path = write_jsonl(tmp_path / "rows.jsonl", values)
    with pytest.raises(DataError, match=r"found none in a whole pass"):
        next(iter(stream_of(file_source(path), splits=splits, most=1.0)))


def test_the_probe_looks_at_every_nth_row_also_at_malformed_ones(tmp_path: Path) -> None:
    unclosed = {"prompt": "a", "response": "<think>" + "3 + " * 100}
    values = [row(0), row(1, words=30), row(2), unclosed, row(4)]
    path = write_jsonl(tmp_path / "rows.jsonl", values)
    lengths = [
        d.position.longest
        for d in islice(stream_of(file_source(path), probe_interval=3, most=0.3), 4)
    ]
    first = ENCODER.encode(next(iter(stream_of(file_source(path), most=0.3))).encoded.example)
    raw = ENCODER.raw_length(unclosed)
    assert raw > 100
    # A buffer of one holds the row after the one that leaves, so the fourth row is seen with the third.
    assert lengths == [first.length, first.length, raw, raw]


def test_a_position_in_other_data_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", rows(20))
    state = stream_of(file_source(path)).position.as_json()
    stream_of(file_source(path)).go_to(state)
    with pytest.raises(
        CheckpointError, match=r"process 0 of 2.*process 0 of 1.*number of processes"
    ):
        stream_of(file_source(path), world_size=2).go_to(state)
    write_jsonl(path, rows(21))
    with pytest.raises(CheckpointError, match=r"rows\.jsonl.*Resume with the data section"):
        stream_of(file_source(path)).go_to(state)
