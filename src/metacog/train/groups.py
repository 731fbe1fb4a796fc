"""Groups of rollouts: several replies to each prompt, under the budgets that practice compares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.config.objective import PracticeObjective
from metacog.data.tasks.questions import Question
from metacog.decode.collect import Rollout, roll_out
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.model.bundle import MetacogModel
from metacog.records import BudgetSource, Generation, Request
from metacog.rewards.advantage import GroupReply, group_advantages
from metacog.rewards.reply import reply_reward
from metacog.text.render import render
from metacog.train.gated import prompt_states


@dataclass(frozen=True)
class Group:
    """The judged replies to one prompt, in the order of their budgets: predicted, uncapped, others."""

    rollouts: tuple[Rollout, ...]
    rewards: Float[Tensor, " replies"]
    advantages: Float[Tensor, " replies"]

    @property
    def replies(self) -> list[Generation]:
        """The replies alone."""
        return [rollout.generation for rollout in self.rollouts]

    @property
    def caps(self) -> list[float]:
        """THINK tokens that each reply was allowed; infinity without a cap."""
        return [cap_of(reply) for reply in self.replies]


def cap_of(reply: Generation) -> float:
    """Return the THINK tokens that a reply was allowed; infinity without a cap."""
    return math.inf if reply.budget.enforced is None else float(reply.budget.enforced)


def judged(rollouts: Sequence[Rollout], objective: PracticeObjective, *, max_tokens: int) -> Group:
    """Return the replies to one prompt with their rewards and advantages.

    Args:
        rollouts: Two or more.
        objective: Weights of the reward.
        max_tokens: B_max, in tokens.
    """
    replies = []
    for rollout in rollouts:
        reply = rollout.generation
        reward = reply_reward(
            reply,
            correct=rollout.correct,
            lambda_tokens=objective.lambda_tokens,
            format_reward=objective.format_reward,
            max_tokens=max_tokens,
        )
        assert reply.reading is not None
        replies.append(GroupReply(reward, reply.spend, cap_of(reply), reply.reading.confidence))
    advantages = group_advantages(
        replies, lambda_tokens=objective.lambda_tokens, max_tokens=max_tokens
    )
    return Group(tuple(rollouts), torch.tensor([r.reward for r in replies]), advantages)


def validated(
    model: MetacogModel, questions: Sequence[Question], objective: PracticeObjective, *, seed: int
) -> dict[str, float]:
    """Return accuracy and spend on questions as practice samples them, by source of the budget."""
    groups = roll_out_groups(model, questions, objective, seed=seed, step=0)
    rollouts = [rollout for group in groups for rollout in group]
    found: dict[str, float] = {}
    for source in BudgetSource:
        mine = [r for r in rollouts if r.generation.budget.source is source]
        if mine:
            name = f"eval/validation/{source.value}"
            found[f"{name}_accuracy"] = sum(r.correct for r in mine) / len(mine)
            found[f"{name}_spend"] = sum(r.generation.spend for r in mine) / len(mine)
    return found


def roll_out_groups(
    model: MetacogModel,
    questions: Sequence[Question],
    objective: PracticeObjective,
    *,
    seed: int,
    step: int,
    rows: int = 128,
) -> list[list[Rollout]]:
    """Return a group of scored rollouts for each question, under the controller and gate that serve.

    Tokens are sampled at temperature 1 without top-p or penalties, so that their stored
    log-probabilities are the policy's. Replies under the predicted budget are read again as in
    serving; the others run to their cap.

    Args:
        model: The policy, with layer and gate.
        questions: One for each group.
        objective: Sizes of a group and the spread of its caps.
        seed: Of noise and caps.
        step: Of the run: no two steps use the same noise.
        rows: Rollouts that run side by side.
    """
    size = objective.group_size
    prompts = [
        tuple(render(model.base.tokenizer, [{"role": "user", "content": q.text}]))
        for q in questions
    ]
    rng = Random(f"{seed}/{step}/caps")
    requests: list[Request] = []
    for place, (prompt, predicted) in enumerate(
        zip(prompts, _predicted(model, prompts), strict=True)
    ):
        first = (step * len(questions) + place) * size
        budgets = _budgets(predicted, objective, model, rng)
        requests += [
            _request(model, prompt, first + turn, budget, seed)
            for turn, budget in enumerate(budgets)
        ]
    asked = {request.id: questions[(request.id // size) % len(questions)] for request in requests}
    found: dict[int, Rollout] = {}
    for again in (True, False):
        chosen = [request for request in requests if (request.budget is None) == again]
        chosen.sort(key=lambda request: len(request.prompt))
        engine = _engine(model, rows=rows, reread=again)
        for rollout in roll_out(engine.generate, model.base, asked, chosen):
            found[rollout.generation.request_id] = rollout
    replies = [found[request.id] for request in requests]
    return [replies[i : i + size] for i in range(0, len(replies), size)]


@torch.no_grad()
def _predicted(model: MetacogModel, prompts: Sequence[tuple[int, ...]]) -> list[float]:
    assert model.reader is not None
    reading = model.reader.read(prompt_states(model, prompts), telemetry=False)
    return reading.budget_tokens.tolist()


def _budgets(
    predicted: float, objective: PracticeObjective, model: MetacogModel, rng: Random
) -> list[int | None]:
    """Return the budgets of one group; None is the prediction itself."""
    least, most = max(1, model.decoding.budget.min_think), model.decoding.budget.max_tokens
    spread = math.log(objective.cap_spread)
    others = objective.group_size - objective.predicted - objective.uncapped
    caps = [predicted * math.exp(rng.uniform(-spread, spread)) for _ in range(others)]
    return [
        *[None] * objective.predicted,
        *[NO_LIMIT] * objective.uncapped,
        *(min(most, max(least, round(cap))) for cap in caps),
    ]


def _request(
    model: MetacogModel, prompt: tuple[int, ...], number: int, budget: int | None, seed: int
) -> Request:
    request = request_for(
        model, prompt, request_id=number, budget=budget, seed=seed, temperature=1.0
    )
    return replace(request, top_p=1.0, repetition_penalty=1.0)


def _engine(model: MetacogModel, *, rows: int, reread: bool) -> Engine:
    settings = engine_settings(model, rows=rows, reread=reread, revise=None if reread else False)
    opening = replace(settings.opening, modulation=None)
    return Engine(model, replace(settings, opening=opening))
