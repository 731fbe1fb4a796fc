import json
import math

import pytest

from metacog.errors import InputError
from metacog.telemetry.events import Event, EventKind, decode, encode, finite


def event(**data: object) -> Event:
    return Event(time=12.5, run="r", step=3, kind=EventKind.METRICS, data=data)


def test_an_event_is_one_line_of_json_with_the_stated_keys() -> None:
    line = encode(event(**{"train/loss": 0.5, "note": "zwei\nZeilen é"}))
    assert "\n" not in line
    assert json.loads(line) == {
        "v": 1,
        "t": 12.5,
        "run": "r",
        "step": 3,
        "kind": "metrics",
        "data": {"train/loss": 0.5, "note": "zwei\nZeilen é"},
    }


@pytest.mark.parametrize("kind", list(EventKind))
def test_a_decoded_line_is_the_event_again(kind: EventKind) -> None:
    sent = Event(time=1.25, run="a b", step=10**12, kind=kind, data={"x": [1, None, {"y": "z"}]})
    assert decode(encode(sent)) == sent


def test_numbers_that_are_not_finite_become_null_and_an_alert() -> None:
    sent = event(good=1.0, bad=math.nan, deep={"list": [0.0, -math.inf]}, pair=(1, 2))
    cleaned, alert = finite(sent)
    assert cleaned.data == {
        "good": 1.0,
        "bad": None,
        "deep": {"list": [0.0, None]},
        "pair": [1, 2],
    }
    assert (alert.kind, alert.step, alert.run, alert.time) == (EventKind.ALERT, 3, "r", 12.5)
    assert alert.data["names"] == ["bad", "deep.list[1]"]


def test_an_event_of_finite_numbers_brings_no_alert() -> None:
    assert finite(event(a=1.0, b=0)) == (event(a=1.0, b=0),)


def test_a_number_that_is_not_finite_never_reaches_the_file() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(event(a=math.nan))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"v":2,"t":1,"run":"r","step":1,"kind":"log","data":{}}', "version 2"),
        ('{"v":1,"t":1,"run":"r","step":1,"kind":"gossip","data":{}}', "gossip"),
        ('{"v":1,"t":1,"run":"r","step":1,"kind":"log"}', "data"),
        ('{"v":1,"t":1', "line of JSON"),
        ("[1]", "line of JSON"),
        ("7", "line of JSON"),
        ("", "line of JSON"),
    ],
)
def test_a_line_that_is_no_event_is_refused(line: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        decode(line)
