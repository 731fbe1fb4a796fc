"""What groups of replies teach the layer: budgets, confidence at each cap, plans."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metacog.config.objective import LossesConfig
from metacog.config.run import RunConfig
from metacog.losses.budget import Spending, budget_need, budget_used
from metacog.losses.combine import LossName
from metacog.losses.confidence import confidence_loss
from metacog.losses.plan import plan_policy_loss
from metacog.losses.report import LossReport, Tally
from metacog.model.outputs import LayerOutput
from metacog.model.scale import BudgetScale
from metacog.records import BudgetSource, CloseReason
from metacog.train.groups import Group
from metacog.train.layer_losses import Reports, spending_tallies


@dataclass(frozen=True)
class BudgetLabels:
    """What the replies of some groups say of the tokens that their prompts need, row by row."""

    need: Float[Tensor, " replies"]
    """In tokens; NaN where a reply says nothing."""
    censored: Bool[Tensor, " replies"]
    """Whether need is only known to be more than that."""


def budget_labels(groups: Sequence[Group], losses: LossesConfig, least: int) -> BudgetLabels:
    """Return one label for each prompt where the groups have one, and what was cut.

    A reply that was cut and wrong says that its prompt needs more: it is censored. One that was cut
    and right says only that there was enough. A prompt that no reply solved, of enough replies, is
    hopeless and gets its target instead. One whose uncapped trace ended wrong, but that another
    reply solved by itself, needs at most what the shortest of those spent; where the uncapped
    trace ended right its own sufficient prefix is the sharper label, and comes from there.

    Args:
        groups: Judged replies.
        losses: `hopeless_target` and `hopeless_after`.
        least: B_min, in tokens: the target of a hopeless prompt where none is named.
    """
    need: list[float] = []
    censored: list[bool] = []
    hopeless = least if losses.hopeless_target is None else losses.hopeless_target
    for group in groups:
        solved = any(rollout.correct for rollout in group.rollouts)
        given_up = not solved and len(group.rollouts) >= losses.hopeless_after
        known = [math.nan] * len(group.rollouts)
        cut = [not given_up and _is_cut_short(group, row) for row in range(len(known))]
        for row, is_cut in enumerate(cut):
            known[row] = float(group.replies[row].budget.used) if is_cut else math.nan
        whole = cut.index(False) if not all(cut) else None
        if given_up:
            known[0] = float(hopeless)
        elif whole is not None:
            known[whole] = _shortest_own_close(group)
        need += known
        censored += cut
    return BudgetLabels(torch.tensor(need), torch.tensor(censored))


def _is_cut_short(group: Group, row: int) -> bool:
    rollout = group.rollouts[row]
    return rollout.generation.budget.close_reason is CloseReason.BUDGET and not rollout.correct


def _shortest_own_close(group: Group) -> float:
    """Return the fewest tokens of a right reply that closed by itself, where that is the best label."""
    closed = [
        r
        for r in group.rollouts
        if r.correct and r.generation.budget.close_reason is CloseReason.NATURAL
    ]
    if any(r.generation.budget.source is BudgetSource.UNCAPPED for r in closed) or not closed:
        return math.nan
    return float(min(r.generation.budget.used for r in closed))


def group_reports(
    groups: Sequence[Group],
    out: LayerOutput,
    scale: BudgetScale,
    config: RunConfig,
    *,
    plans: Sequence[str] = (),
) -> Reports:
    """Return the losses of the readings of every reply's prompt, confidence at the reply's cap.

    Args:
        groups: Judged replies.
        out: The reading of each reply's prompt.
        scale: Of the layer's budgets.
        config: Of the run.
        plans: Names of the plans that were sampled, in the order of the head's outputs; with none
            the plan head learns nothing here.
    """
    reports = _reports(groups, out, scale, config)
    if plans:
        named = [plans.index(reply.plan or "") for group in groups for reply in group.replies]
        reports[LossName.PLAN] = plan_policy_loss(
            out.plan_logits,
            torch.tensor(named),
            torch.cat([group.advantages for group in groups]),
            experts=out.per_layer["plan_logits_pl"],
            per_layer_weight=config.metacog.per_layer_weight,
        )
    return reports


def _reports(
    groups: Sequence[Group], out: LayerOutput, scale: BudgetScale, config: RunConfig
) -> Reports:
    weight = config.metacog.per_layer_weight
    correct = torch.tensor([float(r.correct) for group in groups for r in group.rollouts])
    return {
        LossName.BUDGET: _budget_report(groups, out, scale, config),
        LossName.CONFIDENCE: confidence_loss(
            out.conf_raw,
            correct,
            torch.ones_like(correct, dtype=torch.bool),
            experts=out.per_layer["conf_raw_pl"],
            per_layer_weight=weight,
        ),
    }


def _budget_report(
    groups: Sequence[Group], out: LayerOutput, scale: BudgetScale, config: RunConfig
) -> LossReport:
    weight, experts = config.metacog.per_layer_weight, out.per_layer["budget_raw_pl"]
    used = _used(groups)
    every = torch.ones_like(used, dtype=torch.bool)
    spending = Spending(out.budget, used, every, config.budget.max_tokens)
    if config.losses.budget_target == "used":
        return budget_used(spending, experts=scale.tokens(experts), per_layer_weight=weight)
    labels = budget_labels(groups, config.losses, scale.min)
    return budget_need(
        out.budget_raw,
        scale.fraction(labels.need.clamp(min=scale.min)),
        ~labels.need.isnan(),
        labels.censored,
        spending,
        quantile=config.budget.quantile,
        experts=experts,
        per_layer_weight=weight,
    )


def group_tallies(
    groups: Sequence[Group], predicted: Float[Tensor, " replies"]
) -> dict[str, Tally]:
    """Return rewards, accuracy and spending of groups, by event name."""
    replies = [reply for group in groups for reply in group.replies]
    right = torch.tensor([float(r.correct) for group in groups for r in group.rollouts])
    sources = [reply.budget.source for reply in replies]
    uncapped = torch.tensor([source is BudgetSource.UNCAPPED for source in sources])
    cut = torch.tensor([reply.budget.close_reason is CloseReason.BUDGET for reply in replies])
    used = _used(groups)
    return {
        **spending_tallies(predicted, used),
        "metacog/budget/cap_hit_fraction": Tally.of(cut[~uncapped].float()),
        "rl/reward": Tally.of(torch.cat([group.rewards for group in groups])),
        "rl/reward_std": Tally.of(torch.stack([group.rewards.std() for group in groups])),
        "rl/accuracy": Tally.of(right),
        "rl/uncapped_accuracy": Tally.of(right[uncapped]),
        "rl/uncapped_think_tokens": Tally.of(used[uncapped]),
    }


def reply_figures(groups: Sequence[Group]) -> dict[str, list[object]]:
    """Return what each reply spent and won, group after group, by name; `cap` is None without one."""
    replies = [reply for group in groups for reply in group.replies]
    return {
        "think_len": [reply.budget.used for reply in replies],
        "cap": [reply.budget.enforced for reply in replies],
        "budget_source": [reply.budget.source.value for reply in replies],
        "correct": [r.correct for group in groups for r in group.rollouts],
        "reward": [value for group in groups for value in group.rewards.tolist()],
        "advantage": [value for group in groups for value in group.advantages.tolist()],
    }


def _used(groups: Sequence[Group]) -> Float[Tensor, " replies"]:
    return torch.tensor([float(reply.budget.used) for g in groups for reply in g.replies])
