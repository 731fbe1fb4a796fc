"""The library's face: load, read, answer under mixed budgets, save and load again."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import metacog
from metacog import ThinkingModel, load
from metacog.errors import InputError, ModelError, RunError
from metacog.model.bundle import load_model
from metacog.records import CloseReason

QUESTIONS = [
    "How many 1 bits are there in the binary representation of the number 300?",
    "How many 1 bits are there in the binary representation of the number 12?",
]


@pytest.fixture(scope="module")
def nano() -> ThinkingModel:
    return load("nano")


def test_a_reading_is_what_a_reply_starts_from(nano: ThinkingModel) -> None:
    readings = nano.read(QUESTIONS)
    replies = nano.generate(QUESTIONS)
    assert len(readings) == len(replies) == 2
    for reading, reply in zip(readings, replies, strict=True):
        begun = reply.generation.reading
        assert begun is not None
        assert reading.plan == pytest.approx(begun.plan, abs=1e-5)
        assert reading.budget == begun.budget
        assert reading.confidence == pytest.approx(begun.confidence, abs=1e-5)


def test_each_prompt_has_its_own_budget_and_replies_keep_their_order(nano: ThinkingModel) -> None:
    replies = nano.generate([QUESTIONS[0]] * 4, budget=["auto", 5, 0, -1])
    budgets = [reply.generation.budget for reply in replies]
    assert [budget.requested for budget in budgets] == [None, 5, 0, -1]
    assert budgets[1].used <= 5
    assert (budgets[2].used, budgets[2].close_reason) == (0, CloseReason.DISABLED)
    assert budgets[3].enforced is None
    assert replies[2].thinking == ""
    assert replies[0].thinking.startswith("<plan>")
    assert replies[0].answer == nano.generate(QUESTIONS[:1])[0].answer


def test_without_a_limit_re_readings_close_nothing(nano: ThinkingModel) -> None:
    auto, free = nano.generate(QUESTIONS[:1] * 2, budget=["auto", -1])
    assert auto.generation.budget.close_reason is CloseReason.CONFIDENT
    assert free.generation.budget.close_reason is CloseReason.NATURAL
    assert free.generation.budget.revisions == ()
    assert any(step.rereading for step in free.generation.steps), "it is read again all the same"


def test_a_budget_above_the_models_own_longest_is_enforced(nano: ThinkingModel) -> None:
    longest = nano.model.decoding.budget.max_tokens
    (reply,) = nano.generate(QUESTIONS[:1], budget=longest + 80)
    assert reply.generation.budget.enforced == longest + 80


def test_messages_and_questions_are_the_same_prompt(nano: ThinkingModel) -> None:
    (plain,) = nano.generate(QUESTIONS[:1])
    (message,) = nano.generate([[{"role": "user", "content": QUESTIONS[0]}]])
    assert plain.generation.steps == message.generation.steps


@pytest.mark.parametrize("budget", [-2, -100, True])
def test_a_budget_that_is_none_is_refused(nano: ThinkingModel, budget: int) -> None:
    with pytest.raises(InputError, match="Wanted a budget of 0 tokens or more"):
        nano.generate(QUESTIONS, budget=[budget, 3])


def test_as_many_budgets_as_prompts(nano: ThinkingModel) -> None:
    with pytest.raises(InputError, match="for each of 2 prompts, got 3"):
        nano.generate(QUESTIONS, budget=[1, 2, 3])


def test_a_saved_model_loads_whole_and_stock_transformers_reads_its_base(
    nano: ThinkingModel, tmp_path: Path
) -> None:
    nano.save(tmp_path / "mine")
    mine = load(tmp_path / "mine")
    for one, other in zip(nano.generate(QUESTIONS), mine.generate(QUESTIONS), strict=True):
        assert one.generation == other.generation
    assert mine.model.gate is not None
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "mine", local_files_only=True)
    for name, weight in nano.model.base.model.state_dict().items():
        assert torch.equal(stock.state_dict()[name], weight)
    with pytest.raises(RunError, match="nothing is overwritten"):
        nano.save(tmp_path / "mine")


def test_a_bare_base_answers_but_reads_nothing(tiny_directory: Path) -> None:
    bare = load(tiny_directory)
    with pytest.raises(ModelError, match="Wanted a model with a layer"):
        bare.read(["What is 3 + 4?"])
    (reply,) = bare.generate(["What is 3 + 4?"], budget=4)
    assert reply.generation.budget.used <= 4


def test_the_face_is_imported_only_when_asked_for() -> None:
    assert {"load", "ThinkingModel", "Reply", "BudgetProcessor"} < set(metacog.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        metacog.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"precision": "fp16"}, "precision to be fp32 or bf16, got 'fp16'"),
        ({"attention": "flash"}, "attention to be sdpa or eager, got 'flash'"),
        ({"base_path": "nano"}, "Wanted an adapter .* base nano, got the whole model"),
    ],
)
def test_a_choice_that_is_none_is_refused(
    tiny_directory: Path, choice: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(tiny_directory, **choice)
    if "base_path" in choice:
        with pytest.raises(ModelError, match=message):
            load(tiny_directory, base_path=choice["base_path"])
