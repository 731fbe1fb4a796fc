"""A model's own replies, cut where they are enough, against prefix values computed beside."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metacog.config import RunConfig, parse
from metacog.config.objective import ImitateObjective
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.collect import Rollout, trace_of
from metacog.decode.prefixes import prefix_values
from metacog.errors import CheckpointError
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import BudgetSource, CloseReason, Segment
from metacog.telemetry.reader import read_events
from metacog.train.own import OwnTraces, shortest_enough
from metacog.train.rollouts import rollout_waves
from metacog.train.run import train

MakeRollout = Callable[..., Rollout]
SURE = 0.9


@pytest.fixture(scope="module")
def nano() -> MetacogModel:
    return load_model("nano")


@pytest.fixture(scope="module")
def rollouts(nano: MetacogModel) -> list[Rollout]:
    questions = draw_questions(
        Split.LAYER_TRAIN, 12, seed=3, families=["count_bits", "aiw", "chain_sum"]
    )
    return [r for wave in rollout_waves(nano, questions, seed=5, rollouts=2) for r in wave]


def test_own_replies_end_at_the_first_line_end_that_is_enough(
    nano: MetacogModel, rollouts: Sequence[Rollout]
) -> None:
    kept = shortest_enough(nano, rollouts, sure=SURE)
    temperature = nano.decoding.sampling.temperature
    shortest: dict[tuple[int, ...], int] = {}
    for rollout in rollouts:
        trace = trace_of(rollout, nano.base)
        (value,) = prefix_values(nano, [trace], temperature=temperature)
        chances = value.logprob.exp().tolist()
        ends = [c for k, c in enumerate(value.cuts) if all(p >= SURE for p in chances[k:])]
        if rollout.correct and ends:
            known = shortest.get(trace.prompt, 10**6)
            shortest[trace.prompt] = min(known, max(1, ends[0]))
    assert {reply.prompt: len(reply.think) for reply in kept} == shortest
    natural = {r.generation.prompt: len(r.generation.think) for r in rollouts}
    assert sum(shortest.values()) < 0.8 * sum(natural[prompt] for prompt in shortest)


def test_own_replies_are_whole_replies_of_which_every_token_is_learned(
    nano: MetacogModel, rollouts: Sequence[Rollout]
) -> None:
    answers = {r.generation.prompt: r.question.answer for r in rollouts}
    for reply in shortest_enough(nano, rollouts, sure=SURE):
        assert reply.budget.close_reason is CloseReason.NATURAL
        assert reply.budget.source is BudgetSource.UNCAPPED
        assert reply.budget.used == len(reply.think)
        closer = tuple(s.token for s in reply.steps if s.segment is Segment.CLOSE)
        assert closer == nano.base.tags.think_close
        assert nano.base.decode(reply.answer[:-1]).strip() == answers[reply.prompt]
        assert reply.answer[-1] in nano.base.tags.eos
        assert all(step.sampled and not step.altered for step in reply.steps)


def test_without_that_the_shortest_right_replies_stay_whole(
    nano: MetacogModel, rollouts: Sequence[Rollout]
) -> None:
    kept = shortest_enough(nano, rollouts, sure=None)
    right = [r.generation for r in rollouts if r.correct]
    assert all(reply in right for reply in kept)
    shortest = {r.prompt: min(o.spend for o in right if o.prompt == r.prompt) for r in right}
    assert {reply.prompt: reply.spend for reply in kept} == shortest


def test_what_a_re_reading_closed_is_learned_as_if_it_had_closed_by_itself(
    nano: MetacogModel,
) -> None:
    questions = draw_questions(Split.LAYER_TRAIN, 24, seed=3, families=["gcd", "ab", "chain_sum"])
    waves = rollout_waves(nano, questions, seed=5, own_budget=True)
    rollouts = {r.generation.request_id: r for wave in waves for r in wave}
    reasons = {number: r.generation.budget.close_reason for number, r in rollouts.items()}
    kept = {
        reply.request_id: reply for reply in shortest_enough(nano, rollouts.values(), sure=None)
    }
    good = {CloseReason.NATURAL, CloseReason.CONFIDENT}
    assert kept.keys() == {n for n, r in rollouts.items() if r.correct and reasons[n] in good}
    closed = [number for number in kept if reasons[number] is CloseReason.CONFIDENT]
    assert closed, "nothing was closed by a re-reading"
    for number in closed:
        given, reply = rollouts[number].generation, kept[number]
        assert any(not step.sampled for step in given.steps), "the controller forced its closer"
        assert [step.token for step in reply.steps] == [step.token for step in given.steps]
        assert all(step.sampled and not step.altered for step in reply.steps)
    assert len({reply.prompt for reply in kept.values()}) == len(kept)


def test_a_reply_under_its_own_budget_is_not_cut_again() -> None:
    with pytest.raises(ValueError, match="got both"):
        ImitateObjective(traces="own", own_budget=True, sure=0.9)


def test_wrong_and_unfinished_rollouts_teach_nothing(
    nano: MetacogModel, rollouts: Sequence[Rollout]
) -> None:
    assert not shortest_enough(nano, [replace(r, correct=False) for r in rollouts], sure=SURE)
    cut = [replace(r, generation=replace(r.generation, finished=False)) for r in rollouts]
    assert not shortest_enough(nano, cut, sure=SURE)
    capped = CloseReason.BUDGET
    budgets = [replace(r.generation.budget, close_reason=capped) for r in rollouts]
    forced = [
        replace(r, generation=replace(r.generation, budget=budget))
        for r, budget in zip(rollouts, budgets, strict=True)
    ]
    assert not shortest_enough(nano, forced, sure=SURE)
    assert not shortest_enough(nano, [], sure=SURE)


def test_a_batch_holds_replies_of_like_length(make_rollout: MakeRollout) -> None:
    replies = [make_rollout(n, think=(1,) * n).generation for n in range(1, 21)]
    traces = OwnTraces(replies[::-1], [], size=4, seed=0)
    batches = [[len(t.reply.think) for t in traces.batch(step)] for step in range(40)]
    assert all(max(lengths) - min(lengths) == 3 for lengths in batches)
    assert batches[7] == [len(t.reply.think) for t in traces.batch(7)]
    assert {length for lengths in batches for length in lengths} == set(range(1, 21))


def test_fewer_replies_than_a_batch_are_one_batch(make_rollout: MakeRollout) -> None:
    replies = [make_rollout(n).generation for n in range(3)]
    assert len(OwnTraces(replies, [], size=8, seed=0).batch(5)) == 3


def test_a_position_in_a_data_set_is_refused() -> None:
    traces = OwnTraces([], [], size=8, seed=0)
    traces.load_state(traces.state())
    with pytest.raises(CheckpointError, match="position in a data set"):
        traces.load_state({"streams": []})


def configured(**adaptation: object) -> RunConfig:
    document = {
        "model": {"path": "nano"},
        "data": {"tasks": ["aiw", "count_bits"], "num_prompts": 16},
        "adaptation": adaptation,
        "plan": {"scale": {}},
        "sampling": {"temperature": 0.6, "top_p": 1.0},
        "run": {
            "name": "own",
            "steps": 4,
            "batch": 4,
            "warmup": 1,
            "eval_interval": 2,
            "objective": {"kind": "imitate", "traces": "own", "rollouts": 2, "sure": 0.9},
        },
    }
    return parse(document, source="test")


def test_base_layer_and_gate_learn_from_own_traces(tmp_path: Path) -> None:
    config = configured(mode="lora", last_k=6, lora_rank=4)
    run = train(config, run_dir=tmp_path / "own")
    before, after = load_model("nano"), load_model(run.final)
    assert before.gate is not None
    assert after.gate is not None
    old, new = (dict(m.base.model.state_dict()) for m in (before, after))
    assert any(not torch.equal(old[name], new[name]) for name in old)
    assert not torch.equal(before.gate.project.weight, after.gate.project.weight)
    assert torch.equal(before.gate.switch.weight, after.gate.switch.weight)
    heads = [m.reader.layer.state_dict() for m in (before, after) if m.reader is not None]
    assert not torch.equal(heads[0]["heads.budget.weight"], heads[1]["heads.budget.weight"])
    shift = (heads[1]["heads.plan.weight"] - heads[0]["heads.plan.weight"]).abs().max()
    assert shift < 1e-4 * heads[0]["heads.plan.weight"].abs().max(), "only weight decay"
    losses = [e.data for e in read_events(run.events) if "train/loss_answer" in e.data]
    assert losses
    assert all("train/budget_mse" in data for data in losses)


def test_with_the_base_frozen_only_layer_and_gate_learn(tmp_path: Path) -> None:
    run = train(configured(enabled=False), run_dir=tmp_path / "own")
    before, after = load_model("nano"), load_model("nano", layer=run.final)
    assert before.base.digest == after.base.digest
    assert before.gate is not None
    assert after.gate is not None
    assert not torch.equal(before.gate.project.weight, after.gate.project.weight)
