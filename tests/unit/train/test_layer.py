"""The budgets at which confidence is meant: along the trace, and beyond its end."""

import torch

from metacog.train.layer_losses import batch_of, point_starts
from tests.invariants.replies import random_features

PROMPTS, POINTS = 300, 4


def test_most_budgets_end_at_a_point_and_the_others_lie_beyond_the_trace() -> None:
    features = random_features(PROMPTS, POINTS)
    starts = point_starts(features)
    assert starts.tolist() == list(range(0, PROMPTS * POINTS + 1, POINTS))
    generator = torch.Generator().manual_seed(0)
    batch = batch_of(features, starts, torch.arange(PROMPTS), generator)
    assert torch.equal(batch.points, torch.arange(PROMPTS * POINTS))
    assert torch.equal(features.prompt[batch.caps], torch.arange(PROMPTS))
    at = features.used[batch.caps]
    beyond = batch.budgets > at.clamp(min=1)
    assert 0.25 < float(beyond.float().mean()) < 0.35
    assert torch.equal(batch.budgets[~beyond], at[~beyond].clamp(min=1))
    ends = batch.caps == starts[1:] - 1
    assert bool(ends[beyond].all()), "a wide budget ends where the trace does"
    assert float((batch.budgets / at.clamp(min=1)).max()) > 10
    assert {0.0, 1.0, 2.0, 3.0} == set(at[~beyond].tolist())
