"""Groups of rollouts: several replies to each prompt, under the budgets that practice compares."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from metacog.config.objective import PracticeObjective
from metacog.data.tasks.questions import Question
from metacog.decode.collect import Rollout, roll_out, trace_of
from metacog.decode.engine import Engine
from metacog.decode.prefixes import prefix_values
from metacog.decode.settings import engine_settings, request_for, unmodulated
from metacog.decode.terms import NO_LIMIT
from metacog.losses.confidence import confidence_figures, reliability_figures
from metacog.model.bundle import MetacogModel
from metacog.records import BudgetSource, CloseReason, Generation, Request
from metacog.rewards.advantage import GroupReply, group_advantages
from metacog.rewards.reply import reply_reward
from metacog.text.render import render
from metacog.train.gated import prompt_states


@dataclass(frozen=True)
class Closings:
    """What closing THINK at each line end of a reply is worth, its own end last."""

    cuts: tuple[int, ...]
    """THINK tokens, rising."""
    values: tuple[float, ...]
    """Expected reward."""


def closings_of(
    model: MetacogModel, rollouts: Sequence[Rollout], objective: PracticeObjective, max_tokens: int
) -> list[Closings | None]:
    """Return what closing at each line end is worth, for uncapped replies that closed by themselves.

        V_k = P(right | closed after k THINK tokens) - lambda_tokens * (k + A) / B_max + format_reward

    with A the tokens of the right answer. The probability is exact (`decode.prefixes`), at the
    temperature that serves.
    """
    chosen = [
        row
        for row, rollout in enumerate(rollouts)
        if rollout.generation.budget.source is BudgetSource.UNCAPPED
        and rollout.generation.budget.close_reason is CloseReason.NATURAL
    ]
    traces = [trace_of(rollouts[row], model.base) for row in chosen]
    temperature = model.decoding.sampling.temperature
    found: list[Closings | None] = [None] * len(rollouts)
    for row, trace, value in zip(
        chosen, traces, prefix_values(model, traces, temperature=temperature), strict=True
    ):
        right = value.logprob.exp().clamp(0, 1).tolist()
        spends = [cut + len(trace.answer) for cut in value.cuts]
        found[row] = Closings(
            value.cuts[1:],
            tuple(
                chance - objective.lambda_tokens * spend / max_tokens + objective.format_reward
                for chance, spend in zip(right[1:], spends[1:], strict=True)
            ),
        )
    return found


@dataclass(frozen=True)
class Group:
    """The judged replies to one prompt, in the order of their budgets: predicted, uncapped, others."""

    rollouts: tuple[Rollout, ...]
    closings: tuple[Closings | None, ...]
    """What closing at each line end of an uncapped reply is worth; None for the others."""
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


def judged(
    rollouts: Sequence[Rollout],
    closings: Sequence[Closings | None],
    objective: PracticeObjective,
    *,
    max_tokens: int,
) -> Group:
    """Return the replies to one prompt with their rewards and advantages.

    Args:
        rollouts: Two or more.
        closings: Of each of them.
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
    return Group(
        tuple(rollouts), tuple(closings), torch.tensor([r.reward for r in replies]), advantages
    )


def validated(
    model: MetacogModel, questions: Sequence[Question], objective: PracticeObjective, *, seed: int
) -> dict[str, float]:
    """Return accuracy and spend on questions as practice samples them, by source of the budget."""
    groups = roll_out_groups(model, questions, objective, seed=seed, first=0)
    rollouts = [rollout for group in groups for rollout in group]
    found: dict[str, float] = {}
    for source in BudgetSource:
        mine = [r for r in rollouts if r.generation.budget.source is source]
        if mine:
            name = f"eval/validation/{source.value}"
            found[f"{name}_accuracy"] = sum(r.correct for r in mine) / len(mine)
            found[f"{name}_spend"] = sum(r.generation.spend for r in mine) / len(mine)
    read = [(r.generation.reading.confidence, r.correct) for r in rollouts if r.generation.reading]
    chances, right = (torch.tensor([float(row[side]) for row in read]) for side in (0, 1))
    return {
        **found,
        **confidence_figures(chances, right),
        **reliability_figures(chances, right),
    }


def roll_out_groups(
    model: MetacogModel,
    questions: Sequence[Question],
    objective: PracticeObjective,
    *,
    seed: int,
    first: int,
    rows: int = 128,
) -> list[list[Rollout]]:
    """Return a group of scored rollouts for each question, under the controller and gate that serve.

    Tokens are sampled at temperature 1 without top-p or penalties, so that their stored
    log-probabilities are the policy's. Replies under the predicted budget are read again as in
    serving; the others run to their cap.

    Where plans act (`acting_plans`), each reply's plan is sampled from the plan head's
    distribution, so that what it wins can teach that head.

    Args:
        model: The policy, with layer and gate.
        questions: One for each group.
        objective: Sizes of a group and the spread of its caps.
        seed: Of noise and caps.
        first: Number of the first group; no two groups of a run have the same number, nor noise.
        rows: Rollouts that run side by side.
    """
    size = objective.group_size
    prompts = [
        tuple(render(model.base.tokenizer, [{"role": "user", "content": q.text}]))
        for q in questions
    ]
    requests: list[Request] = []
    budgets, plans = _predicted(model, prompts)
    told = zip(prompts, budgets, plans, strict=True)
    for group, (prompt, predicted, chances) in enumerate(told, first):
        rng = Random(f"{seed}/{group}/caps")
        for turn, budget in enumerate(_budgets(predicted, objective, model, rng)):
            plan = _sampled(chances, rng) if acting_plans(model) else None
            requests.append(_request(model, prompt, group * size + turn, budget, plan, seed))
    asked = {request.id: questions[request.id // size - first] for request in requests}
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
def _predicted(
    model: MetacogModel, prompts: Sequence[tuple[int, ...]]
) -> tuple[list[float], list[dict[str, float]]]:
    """Return the calibrated budget of each prompt in tokens, and its plans' probabilities."""
    assert model.reader is not None
    reading = model.reader.read(prompt_states(model, prompts), telemetry=False)
    plans = [dict(zip(model.reader.plans, row, strict=True)) for row in reading.plan.tolist()]
    return reading.budget_tokens.tolist(), plans


def acting_plans(model: MetacogModel) -> bool:
    """Return whether a plan changes a reply: by its mark, or by scaling the predicted budget."""
    how = model.decoding.plan
    return how.inject or any(factor != 1 for factor in how.scale.values())


def _sampled(chances: Mapping[str, float], rng: Random) -> str:
    return rng.choices(list(chances), weights=list(chances.values()))[0]


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
    model: MetacogModel,
    prompt: tuple[int, ...],
    number: int,
    budget: int | None,
    plan: str | None,
    seed: int,
) -> Request:
    request = request_for(
        model, prompt, request_id=number, budget=budget, plan=plan, seed=seed, temperature=1.0
    )
    return replace(request, top_p=1.0, repetition_penalty=1.0)


def _engine(model: MetacogModel, *, rows: int, reread: bool) -> Engine:
    revise = None if reread else False
    settings = engine_settings(model, rows=rows, reread=reread, revise=revise)
    return Engine(model, unmodulated(settings))
