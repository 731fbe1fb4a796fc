from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from metacog.data.tasks.families import FAMILIES, Domain
from metacog.data.tasks.riddles import RIDDLES
from metacog.data.tasks.splits import Split, split_of
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import CloseReason
from metacog.telemetry.events import Event, EventKind
from metacog.telemetry.samples import Sample, Verdict
from metacog.text.tokenizer import build_tokenizer
from metacog.train.puzzles import (
    PuzzleBoard,
    Verdicts,
    answering,
    puzzle_figures,
    puzzles_for,
    reads_english,
)
from tests.conftest import MakeModel


@pytest.fixture(scope="module")
def nano() -> MetacogModel:
    return load_model("nano")


def test_nano_is_asked_held_out_logic_questions_one_of_each_level(nano: MetacogModel) -> None:
    assert not reads_english(nano.base)
    puzzles = puzzles_for(nano.base)
    assert len(puzzles) == 8
    assert len({puzzle.id for puzzle in puzzles}) == 8
    assert {split_of(puzzle.text) for puzzle in puzzles} == {Split.VALIDATION}
    logic = {family.name for family in FAMILIES.values() if family.domain is Domain.LOGIC}
    families = {puzzle.is_right.args[0].family for puzzle in puzzles}
    assert families == logic
    assert sorted(puzzle.is_right.args[0].level for puzzle in puzzles) == list(range(8))
    again = puzzles_for(nano.base)
    assert [puzzle.text for puzzle in again] == [puzzle.text for puzzle in puzzles]


def test_a_base_that_has_the_words_is_asked_the_riddles(tiny_base_model: MetacogModel) -> None:
    words = build_tokenizer([[riddle.text for riddle in RIDDLES] * 3], ())
    base = replace(tiny_base_model.base, tokenizer=words)
    assert reads_english(base)
    puzzles = puzzles_for(base)
    assert [puzzle.text for puzzle in puzzles] == [riddle.text for riddle in RIDDLES]
    assert puzzles[0].is_right("It is Cleo.")
    assert not puzzles[0].is_right("It is Ann.")


def grid(heatmap: Mapping[str, object]) -> list[list[float]]:
    values = heatmap["values"]
    assert isinstance(values, list)
    return values


def test_a_model_without_gate_and_layer_has_no_grid(nano: MetacogModel) -> None:
    assert PuzzleBoard(nano.base).ask(MetacogModel(nano.base), step=1).heatmaps == []


def test_what_ships_solves_the_easy_ones_within_its_own_budgets(nano: MetacogModel) -> None:
    board = PuzzleBoard(nano.base)
    asked = board.ask(nano, step=100)
    samples = asked.samples
    assert [sample.number for sample in samples] == list(range(1, 9))
    for sample, puzzle in zip(samples, board.puzzles, strict=True):
        assert sample.question == puzzle.text
        assert sample.correct == puzzle.is_right(sample.answer)
        assert sample.budget is not None
        assert 0 <= sample.think_tokens <= sample.budget, "the budget is the layer's and holds"
        assert sample.close_reason in set(CloseReason)
    assert all(sample.correct for sample in samples[:4])
    gate, alpha, agreement = asked.heatmaps
    assert [g["name"] for g in asked.heatmaps] == ["gate", "alpha", "agreement"]
    assert gate["rows"] == alpha["rows"] == [puzzle.id for puzzle in board.puzzles]
    assert [len(row) for row in grid(gate)] == [sample.think_tokens for sample in samples]
    assert all(number >= 0 for row in grid(gate) for number in row)
    assert any(number > 0 for row in grid(gate) for number in row), "the gate acts"
    assert [len(row) for row in grid(alpha)] == [len(nano.base.blocks)] * 8
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in grid(alpha))
    assert [len(row) for row in grid(agreement)] == [len(nano.base.blocks)] * 8
    assert {number for row in grid(agreement) for number in row} <= {0.0, 1.0}
    figures = puzzle_figures(samples)
    right = sum(sample.correct for sample in samples)
    assert figures == {
        "eval/puzzles/accuracy": pytest.approx(right / 8),
        "eval/puzzles/think_tokens": pytest.approx(sum(s.think_tokens for s in samples) / 8),
    }
    again = board.ask(nano, step=200).samples
    assert [s.answer for s in again] == [s.answer for s in samples], "greedy"
    assert [s.since for s in again] == [100] * 8
    assert puzzle_figures([]) == {}


def test_asking_leaves_modes_weights_and_randomness_as_they_were(
    make_tiny_model: MakeModel,
) -> None:
    model = make_tiny_model()
    assert model.reader is not None
    assert model.gate is not None
    model.reader.layer.train()
    model.gate.train()
    modules = (model.base.model, model.reader.layer, model.gate)
    modes = [part.training for module in modules for part in module.modules()]
    weights = [p.clone() for module in modules for p in module.parameters()]
    state = torch.get_rng_state()
    with answering(model):
        assert not any(part.training for module in modules for part in module.modules())
    PuzzleBoard(model.base).ask(model, step=1)
    assert [part.training for module in modules for part in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    now = [p for module in modules for p in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(now, weights, strict=True))
    assert all(p.grad is None for p in now)


def test_a_verdict_tells_since_when_and_what_it_was_before() -> None:
    verdicts = Verdicts()
    course = [(100, False), (200, False), (300, True), (400, True), (500, False)]
    assert [verdicts.note("a", correct, step) for step, correct in course] == [
        (100, None),
        (100, None),
        (300, Verdict(correct=False, since=100)),
        (300, None),
        (500, Verdict(correct=True, since=300)),
    ]
    assert verdicts.note("b", correct=True, step=500) == (500, None)


def test_a_run_that_goes_on_remembers(nano: MetacogModel) -> None:
    def event(step: int, sample: Sample) -> Event:
        return Event(time=0.0, run="r", step=step, kind=EventKind.SAMPLE, data=sample.as_data())

    samples = PuzzleBoard(nano.base).ask(nano, step=100).samples
    flipped = replace(samples[0], correct=not samples[0].correct)
    earlier = [event(100, flipped), *(event(100, sample) for sample in samples[1:])]
    again = PuzzleBoard(nano.base, Verdicts(earlier)).ask(nano, step=200).samples
    assert again[0].before == Verdict(correct=flipped.correct, since=100)
    assert again[0].since == 200
    assert [(s.since, s.before) for s in again[1:]] == [(100, None)] * 7
