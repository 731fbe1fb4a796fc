import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn

from metacog.config import RunConfig, parse
from metacog.config.model import DEFAULT_PLANS
from metacog.config.objective import ImitateObjective
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.model.adapt import adapt
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate, GateShape
from metacog.records import Segment
from metacog.train.gated import read_prompts
from metacog.train.imitate import Imitation, ImitationBatch
from metacog.train.traces import SolvedTraces

CUT_AFTER, MOST = 3, 24
LOSSES = ("answer", "plan", "budget", "variance", "style")

MakeModel = Callable[..., MetacogModel]
Written = tuple[int, bool]
"""A token and whether it is to be learned."""


def configured(**run: object) -> RunConfig:
    document = {
        "metacog": {"proj_dim": 8},
        "adaptation": {"enabled": False},
        "budget": {"min_tokens": 2, "max_tokens": MOST, "answer_reserve": 8},
        "run": {
            "batch": 4,
            "learning_rate": 0.01,
            "objective": {"kind": "imitate", "cut_after": CUT_AFTER},
            **run,
        },
    }
    return parse(document, source="test")


def made(model: MetacogModel, feedback: FeedbackGate | None, **run: object) -> Imitation:
    config = configured(**run)
    assert isinstance(config.run.objective, ImitateObjective)
    train, validation = (
        draw_questions(split, 8, families=["chain_sum", "count_bits"])
        for split in (Split.LAYER_TRAIN, Split.VALIDATION)
    )
    traces = SolvedTraces(
        model.base, train=train, validation=validation, size=config.run.batch, seed=config.run.seed
    )
    adapted = adapt(model.base, config.adaptation)
    return Imitation(model, feedback, adapted, config, config.run.objective, traces)


@pytest.fixture
def training(make_tiny_model: MakeModel) -> Imitation:
    """A random layer and a gate that changes something from the start."""
    torch.manual_seed(0)
    model = make_tiny_model()
    return made(model, model.gate)


def parts_of(training: Imitation) -> dict[str, nn.Module]:
    assert training.model.gate is not None
    base = training.model.base.model
    return {"base": base, "layer": training.layer, "gate": training.model.gate}


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def metrics_of(training: Imitation, batch: ImitationBatch) -> dict[str, float]:
    with training.step(training.parts(batch)[0]) as result:
        return dict(result.metrics)


def batches_of(training: Imitation, count: int, start: int = 0) -> list[ImitationBatch]:
    return list(islice(training.batches(start), count))


def lengths(batch: ImitationBatch) -> list[int]:
    """Return the THINK tokens of each whole trace."""
    steps = [trace.reply.steps for trace in batch.traces]
    return [sum(step.segment is Segment.THINK for step in row) for row in steps]


def predicted(training: Imitation, batch: ImitationBatch) -> list[float]:
    """Return the layer's budget of each prompt, one read at a time."""
    budgets: list[float] = []
    for trace in batch.traces:
        reading = read_prompts(training.model, [trace.reply.prompt])
        budgets.append(float(reading.budget.detach()))
    return budgets


def test_one_step_moves_layer_and_gate_and_not_the_base(training: Imitation) -> None:
    before = {name: copies(module) for name, module in parts_of(training).items()}
    with training.step(training.parts(batches_of(training, 1)[0])[0]) as result:
        result.loss.backward()
    assert all(weight.grad is None for weight in training.model.base.model.parameters())
    training.optimizers.step(1.0)
    moved = {
        name: {key for key, value in copies(module).items() if not torch.equal(value, old[key])}
        for (name, module), old in zip(parts_of(training).items(), before.values(), strict=True)
    }
    assert moved["base"] == set()
    assert moved["gate"] == before["gate"].keys()
    for part in ("trunk.", "aggregator.", "experts.", "heads."):
        assert any(name.startswith(part) for name in moved["layer"]), part
    groups = training.optimizers.groups
    assert [(group.name, group.learning_rate) for group in groups] == [
        ("layer", 0.01),
        ("gate", 0.01),
    ]


def test_what_traces_say_nothing_about_is_not_among_what_learns(training: Imitation) -> None:
    layer = training.layer
    untaught = [layer.reread_heads, layer.reread_experts, layer.heads.confidence]
    learning = {id(parameter) for parameter in training.optimizers.parameters}
    assert id(layer.heads.budget.weight) in learning
    for part in (*untaught, layer.experts.confidence):
        assert not any(id(parameter) in learning for parameter in part.parameters())


def test_a_gate_that_does_nothing_yet_begins_to_learn(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model()
    fresh = FeedbackGate(GateShape(hidden=32, inputs=8 + 4 + 1, layer=1))
    training = made(model, fresh)
    with training.step(training.parts(batches_of(training, 1)[0])[0]) as result:
        result.loss.backward()
    training.optimizers.step(1.0)
    assert bool((fresh.project.weight != 0).any())
    assert model.gate is not fresh
    assert training.model.gate is fresh


def test_no_hook_stays_after_a_step(training: Imitation) -> None:
    block = training.model.base.blocks[1]
    with training.step(training.parts(batches_of(training, 1)[0])[0]) as result:
        assert len(block._forward_hooks) == 1
        result.loss.backward()
    training.evaluate()
    assert [len(b._forward_hooks) for b in training.model.base.blocks] == [0, 0, 0]


def test_without_a_gate_the_layer_learns_alone(make_tiny_model: MakeModel) -> None:
    training = made(make_tiny_model(), None)
    assert [group.name for group in training.optimizers.groups] == ["layer"]
    with training.step(training.parts(batches_of(training, 1)[0])[0]) as result:
        assert all(len(block._forward_hooks) == 0 for block in training.model.base.blocks)
        result.loss.backward()
    assert result.metrics["train/loss_answer"] > 0


def by_hand(training: Imitation, prompt: Sequence[int], reply: Sequence[Written]) -> list[float]:
    """Return the cross-entropy of each trained token of a reply, no gate acting."""
    ids = [*prompt, *(token for token, _ in reply)]
    with torch.no_grad():
        logits = training.model.base.model(input_ids=torch.tensor([ids])).logits[0]
    chances = logits.log_softmax(-1)
    first = len(prompt) - 1
    return [-float(chances[first + n, token]) for n, (token, is_own) in enumerate(reply) if is_own]


def test_the_answer_loss_is_the_cross_entropy_of_what_is_no_slip(
    make_tiny_model: MakeModel,
) -> None:
    training = made(make_tiny_model(), None)
    batches = batches_of(training, CUT_AFTER)
    assert any(not s.sampled for b in batches for t in b.traces for s in t.reply.steps)
    for batch in batches:
        losses: list[float] = []
        for trace in batch.traces:
            written = [(step.token, step.sampled) for step in trace.reply.steps]
            losses += by_hand(training, trace.reply.prompt, written)
        found = metrics_of(training, batch)["train/loss_answer"]
        assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_of_a_cut_trace_only_what_was_kept_and_the_answer_are_learned(
    make_tiny_model: MakeModel,
) -> None:
    training = made(make_tiny_model(), None)
    (closer,) = training.model.base.tags.think_close
    for batch in batches_of(training, 2, start=CUT_AFTER):
        losses: list[float] = []
        for trace, budget in zip(batch.traces, predicted(training, batch), strict=True):
            thought = [(s.token, s.sampled) for s in trace.reply.steps if s.segment == "think"]
            answer = [(token, True) for token in trace.reply.answer]
            own_closer = len(thought) < round(budget)
            written = [*thought[: round(budget)], (closer, own_closer), *answer]
            losses += by_hand(training, trace.reply.prompt, written)
        found = metrics_of(training, batch)["train/loss_answer"]
        assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_every_loss_is_logged_but_that_of_confidence(training: Imitation) -> None:
    batch = batches_of(training, 1)[0]
    with training.step(training.parts(batch)[0]) as result:
        result.loss.backward()
    found = {name for name in result.metrics if name.startswith("train/loss_")}
    assert found == {f"train/loss_{name}" for name in LOSSES}
    losses = RunConfig().losses
    weights = (
        losses.answer,
        losses.lambda_plan,
        losses.lambda_budget_reg,
        RunConfig().metacog.var_reg,
        losses.style_entropy,
    )
    pairs = zip(LOSSES, weights, strict=True)
    whole = sum(weight * result.metrics[f"train/loss_{name}"] for name, weight in pairs)
    assert result.metrics["train/loss"] == pytest.approx(whole, rel=1e-5)
    assert float(result.loss.detach()) == pytest.approx(whole, rel=1e-5)
    assert result.tokens == sum(len(trace.reply.steps) for trace in batch.traces)
    for name, parameter in training.layer.named_parameters():
        if "conf" in name or "reread" in name:
            assert parameter.grad is None or not bool(parameter.grad.any()), name


def test_traces_are_whole_before_cut_after(training: Imitation) -> None:
    for batch in batches_of(training, CUT_AFTER):
        assert not batch.is_cut
        whole = lengths(batch)
        assert max(whole) > MOST
        metrics = metrics_of(training, batch)
        assert metrics["think_tokens_used"] == sum(whole) / 4


def test_from_cut_after_on_only_what_was_kept_counts_as_used(training: Imitation) -> None:
    for batch in batches_of(training, 2, start=CUT_AFTER):
        assert batch.is_cut
        whole, budgets = lengths(batch), predicted(training, batch)
        kept = [min(n, round(budget)) for n, budget in zip(whole, budgets, strict=True)]
        assert sum(kept) < sum(whole)
        metrics = metrics_of(training, batch)
        assert metrics["think_tokens_used"] == sum(kept) / 4
        assert metrics["metacog/budget/used_mean"] == sum(kept) / 4
        assert metrics["metacog/budget/predicted_mean"] == pytest.approx(sum(budgets) / 4)


def test_the_model_keeps_the_names_of_its_plans(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model()
    assert model.reader is not None
    named = model.with_layer(model.reader.layer, plans=("a", "b", "c", "d"), gate=model.gate)
    reader = made(named, model.gate).current().reader
    assert reader is not None
    assert reader.plans == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("predicted", "scale"), [(True, {}), (True, dict.fromkeys(DEFAULT_PLANS, 0.4)), (False, {})]
)
def test_traces_are_cut_where_the_engine_would(
    make_tiny_model: MakeModel, predicted: bool, scale: dict[str, float]
) -> None:
    model = make_tiny_model(calibration={"budget_scale": 0.8})
    budget = {"use_predicted_budget": predicted, "max_tokens": 12, "answer_reserve": 8}
    how = model.decoding.model_copy(
        update={
            "budget": model.decoding.budget.model_copy(update=budget),
            "plan": model.decoding.plan.model_copy(update={"scale": scale}),
        }
    )
    training = made(replace(model, decoding=how), model.gate)
    (batch,) = batches_of(training, 1, start=CUT_AFTER)
    (part,) = training.parts(batch)
    requests = [
        request_for(training.model, trace.reply.prompt, request_id=number)
        for number, trace in enumerate(batch.traces)
    ]
    replies = Engine(training.model, engine_settings(training.model)).generate(requests)
    caps = {reply.request_id: reply.budget.enforced for reply in replies}
    expected = [min(whole, caps[row] or 0) for row, whole in enumerate(lengths(batch))]
    assert [reply.budget.used for reply in part.replies] == expected
    assert expected != lengths(batch)


def test_the_budget_is_taught_the_full_length_also_where_traces_are_cut(
    training: Imitation,
) -> None:
    for batch in batches_of(training, CUT_AFTER + 2):
        pairs = zip(predicted(training, batch), lengths(batch), strict=True)
        error = sum(((budget - n) / MOST) ** 2 for budget, n in pairs) / 4
        assert metrics_of(training, batch)["train/budget_mse"] == pytest.approx(error, rel=1e-4)


def test_the_plan_is_taught_that_each_trace_was_written_under(training: Imitation) -> None:
    names = RunConfig().metacog.plans
    for batch in batches_of(training, 3):
        right: list[bool] = []
        for trace in batch.traces:
            logits = read_prompts(training.model, [trace.reply.prompt]).plan_logits[0]
            right.append(names[int(logits.argmax())] == trace.plan)
        assert metrics_of(training, batch)["train/plan_accuracy"] == sum(right) / 4


def test_evaluation_is_finite_and_does_not_depend_on_the_batch(
    make_tiny_model: MakeModel,
) -> None:
    model = make_tiny_model()
    few, many = (dict(made(model, model.gate, batch=size).evaluate()) for size in (3, 8))
    names = {f"eval/validation/loss_{name}" for name in LOSSES}
    assert {*names, "eval/validation/loss", "eval/validation/budget_mse"} <= few.keys()
    assert all(name.startswith("eval/validation/") for name in few)
    assert all(math.isfinite(value) for value in few.values())
    assert few == pytest.approx(many, rel=1e-4)


def test_evaluation_says_the_same_again_and_falls_with_training(training: Imitation) -> None:
    before = training.evaluate()
    assert training.evaluate() == before
    batches = training.batches(0)
    for _ in range(12):
        with training.step(training.parts(next(batches))[0]) as result:
            result.loss.backward()
        training.optimizers.step(1.0)
    assert training.evaluate()["eval/validation/loss"] < before["eval/validation/loss"]


def test_batches_of_a_later_start_are_those_that_would_have_come(training: Imitation) -> None:
    before = batches_of(training, 5)
    assert batches_of(training, 3, start=2) == before[2:]
    assert before[0] != before[1]
    assert [batch.is_cut for batch in before] == [False] * CUT_AFTER + [True] * 2


def test_questions_are_those_to_train_on(training: Imitation) -> None:
    asked: list[Question] = draw_questions(
        Split.LAYER_TRAIN, 8, families=["chain_sum", "count_bits"]
    )
    base = training.model.base
    answers = {question.answer for question in asked}
    for batch in batches_of(training, 3):
        assert {base.decode(trace.reply.answer) for trace in batch.traces} <= answers
