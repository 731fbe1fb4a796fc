"""T13: huge lines, invalid UTF-8, NUL, unclosed and nested tags, empty answers, a million tokens."""

import json
from collections import Counter
from pathlib import Path

import pytest

from metacog.config import RunConfig, parse
from metacog.data.batches import BatchSource
from metacog.data.lengths import LengthProbe
from metacog.errors import DataError
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.telemetry.rundir import RunDir
from metacog.train.run import train
from tests.textdata import as_lines, rows
from tests.unit.data.test_stream import ENCODER, file_source, prompts, stream_of

REPLIES = {
    "unclosed": "<think>a",
    "nested": "<think>a<think>b</think>c</think>d",
    "duplicated": "<think>a</think>b</think>c",
    "empty_answer": "<think>a</think>",
    "no_think": "a",
    "misplaced": "a <think>b</think>c",
}
POISON = {
    "unreadable": b'{"prompt": "a", "response": \n' + b"[" * 100_000 + b"\n",
    "invalid_utf8": b'{"prompt": "\xc3\x28", "response": "<think>a</think>b"}\n'
    + b'{"prompt": "\\ud800", "response": "<think>a</think>b"}\n',
    "control_character": as_lines(
        [
            {"prompt": "What is \x00 + 1?", "response": "<think>a</think>b"},
            {"prompt": "a", "response": "<think>a\x00</think>b", "id": "own-7"},
        ]
    ),
    "wrong_type": b'{"prompt": {"a": 1}, "response": 7}\n',
    "empty_prompt": b'{"prompt": " ", "response": "<think>a</think>b"}\n',
    "too_long": as_lines([{"prompt": "a", "response": f"<think>{'3 + ' * 500_000}</think>b"}])
    + as_lines([{"prompt": "x" * 3_000_000, "response": "<think>a</think>b"}]),
    **{fault: as_lines([{"prompt": "a", "response": reply}]) for fault, reply in REPLIES.items()},
}
COUNTS = Counter({name: content.count(b"\n") for name, content in POISON.items()})
GOOD = 400


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """Good rows, then every kind of bad one, then good rows again."""
    half = as_lines(rows(GOOD // 2))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(half + b"".join(POISON.values()) + half)
    return path


def test_every_poisoned_row_is_set_aside_with_its_reason_and_the_stream_goes_on(
    poisoned: Path, tmp_path: Path
) -> None:
    quarantine = tmp_path / "quarantine.jsonl"
    stream = stream_of(file_source(poisoned), path=quarantine)
    asked = prompts(iter(stream), GOOD)
    assert asked[: GOOD // 2] == asked[GOOD // 2 : GOOD]
    lines = [json.loads(line) for line in quarantine.read_text(encoding="utf-8").splitlines()]
    assert Counter(line["reason"] for line in lines) == COUNTS
    assert [line["row"] for line in lines] == list(
        range(GOOD // 2, GOOD // 2 + sum(COUNTS.values()))
    )
    named = [line["id"] for line in lines if line["reason"] == "control_character"]
    assert named[1] == "own-7", "a row's own id, where it has one"
    assert all(line["id"] for line in lines)


def test_a_share_above_what_is_allowed_stops_it_with_the_reasons(poisoned: Path) -> None:
    stream = stream_of(file_source(poisoned), most=0.01)
    source = BatchSource(stream, LengthProbe(400, context=ENCODER.context, is_on=True))
    with pytest.raises(DataError, match=r"at most 1% malformed rows.*unreadable \d"):
        source.next_batch(GOOD)
    source.close()


def over(poisoned: Path, base: Path, **data: object) -> RunConfig:
    document = {
        "model": {"path": str(base)},
        "data": {"path": str(poisoned), "shuffle_buffer": 300, "validation_rows": 4, **data},
        "metacog": {"proj_dim": 8},
        "budget": {"max_tokens": 32, "answer_reserve": 8},
        "run": {
            "steps": 10,
            "batch": 4,
            "warmup": 0,
            "eval_interval": 10,
            "objective": {"kind": "imitate", "cut_after": 5},
        },
    }
    return parse(document, source="test")


def test_a_run_with_too_many_poisoned_rows_stops_and_says_why(
    poisoned: Path, tiny_directory: Path, tmp_path: Path
) -> None:
    config = over(poisoned, tiny_directory, max_malformed=0.01)
    with pytest.raises(DataError, match=r"at most 1% malformed rows .*They are in") as caught:
        train(config, run_dir=tmp_path / "run")
    run = RunDir(tmp_path / "run")
    alerts = [e.data["message"] for e in read_events(run.events) if e.kind is EventKind.ALERT]
    assert alerts[-1] == str(caught.value)
    assert not run.final.exists()


def test_a_run_over_poisoned_rows_trains_and_tells(
    poisoned: Path, tiny_directory: Path, tmp_path: Path
) -> None:
    run = train(over(poisoned, tiny_directory), run_dir=tmp_path / "run")
    metrics = [e.data for e in read_events(run.events) if e.kind is EventKind.METRICS][-1]
    lines = [json.loads(line) for line in run.quarantine.read_text(encoding="utf-8").splitlines()]
    reasons = Counter(line["reason"] for line in lines)
    # Of held-out rows nobody asks how long they are.
    assert reasons - Counter(too_long=reasons["too_long"]) == COUNTS - Counter(too_long=2)
    assert metrics["data/quarantined"] == len(lines)
