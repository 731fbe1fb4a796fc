import io
from collections.abc import Iterator

from metacog.telemetry.console import ConsoleSink
from metacog.telemetry.events import Event, EventKind


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def metrics(step: int, time: float, **data: object) -> Event:
    return Event(time=time, run="r", step=step, kind=EventKind.METRICS, data=data)


def told(kind: EventKind, **data: object) -> Event:
    return Event(time=0.0, run="r", step=5, kind=kind, data=data)


def clock_of(*times: float) -> Iterator[float]:
    return iter(times)


def sink_on(stream: io.StringIO, *times: float, num_steps: int | None = 100) -> ConsoleSink:
    return ConsoleSink(stream, num_steps=num_steps, clock=clock_of(*times).__next__)


def test_a_plain_line_has_step_share_time_left_and_numbers() -> None:
    stream = io.StringIO()
    sink = sink_on(stream, 0, 10, num_steps=100)
    sink.write(metrics(10, 1000.0, **{"train/loss": 0.5}))
    sink.write(metrics(30, 1040.0, **{"train/loss": 0.25, "rl/reward": None, "other": 1}))
    # 20 steps took 40 seconds, so 70 take 140.
    assert stream.getvalue().splitlines() == [
        "step  10/100  10%  train/loss 0.5",
        "step  30/100  30%  eta 0:02:20  train/loss 0.25  rl/reward -",
    ]


def test_metrics_come_at_most_every_few_seconds_and_always_at_the_end() -> None:
    stream = io.StringIO()
    sink = sink_on(stream, 0.0, 1.0, 4.9, 5.0, 5.1)
    for step, time in ((1, 0.0), (2, 1.0), (3, 4.9), (4, 5.0), (100, 5.1)):
        sink.write(metrics(step, time))
    steps = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert steps == ["1/100", "4/100", "100/100"]


def test_what_is_not_metrics_comes_at_once() -> None:
    stream = io.StringIO()
    sink = sink_on(stream, num_steps=None)
    sink.write(told(EventKind.LOG, message="reading data"))
    sink.write(told(EventKind.ALERT, message="loss is not finite"))
    sink.write(told(EventKind.CHECKPOINT, path="/a/checkpoint-5"))
    sink.write(told(EventKind.EVAL, **{"eval/logic/accuracy": 0.51234567}))
    sink.write(told(EventKind.HIST, counts=[1, 2]))
    assert stream.getvalue().splitlines() == [
        "step 5  reading data",
        "step 5  ALERT loss is not finite",
        "step 5  checkpoint /a/checkpoint-5",
        "step 5  eval eval/logic/accuracy 0.5123",
    ]


def test_what_a_model_writes_neither_breaks_the_line_nor_commands_the_terminal() -> None:
    for stream in (io.StringIO(), Terminal()):
        sink_on(stream).write(told(EventKind.SAMPLE, reply="one\ntwo\x1b[31m\r"))
        assert stream.getvalue().count("\n") == 1
        assert "\x1b[31m" not in stream.getvalue()
        assert "\r" not in stream.getvalue()


def test_a_reply_is_one_readable_line() -> None:
    reply = {
        "suite": "puzzles",
        "number": 3,
        "question": "Who is the\nshortest?",
        "wanted": "Cleo",
        "thinking": "[bold]A > B\nB > C[/bold]",
        "answer": "Bea",
        "correct": False,
        "think_tokens": 11,
        "budget": 20,
        "close_reason": "natural",
        "before": {"correct": True, "since": 2},
    }
    for stream in (io.StringIO(), Terminal()):
        sink_on(stream, num_steps=None).write(told(EventKind.SAMPLE, **reply))
        assert stream.getvalue().rstrip("\n") == (
            'step 5  puzzles 3 wrong (was right since step 2)  "Who is the shortest?"  '
            'THINK 11/20 natural "[bold]A > B B > C[/bold]"  ANSWER "Bea" wanted "Cleo"'
        )


def test_colours_are_for_terminals_only() -> None:
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        sink_on(stream).write(told(EventKind.ALERT, message="[bold]x[/bold]"))
    assert "\x1b[" not in plain.getvalue()
    assert "[bold]x[/bold]" in terminal.getvalue()
