"""Which budgets confidence is meant at, and which steps a layer is kept of."""

from pathlib import Path

import torch

from metacog.config import parse
from metacog.train.layer_losses import batch_of, point_starts
from metacog.train.run import train
from tests.faults.processes import contents, imitation
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


def test_the_steps_after_the_last_interval_count_too(tiny_directory: Path, tmp_path: Path) -> None:
    found = imitation(tiny_directory)
    settings = {"steps": 3, "eval_interval": 2, "save_interval": 1, "batch": 8, "warmup": 0}
    run = {**settings, "objective": {"kind": "layer", "plan_prompts": 0}}
    config = parse({**found, "run": run, "adaptation": {"enabled": False}}, source="test")
    ran = train(config, run_dir=tmp_path / "run")
    places = (ran.checkpoint(2), ran.checkpoint(3), ran.final)
    second, third, last = (contents(place)["metacog.safetensors"] for place in places)
    assert second != third
    assert third == last
