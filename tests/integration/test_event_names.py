"""Every objective emits each name of the event list that has a meaning for it, and no other objective's.

A name has no meaning where nobody can know it: nothing is right or wrong in a given trace, a frozen base
has no policy, features are no rows with padding.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metacog.config import parse
from metacog.config.model import DEFAULT_PLANS
from metacog.telemetry.events import EventKind
from metacog.telemetry.reader import read_events
from metacog.train.run import train
from tests.conftest import MakeModel
from tests.textdata import rows, write_jsonl

ALWAYS = {"train/loss", "train/grad_norm", "perf/memory"}
TOKENS = {"perf/tokens_per_s"}
POINTS = {"perf/points_per_s"}
"""Of what learns from kept states, where no token passes."""
THINKING = {"think_tokens_used"}
PADDING = {"data/left_padding_ok"}
BUDGET = {
    "train/loss_budget",
    "train/budget_mse",
    *(f"metacog/budget/{name}" for name in ("predicted_mean", "used_mean", "mae")),
}
OPINIONS = {
    "metacog/plan_agreement",
    "metacog/budget_variance",
    *(f"metacog/alpha/{name}" for name in ("min", "mean", "max", "entropy")),
    *(f"metacog/plan/{name}" for name in DEFAULT_PLANS),
    *(f"train/loss_{name}" for name in ("variance", "style")),
}
CONFIDENCE = {
    "train/loss_confidence",
    *(f"metacog/confidence/{name}" for name in ("mean", "brier")),
}
MANY_ROWS = {"metacog/confidence/ece"}
"""Figures of an evaluation; AUROC beside it where some rows are right and some wrong."""
GATE = {f"metacog/gate/{name}" for name in ("norm", "coverage", "saturation")}
SPANS = {f"segments/{name}" for name in ("plan_tokens", "plan_fraction")}
"""Of a base whose traces name their plan; nobody writes EXEC or EVAL marks here."""
POLICY = {
    "train/loss_policy",
    "train/entropy",
    *(f"rl/{name}" for name in ("reward", "reward_std", "clip_ratio", "accuracy")),
    "metacog/budget/cap_hit_fraction",
}
DATA = {"data/max_len", "data/longest_seen", "data/quarantined"}
PUZZLES = {"eval/puzzles/accuracy", "eval/puzzles/think_tokens"}

METRICS: Mapping[str, set[str]] = {
    "pretrain": {"train/loss_answer"} | PADDING | TOKENS,
    "layer": POINTS | THINKING | BUDGET | OPINIONS | CONFIDENCE,
    "reread": POINTS | THINKING | BUDGET | OPINIONS | CONFIDENCE,
    "imitate": {"train/loss_answer", "train/loss_plan"}
    | TOKENS
    | THINKING
    | BUDGET
    | OPINIONS
    | GATE
    | PADDING
    | SPANS,
    "text": {"train/loss_answer"} | TOKENS | THINKING | BUDGET | OPINIONS | GATE | PADDING | DATA,
    "practice": TOKENS | THINKING | BUDGET | OPINIONS | CONFIDENCE | POLICY | GATE | PADDING,
}
EVALUATIONS: Mapping[str, set[str]] = {
    "pretrain": set(),
    "layer": MANY_ROWS | PUZZLES,
    "reread": MANY_ROWS | PUZZLES,
    "imitate": PUZZLES,
    "text": PUZZLES,
    "practice": MANY_ROWS | PUZZLES,
}
RATES = {
    "pretrain": {"matrices", "rest"},
    "layer": {"layer"},
    "reread": {"layer"},
    "imitate": {"layer", "gate", "base"},
    "text": {"layer", "gate", "base"},
    "practice": {"layer", "gate", "base"},
}
EVERY = set().union(*METRICS.values(), *EVALUATIONS.values())


def document(kind: str, base: Path, layer: Path, data: Path) -> dict[str, Any]:
    objectives: dict[str, dict[str, Any]] = {
        "pretrain": {
            "hidden_size": 16,
            "num_blocks": 1,
            "num_heads": 2,
            "mlp_size": 16,
            "batch_tokens": 1024,
            "chunk": 200,
            "vocabulary_questions": 5,
            "compiled": False,
        },
        "reread": {"layer_path": str(layer)},
        "imitate": {"cut_after": 1},
        "practice": {"group_size": 4, "layer_path": str(layer)},
    }
    objective = "imitate" if kind == "text" else kind
    tasks = {"tasks": ["chain_sum", "count_bits"], "num_prompts": 24}
    text = {"path": str(data), "shuffle_buffer": 4, "validation_rows": 2}
    logging = {"sinks": ["jsonl"]}
    run = {
        "steps": 2,
        "warmup": 0,
        "eval_interval": 2,
        "objective": {"kind": objective, **objectives.get(objective, {})},
    }
    if kind == "pretrain":
        return {"logging": logging, "run": run}
    return {
        "model": {"path": str(base)},
        "data": text if kind == "text" else tasks,
        "metacog": {"proj_dim": 8},
        "budget": {"min_tokens": 1, "max_tokens": 24, "answer_reserve": 8},
        "sampling": {"temperature": 1.0, "top_p": 1.0},
        # A random base is never right, so nothing is known of need.
        "losses": {"budget_target": "used"},
        "logging": logging,
        "run": {**run, "batch": 4},
    }


@pytest.fixture(scope="module")
def layer(make_tiny_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layer")
    make_tiny_model().save_layer(path)
    return path


@pytest.mark.parametrize("kind", METRICS)
def test_an_objective_emits_the_names_that_mean_something_for_it(
    kind: str, tiny_directory: Path, layer: Path, tmp_path: Path
) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", rows(60))
    config = parse(document(kind, tiny_directory, layer, data), source="test")
    events = read_events(train(config, run_dir=tmp_path / "run").events)
    (metrics,) = [set(event.data) for event in events if event.kind is EventKind.METRICS]
    (figures,) = [set(event.data) for event in events if event.kind is EventKind.EVAL]
    wanted = ALWAYS | METRICS[kind] | {f"train/learning_rate/{name}" for name in RATES[kind]}
    assert wanted - metrics == set()
    assert (metrics & EVERY) - METRICS[kind] - {"train/loss_plan"} - SPANS == set()
    assert EVALUATIONS[kind] - figures == set()
    assert (figures & EVERY) - EVALUATIONS[kind] == set()
