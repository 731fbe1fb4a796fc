"""Which plan suits a prompt: each is run, and the one that is right for the fewest tokens wins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from metacog.data.tasks.questions import Question
from metacog.decode.collect import Rollout
from metacog.model.bundle import MetacogModel
from metacog.text.tags import plan_mark
from metacog.train.features import Features, question_key
from metacog.train.rollouts import Progress, rollout_waves


def plan_labels(
    model: MetacogModel,
    questions: Sequence[Question],
    plans: Sequence[str],
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[int, int]:
    """Return the best plan's index by question; a question that no plan gets right has none.

    THINK opens with the plan's mark, as `plan.inject` does it. Marks are as long as each other or
    count for nothing: what is compared is what follows them. Of plans that spend as much the last
    one wins: a base that writes after `direct` what it writes after `outline` has followed the
    more thorough of the two.

    Args:
        model: The base that runs them.
        questions: What to ask.
        plans: Names, in the order of the plan head's outputs.
        seed: Of the sampling noise, the same for each plan.
        progress: Told after each wave of each plan.
    """
    best: dict[int, tuple[int, int]] = {}
    for index, plan in enumerate(plans):
        mark = model.base.encode(plan_mark(plan))
        for wave in rollout_waves(model, questions, seed=seed, opening=mark, progress=progress):
            for rollout in wave:
                _keep_best(best, rollout, index)
    return {key: -negated for key, (_, negated) in best.items()}


def with_plans(features: Features, labels: Mapping[int, int]) -> Features:
    """Return features whose rows have the plan that their question is labelled with, or -1."""
    plans = [labels.get(key, -1) for key in features.question.tolist()]
    return replace(features, plan=torch.tensor(plans, dtype=torch.long))


def _keep_best(best: dict[int, tuple[int, int]], rollout: Rollout, plan: int) -> None:
    if rollout.correct and rollout.generation.finished:
        key = question_key(rollout.question)
        tried = (rollout.generation.spend, -plan)
        best[key] = min(best.get(key, tried), tried)
