"""The arrays of running rows: admitted, written, moved, and read out as steps."""

import numpy as np
import pytest
import torch

from metacog.decode.modulation import Sampler
from metacog.decode.opening import Opening
from metacog.decode.rows import ALTERED, SAMPLED, RowMeta, Rows
from metacog.decode.sampling import streams
from metacog.model.gate import FeedbackGate, GateShape, GateState
from metacog.records import BudgetSource, GateReport, Request, Rereading, Segment

SAMPLER = (Sampler(0.5, 0.9, 1.25), Sampler(1.0, 1.0, 1.0), Sampler(0.25, 0.8, 1.5))
OPENING = Opening(SAMPLER, 4, None, BudgetSource.EXPLICIT, saturation=0.25)
THINK, CLOSE, ANSWER = range(3)


def request(number: int) -> Request:
    return Request(
        number,
        (1,) * number,
        seed=10 + number,
    )


@pytest.fixture
def rows() -> Rows:
    """Two of three slots in use, by the requests 1 and 2."""
    made = Rows(3, 8, 2, 12, torch.device("cpu"))
    for number in (1, 2):
        made.admit(RowMeta(request(number), OPENING), number)
    return made


def write(
    rows: Rows, tokens: list[int], segments: list[int], flags: list[int], logprobs: list[float]
) -> None:
    rows.write(
        np.array(tokens),
        np.array(segments, dtype=np.int8),
        np.array(flags, dtype=np.int8),
        torch.tensor(logprobs),
    )


def test_a_row_starts_with_what_its_request_says(rows: Rows) -> None:
    assert rows.used == 2
    assert rows.admit(RowMeta(request(3), OPENING), 3) == 2
    assert rows.length.tolist() == [1, 2, 3]
    assert rows.index.tolist() == [0, 0, 0]
    keys = streams(torch.tensor([11, 12, 13]), torch.tensor([1, 2, 3]))
    assert rows.stream.tolist() == keys.tolist()
    assert rows.penalty.tolist() == [[1.25, 1.0, 1.5]] * 3


def test_each_row_samples_as_its_segment_does(rows: Rows) -> None:
    temperature, top_p = rows.sampler(np.array([ANSWER, THINK], dtype=np.int8))
    assert temperature.tolist() == [0.25, 0.5]
    assert top_p.tolist() == pytest.approx([0.8, 0.9])


def test_written_tokens_are_remembered_for_the_penalty(rows: Rows) -> None:
    for tokens in ([5, 6], [5, 9]):
        write(rows, tokens, [THINK] * 2, [SAMPLED] * 2, [0.0] * 2)
    repetition = rows.repetition(np.array([THINK, ANSWER], dtype=np.int8))
    assert repetition is not None
    assert repetition.penalty.tolist() == [1.25, 1.5]
    assert repetition.seen.nonzero().tolist() == [[0, 5], [1, 6], [1, 9]]
    rows.used = 1
    rows.admit(RowMeta(request(3), OPENING), 3)
    assert not rows.seen[1].any(), "a slot forgets the row before"


def test_without_a_penalty_there_is_no_repetition(rows: Rows) -> None:
    assert rows.repetition(np.array([CLOSE, CLOSE], dtype=np.int8)) is None
    rows.penalty[:] = 1
    assert rows.repetition(np.array([THINK, THINK], dtype=np.int8)) is None


def test_steps_are_what_was_written(rows: Rows) -> None:
    write(rows, [5, 6], [THINK, CLOSE], [SAMPLED, 0], [-0.5, -1.5])
    rows.remember(0, Rereading(1, 2.0, 0.3, 0.4, 2.0))
    write(rows, [7, 8], [THINK, ANSWER], [SAMPLED | ALTERED, SAMPLED], [-2.0, -3.0])
    assert rows.token.tolist()[:2] == [7, 8]
    assert rows.index.tolist()[:2] == [2, 2]
    first, second = rows.step(0, 0), rows.step(0, 1)
    assert (first.request_id, first.index, first.token) == (1, 0, 5)
    assert (first.segment, first.sampled, first.altered) == (Segment.THINK, True, False)
    assert first.logprob == -0.5
    assert first.rereading == Rereading(1, 2.0, 0.3, 0.4, 2.0)
    assert (second.sampled, second.altered, second.rereading) == (True, True, None)
    closer, answer = rows.steps(1, 0, 1)
    assert (closer.segment, closer.sampled) == (Segment.CLOSE, False)
    assert (answer.segment, answer.token, answer.logprob) == (Segment.ANSWER, 8, -3.0)


def test_the_first_ids_of_a_long_closer_turn_out_to_be_the_closer(rows: Rows) -> None:
    """While it came, only its last id was known to close."""
    for token, segment in ((5, THINK), (6, THINK), (7, CLOSE), (8, ANSWER)):
        write(rows, [token, token], [segment] * 2, [SAMPLED] * 2, [0.0] * 2)
    assert [rows.step(0, at).segment for at in range(4)] == [
        Segment.THINK,
        Segment.THINK,
        Segment.CLOSE,
        Segment.ANSWER,
    ]
    assert [step.segment for step in rows.steps(0, 1, 2)] == [
        Segment.THINK,
        Segment.CLOSE,
        Segment.CLOSE,
        Segment.ANSWER,
    ]


def test_a_row_that_moves_takes_everything_along(rows: Rows) -> None:
    rows.gamma[1] = 0.7
    write(rows, [5, 6], [THINK, ANSWER], [0, SAMPLED], [-1.0, -2.0])
    rows.remember(1, Rereading(1, 2.0, 0.3, 0.4, 2.0))
    before, arrays = rows.step(1, 0), {}
    for name, value in vars(rows).items():
        if isinstance(value, torch.Tensor | np.ndarray):
            arrays[name] = value[1].tolist()
    rows.move(1, 0)
    assert rows.step(0, 0) == before
    assert rows.of(0).request == request(2)
    assert {name: vars(rows)[name][0].tolist() for name in arrays} == arrays


def test_a_free_slot_holds_nothing(rows: Rows) -> None:
    with pytest.raises(AssertionError, match="slot 2 is free"):
        rows.of(2)


FEEDBACK = FeedbackGate(GateShape(hidden=2, inputs=3, layer=0))


def gate_state(on: list[float], push: list[float], length: list[float]) -> GateState:
    state = GateState(FEEDBACK)
    state.set(torch.tensor([[1.5, 1.0], [1.0, 1.0]]), torch.ones(2, 1, dtype=torch.bool))
    state.on, state.push, state.length = (
        torch.tensor(values).unsqueeze(1) for values in (on, push, length)
    )
    return state


def test_the_gates_figures_are_means_over_think(rows: Rows) -> None:
    """The first row thinks for two tokens and closes; what came at the closer does not count."""
    figures = (([1.0, 0.0], [0.4, 0.3], [2.0, 2.0]), ([0.0, 0.0], [0.7, 0.0], [5.0, 0.0]))
    for on, push, length in (*figures, ([1.0, 1.0], [9.0, 9.0], [1.0, 1.0])):
        write(rows, [5, 5], [THINK, THINK], [SAMPLED] * 2, [0.0] * 2)
        rows.write_gate(gate_state(on, push, length))
    report = rows.gate_report(0, 2, telemetry=True)
    assert report.coverage == pytest.approx(0.5)
    assert report.norm == pytest.approx(0.1)
    assert report.saturation == 0.25, "as the opening has it"
    assert report.per_token == pytest.approx((0.4, 0.0))
    assert rows.gate_report(0, 2, telemetry=False).per_token == ()


def test_no_thinking_no_figures(rows: Rows) -> None:
    assert rows.gate_report(0, 0, telemetry=True) == GateReport(None, None, None)


def test_a_gate_that_measured_nothing_writes_nothing(rows: Rows) -> None:
    write(rows, [5, 5], [THINK, THINK], [SAMPLED] * 2, [0.0] * 2)
    state = gate_state([1.0, 1.0], [1.0, 1.0], [1.0, 1.0])
    state.clear()
    rows.write_gate(state)
    assert not rows.gated.any()
