"""P13: do blocks specialise by domain, and do plans matter?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from metacog.data.tasks.families import FAMILIES
from metacog.eval.evidence import Evidence
from metacog.eval.proof.row import Json, Row, all_met, interval
from metacog.eval.proof.view import LayerView

PERMUTATIONS = 1000
LEVEL = 0.05


@dataclass(frozen=True)
class PlanReplies:
    """What forcing each plan does to each question; columns are plans."""

    question: ndarray
    family: ndarray
    """Names."""
    right: Float[ndarray, "questions plans"]
    spend: Float[ndarray, "questions plans"]
    chosen: Int[ndarray, " questions"]
    """The plan that the layer would have taken."""
    names: tuple[str, ...]


def p13(test: Evidence, said: LayerView, plans: PlanReplies | None) -> Row:
    """Return whether alpha and the best expert differ by domain, and whether plans act.

    The value is the larger p-value of the two permutation tests; the chosen plan is held against the
    best single plan, or mixture of two, at the same mean spend. Replies to one question are averaged
    before labels are shuffled: they share a prompt, so they are no independent rows.
    """
    first, question = np.unique(test.question, return_index=True, return_inverse=True)[1:]
    domains = np.array([str(FAMILIES[name].domain) for name in FAMILIES])[test.family[first]]
    alphas = mean_within(said.alpha, question)
    losses = (said.expert_confidence - test.right_at(test.natural)[:, None]) ** 2
    losses = mean_within(losses, question)
    alpha = permutation_test(domains, lambda labels: spread_between(alphas, labels))
    expert = permutation_test(domains, lambda labels: gain_of_best_expert(losses, labels))
    worst = max(alpha["p"], expert["p"])
    causal = None if plans is None else plan_causality(plans)
    above = None if causal is None else bool(causal["above_best_single"]["ci95"][0] > 0)
    acts = None if causal is None else bool(causal["interaction"]["p"] < LEVEL)
    return Row(
        value=worst,
        n=len(first),
        seeds=tuple(sorted(set(test.seed.tolist()))),
        gate=f"alpha and best expert differ by domain (p < {LEVEL}); plan by family matters "
        f"(p < {LEVEL}) and the chosen plan beats the best single one at equal spend",
        met=all_met(worst < LEVEL, acts, above),
        detail={
            "alpha": alpha | {"by_domain": _means(alphas, domains)},
            "expert": expert | {"best_by_domain": _best(losses, domains)},
            "plans": causal,
        },
    )


def permutation_test(
    labels: ndarray, statistic: Callable[[ndarray], float], *, seed: int = 0
) -> Json:
    """Return a statistic of labelled rows, and how often shuffled labels reach it.

    p = (1 + number of shuffles that reach it) / (1 + number of shuffles)
    """
    rng = np.random.default_rng(seed)
    found = statistic(labels)
    drawn = [statistic(rng.permutation(labels)) for _ in range(PERMUTATIONS)]
    reached = int(sum(value >= found for value in drawn))
    return {"statistic": float(found), "p": (1 + reached) / (1 + PERMUTATIONS)}


def mean_within(
    columns: Float[ndarray, "rows columns"], group: Int[ndarray, " rows"]
) -> Float[ndarray, "groups columns"]:
    """Return the mean of each group's rows, groups numbered from 0."""
    sums = np.zeros((group.max() + 1, columns.shape[1]))
    np.add.at(sums, group, columns)
    return sums / np.bincount(group)[:, None]


def spread_between(columns: Float[ndarray, "rows columns"], labels: ndarray) -> float:
    """Return the squared distance of the groups' means from the mean of all, weighed by size."""
    overall = columns.mean(axis=0)
    total = 0.0
    for label in np.unique(labels):
        inside = labels == label
        total += inside.mean() * float(((columns[inside].mean(axis=0) - overall) ** 2).sum())
    return total


def gain_of_best_expert(losses: Float[ndarray, "rows blocks"], labels: ndarray) -> float:
    """Return how much lower the loss is with the best block of each group than with one for all."""
    best = sum(
        float(losses[labels == label].mean(axis=0).min()) * float((labels == label).mean())
        for label in np.unique(labels)
    )
    return float(losses.mean(axis=0).min()) - best


def plan_causality(plans: PlanReplies) -> Json:
    """Return the matrix of forced plan by family, whether they interact, and what choosing is worth."""
    worth = plans.right - plans.spend / plans.spend.mean()
    centred = worth - worth.mean(axis=1, keepdims=True)
    chosen = np.arange(len(plans.chosen)), plans.chosen
    right, spend = plans.right[chosen], plans.spend[chosen]

    def above(rows: Int[ndarray, " rows"]) -> float:
        return float(right[rows].mean()) - single_at(
            plans.right[rows].mean(axis=0), plans.spend[rows].mean(axis=0), spend[rows].mean()
        )

    everyone = np.arange(len(right))
    found = interval(plans.question.tolist(), above)
    assert found is not None, "plans were forced on one question or more"
    return {
        "matrix": {
            family: {
                name: {
                    "accuracy": float(plans.right[plans.family == family, k].mean()),
                    "spend": float(plans.spend[plans.family == family, k].mean()),
                }
                for k, name in enumerate(plans.names)
            }
            for family in sorted(set(plans.family.tolist()))
        },
        "interaction": permutation_test(
            plans.family, lambda labels: spread_between(centred, labels)
        ),
        "above_best_single": {"mean": above(everyone), "ci95": list(found)},
        "n": len(right),
    }


def single_at(
    right: Float[ndarray, " plans"], spend: Float[ndarray, " plans"], tokens: float
) -> float:
    """Return the best accuracy of one plan, or of two at random, that spends `tokens` or less in the mean."""
    best = max((float(r) for r, s in zip(right, spend, strict=True) if s <= tokens), default=0.0)
    for low in range(len(right)):
        for high in range(len(right)):
            if spend[low] <= tokens < spend[high]:
                share = (tokens - spend[low]) / (spend[high] - spend[low])
                best = max(best, float(right[low] + share * (right[high] - right[low])))
    if best == 0.0 and tokens < spend.min():
        best = float(right[spend.argmin()])
    return best


def _means(
    columns: Float[ndarray, "rows columns"], labels: ndarray
) -> Mapping[str, Sequence[float]]:
    return {
        str(label): columns[labels == label].mean(axis=0).round(4).tolist()
        for label in np.unique(labels)
    }


def _best(losses: Float[ndarray, "rows blocks"], labels: ndarray) -> Mapping[str, int]:
    return {
        str(label): int(losses[labels == label].mean(axis=0).argmin())
        for label in np.unique(labels)
    }
