import json
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.trackers import TrackerSink
from metacog.telemetry.wandb import WandbTracker

pytest.importorskip("wandb", reason="wandb is not installed: pip install 'metacog[track]'")

_HEADER, _BLOCK = 7, 32768


def told(step: int, kind: EventKind, **data: object) -> Event:
    return Event(time=1.0, run="r", step=step, kind=kind, data=data)


def logged(content: bytes) -> Iterator[bytes]:
    """Yield what an offline run's file holds: LevelDB's log format behind seven bytes.

    In blocks of 32 KiB lie pieces of 4 bytes checksum, 2 of length, 1 of kind, then data; kinds are
    whole, first, middle, last.
    """
    place, whole = _HEADER, b""
    while place + _HEADER <= len(content):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        place += _HEADER
        whole += content[place : place + length]
        place += length
        if kind in (1, 4):
            yield whole
            whole = b""


def records(path: Path) -> list[Any]:
    record = import_module("wandb.proto.wandb_internal_pb2").Record
    return [record.FromString(data) for data in logged(path.read_bytes())]


def test_an_offline_run_holds_numbers_config_samples_and_alerts(tmp_path: Path) -> None:
    sink = TrackerSink("wandb", WandbTracker(tmp_path, run="mine"))
    sink.write(told(0, EventKind.CONFIG, run={"steps": 3}))
    sink.write(told(20, EventKind.METRICS, **{"train/loss": 0.5}))
    sink.write(told(20, EventKind.SAMPLE, suite="puzzles", number=1, answer="5", correct=True))
    sink.write(told(10, EventKind.METRICS, **{"train/loss": 0.75}))
    sink.write(told(20, EventKind.ALERT, message="look"))
    sink.close()
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    found = records(file)
    points = [
        {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in r.history.item}
        for r in found
        if r.WhichOneof("record_type") == "history"
    ]
    curve = [(p["train/global_step"], p["train/loss"]) for p in points if "train/loss" in p]
    assert curve == [(20, 0.5), (10, 0.75)], "a late event is no reason to lose it"
    assert [r.alert.text for r in found if r.WhichOneof("record_type") == "alert"] == ["look"]
    configs = [u for r in found for u in r.config.update if u.key == "run"]
    assert any(json.loads(u.value_json) == {"steps": 3} for u in configs)
    (table,) = (tmp_path / "wandb").glob("offline-run-*/files/media/table/samples/*.json")
    content = json.loads(table.read_text(encoding="utf-8"))
    row = dict(zip(content["columns"], content["data"][0], strict=True))
    assert (row["answer"], row["correct"], row["thinking"]) == ("5", True, None)
