"""Practice on a tiny model: what is rolled out, what it teaches, and what then moves."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from metacog.config import RunConfig, parse
from metacog.config.objective import LossesConfig, PracticeObjective
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.errors import ConfigError
from metacog.losses.combine import LossName
from metacog.model.adapt import adapt
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import BudgetSource, CloseReason
from metacog.train.group_losses import budget_labels
from metacog.train.groups import Group, roll_out_groups
from metacog.train.practice import LayerPart, PolicyPart, Practice

MOST, RATE = 20, 1e-2
MakeModel = Callable[..., MetacogModel]
MakeRollout = Callable[..., object]


def configured(**sections: object) -> RunConfig:
    document: dict[str, object] = {
        "metacog": {"proj_dim": 8},
        "adaptation": {"mode": "lora", "last_k": 3, "lora_rank": 2},
        "losses": {"closing": 1.0},
        "budget": {"min_tokens": 2, "max_tokens": MOST, "answer_reserve": 6},
        **sections,
    }
    run = {
        "batch": 2,
        "grad_accum": 2,
        "learning_rate": RATE,
        "objective": {"kind": "practice", "group_size": 5, "uncapped": 2, "lambda_tokens": 1.0},
        **dict(document.pop("run", {})),  # type: ignore[call-overload]
    }
    return parse({**document, "run": run}, source="test")


def made(make_tiny_model: MakeModel, **sections: object) -> Practice:
    config = configured(**sections)
    assert isinstance(config.run.objective, PracticeObjective)
    model = make_tiny_model()
    decoding = model.decoding.model_copy(update={"budget": config.budget, "plan": config.plan})
    questions = draw_questions(Split.LAYER_TRAIN, 6, families=["chain_sum", "count_bits"])
    torch.manual_seed(0)
    return Practice(
        replace(model, decoding=decoding),
        adapt(model.base, config.adaptation),
        config,
        config.run.objective,
        train=questions,
        validation=questions[:2],
    )


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def gradients(practice: Practice) -> dict[str, torch.Tensor]:
    """Take the gradient of the first step, part by part as the loop does."""
    parts = practice.parts(next(practice.batches(0)))
    counts = practice.counts(parts)
    for part in parts:
        with practice.step(part, counts) as result:
            result.loss.backward()
    found = {}
    for group in practice.optimizers.groups:
        for index, parameter in enumerate(group.parameters):
            if parameter.grad is not None:
                found[f"{group.name}/{index}"] = parameter.grad.clone()
                parameter.grad = None
    return found


def test_a_group_runs_under_the_prediction_without_a_cap_and_around_it(
    make_tiny_model: MakeModel,
) -> None:
    practice = made(make_tiny_model)
    groups = next(practice.batches(0)).groups
    assert len(groups) == 4
    for group in groups:
        sources = [reply.budget.source for reply in group.replies]
        assert sources == [
            BudgetSource.PREDICTED,
            BudgetSource.UNCAPPED,
            BudgetSource.UNCAPPED,
            BudgetSource.EXPLICIT,
            BudgetSource.EXPLICIT,
        ]
        assert group.caps[1:3] == [math.inf, math.inf]
        assert all(1 <= cap <= MOST for cap in (group.caps[0], *group.caps[3:]))
        assert all(r.budget.used <= c for r, c in zip(group.replies, group.caps, strict=True))
        assert len({reply.prompt for reply in group.replies}) == 1
    caps = [cap for group in groups for cap in group.caps[3:]]
    assert len(set(caps)) > 2, "caps are spread"
    numbers = [reply.request_id for group in groups for reply in group.replies]
    assert len(set(numbers)) == 20, "each reply has noise of its own"
    again = next(made(make_tiny_model).batches(0)).groups
    assert [g.replies for g in again] == [g.replies for g in groups]
    later = next(made(make_tiny_model).batches(1)).groups
    assert {r.request_id for g in later for r in g.replies}.isdisjoint(numbers)


def test_stored_probabilities_are_the_policys_with_gate_and_adapters_in_place(
    make_tiny_model: MakeModel,
) -> None:
    practice = made(make_tiny_model)
    with torch.no_grad():
        for parameter in practice.optimizers.parameters:
            parameter += 0.05 * torch.randn_like(parameter)
    parts = practice.parts(next(practice.batches(0)))
    for part in parts:
        if isinstance(part, PolicyPart):
            with practice.step(part) as result:
                report = result.reports[LossName.POLICY]
            steps = [(r, s) for r, reply in enumerate(part.replies) for s in reply.steps]
            wanted = -sum(
                float(part.advantages[row])
                for row, step in steps
                if step.sampled and not step.altered
            )
            assert report.values()["rl/clip_ratio"] == 0
            assert report.total.item() == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_one_step_moves_layer_gate_and_adapters_and_neither_base_nor_switch(
    make_tiny_model: MakeModel,
) -> None:
    practice = made(make_tiny_model)
    assert practice.model.gate is not None
    before = {
        "base": copies(practice.model.base.model),
        "layer": copies(practice.layer),
        "gate": copies(practice.model.gate),
    }
    parts = practice.parts(next(practice.batches(0)))
    counts = practice.counts(parts)
    for part in parts:
        with practice.step(part, counts) as result:
            result.loss.backward()
    practice.optimizers.step(1.0)
    after = {
        "base": copies(practice.model.base.model),
        "layer": copies(practice.layer),
        "gate": copies(practice.model.gate),
    }
    moved = {
        part: {name for name, value in old.items() if not torch.equal(value, after[part][name])}
        for part, old in before.items()
    }
    assert moved["base"]
    assert all("lora_" in name for name in moved["base"])
    assert moved["gate"] == {"project.weight"}
    for prefix in ("trunk.", "aggregator.", "heads.", "experts.", "reread_heads."):
        assert any(name.startswith(prefix) for name in moved["layer"]), prefix
    rates = {group.name: group.learning_rate for group in practice.optimizers.groups}
    assert rates == {"layer": RATE, "gate": RATE, "adapters": RATE}


def test_unfrozen_weights_learn_at_the_low_rate_and_their_gradients_depend_on_the_gate(
    make_tiny_model: MakeModel,
) -> None:
    settings = {"adaptation": {"unfreeze_all": True, "lr_multiplier": 0.05}}
    practice = made(make_tiny_model, **settings)
    rates = {group.name: group.learning_rate for group in practice.optimizers.groups}
    assert rates["base"] == pytest.approx(0.05 * RATE)
    part = next(p for p in practice.parts(next(practice.batches(0))) if isinstance(p, PolicyPart))

    def of_base() -> list[torch.Tensor]:
        with practice.step(part) as result:
            found = torch.autograd.grad(
                result.loss, list(practice.model.base.model.parameters()), allow_unused=True
            )
        return [g for g in found if g is not None]

    on = of_base()
    assert practice.model.gate is not None
    with torch.no_grad():
        practice.model.gate.project.weight.zero_()
    off = of_base()
    assert any(bool((g != 0).any()) for g in on)
    assert any(not torch.allclose(a, b) for a, b in zip(on, off, strict=True))


def test_no_loss_of_the_layer_reaches_the_base(make_tiny_model: MakeModel) -> None:
    practice = made(make_tiny_model, adaptation={"unfreeze_all": True})
    part = practice.parts(next(practice.batches(0)))[0]
    assert isinstance(part, LayerPart)
    with practice.step(part) as result:
        result.loss.backward()
    assert all(p.grad is None for p in practice.model.base.model.parameters())
    assert {"budget", "confidence", "ready", "needed"} >= {
        name.removeprefix("train/loss_")
        for name in result.metrics
        if name in {"train/loss_budget", "train/loss_confidence"}
    }


def test_accumulated_passes_are_one_large_one(make_tiny_model: MakeModel) -> None:
    """The same replies in one pass and in three: rollouts and labels are the same too."""
    whole = gradients(made(make_tiny_model, run={"batch": 4, "grad_accum": 1}))
    parts = gradients(made(make_tiny_model, run={"batch": 1, "grad_accum": 4}))
    assert whole.keys() == parts.keys()
    assert any(name.startswith("adapters") for name in whole)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-6)


def test_what_a_step_logs(make_tiny_model: MakeModel) -> None:
    practice = made(make_tiny_model)
    batch = next(practice.batches(0))
    with practice.step(practice.parts(batch)[0]) as result:
        pass
    used = [reply.budget.used for group in batch.groups for reply in group.replies]
    assert result.metrics["think_tokens_used"] == pytest.approx(sum(used) / len(used))
    assert result.metrics["train/budget_mse"] > 0
    assert result.replies["think_len"] == used
    assert result.replies["cap"][1] is None
    wanted = {"rl/reward", "rl/reward_std", "rl/accuracy", "metacog/budget/cap_hit_fraction"}
    assert wanted <= result.metrics.keys()
    figures = practice.evaluate()
    assert 0 <= figures["metacog/confidence/ece"] <= 1
    assert {name for name in figures if name.startswith("eval/")} == {
        f"eval/validation/{source.value}_{figure}"
        for source in BudgetSource
        for figure in ("accuracy", "spend")
    }


def test_plans_are_sampled_and_learn_where_they_act(make_tiny_model: MakeModel) -> None:
    idle = made(make_tiny_model, plan={"scale": {}})
    acting = made(make_tiny_model, plan={"scale": {"direct": 0.5}}, losses={"style_entropy": 0.0})
    plans: dict[str, set[str | None]] = {}
    for name, practice in (("idle", idle), ("acting", acting)):
        batch = next(practice.batches(0))
        plans[name] = {reply.plan for reply in batch.groups[0].replies}
        with practice.step(practice.parts(batch)[0]) as result:
            found = "train/loss_plan" in result.metrics
        assert found == (name == "acting")
    assert len(plans["idle"]) == 1
    assert len(plans["acting"]) > 1


def test_updates_repeat_the_same_replies(make_tiny_model: MakeModel) -> None:
    objective = {"kind": "practice", "group_size": 3, "updates": 2}
    batches = made(make_tiny_model, run={"objective": objective}).batches(0)
    first, second, third = (next(batches) for _ in range(3))
    assert first.groups is second.groups
    assert [first.number, second.number, third.number] == [0, 1, 2]
    assert third.groups is not first.groups


def test_too_few_questions_are_refused(make_tiny_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match=r"8 groups of a step.*got 6.*data\.num_prompts"):
        made(make_tiny_model, run={"batch": 8, "grad_accum": 1})


def test_what_is_saved_is_the_policy(make_tiny_model: MakeModel, tmp_path: Path) -> None:
    practice = made(make_tiny_model)
    with torch.no_grad():
        for parameter in practice.optimizers.parameters:
            parameter += 0.05 * torch.randn_like(parameter)
    (tmp_path / "saved").mkdir()
    practice.save(tmp_path / "saved")
    saved = load_model(tmp_path / "saved")
    objective = configured().run.objective
    assert isinstance(objective, PracticeObjective)
    questions = draw_questions(Split.LAYER_TRAIN, 2, families=["count_bits"])
    told = {
        name: [
            rollout.generation.steps
            for group in roll_out_groups(model, questions, objective, seed=0, first=0)
            for rollout in group
            if rollout.generation.budget.source is BudgetSource.UNCAPPED
        ]
        for name, model in (("policy", practice.model), ("saved", saved))
    }
    tokens = {name: [[s.token for s in steps] for steps in told[name]] for name in told}
    assert tokens["policy"] == tokens["saved"]


def test_labels_of_a_group_by_hand(make_rollout: MakeRollout) -> None:
    def group(*rollouts: object) -> Group:
        zeros = torch.zeros(len(rollouts))
        return Group(tuple(rollouts), (None,) * len(rollouts), zeros, zeros)  # type: ignore[arg-type]

    def reply(used: int, reason: CloseReason, source: BudgetSource, *, correct: bool) -> object:
        made = make_rollout(think=(11,) * used, correct=correct)
        report = replace(made.generation.budget, used=used, close_reason=reason, source=source)  # type: ignore[attr-defined]
        return replace(made, generation=replace(made.generation, budget=report))  # type: ignore[attr-defined,type-var]

    natural, cut = CloseReason.NATURAL, CloseReason.BUDGET
    free, named = BudgetSource.UNCAPPED, BudgetSource.EXPLICIT
    solved = group(
        reply(30, natural, free, correct=False),
        reply(9, cut, named, correct=False),
        reply(20, natural, named, correct=True),
        reply(15, cut, named, correct=True),
    )
    sharp = group(reply(30, natural, free, correct=True), reply(20, natural, named, correct=True))
    hopeless = group(*[reply(9, cut, named, correct=False)] * 4)
    losses = LossesConfig(hopeless_after=4, hopeless_target=5)
    labels = budget_labels([solved, sharp, hopeless], losses, 1)
    nan = math.nan
    wanted = [20.0, 9.0, nan, nan, nan, nan, 5.0, nan, nan, nan]
    assert labels.need.tolist() == pytest.approx(wanted, nan_ok=True)
    assert labels.censored.tolist() == [False, True, *[False] * 8]
    early = budget_labels([hopeless], LossesConfig(hopeless_after=5), 1)
    assert early.need.tolist() == [9.0] * 4
    assert bool(early.censored.all())
