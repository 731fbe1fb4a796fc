"""Events of a run that tells everything, the same at every call: what pictures are made of."""

import json
import math
from collections.abc import Iterator

from metacog.config import RunConfig
from metacog.telemetry.events import Event
from tests.tui.conftest import event, puzzle

STEPS = 400
_PLANS = ("direct", "outline", "decompose", "verify")
_THINKING = "<plan>verify</plan>\n<exec>7 is 111 in base 2</exec>\n<eval>three ones</eval>\nso 3"


def whole_run(steps: int = STEPS) -> Iterator[Event]:
    """Yield the events in order, metrics at every tenth step and an evaluation at every fiftieth."""
    config = json.loads(RunConfig().model_dump_json())
    config["run"]["steps"] = STEPS
    yield event(0, "config", **config)
    yield event(0, "log", message="first batch: 16 rows, padding on the left")
    for step in range(10, steps + 1, 10):
        yield event(step, "metrics", **_metrics(step))
        yield event(step, "hist", **_replies(step))
        if step % 50 == 0:
            yield from _evaluation(step)
        if step == 200:
            yield event(step, "alert", message="gradient: norm was 9.1 over the last 20 steps")
            yield event(step, "checkpoint", path="runs/r/checkpoint-200")


def _metrics(step: int) -> dict[str, object]:
    done = step / STEPS
    wave = math.sin(step / 17)
    weights = [0.4 - 0.3 * done, 0.3, 0.2, 0.1 + 0.3 * done]
    return {
        "train/loss": 3 * math.exp(-3 * done) + 0.1 * wave,
        "train/entropy": 1.4 - done + 0.05 * wave,
        "rl/reward": done - 0.2 + 0.05 * wave,
        "think_tokens_used": 40 - 20 * done + 3 * wave,
        **{
            f"segments/{name}_tokens": 4.0 + 3 * n
            for n, name in enumerate(("plan", "exec", "eval"))
        },
        **{
            f"segments/{name}_fraction": 0.2 * n + 0.1
            for n, name in enumerate(("plan", "exec", "eval"))
        },
        **{f"train/learning_rate/{name}": rate for name, rate in (("layer", 1e-3), ("base", 5e-5))},
        "train/grad_norm": 2 - done + 0.3 * wave,
        "train/budget_mse": 0.4 * (1 - done),
        "perf/tokens_per_s": 5300.0 + 90 * wave,
        "perf/gpu_memory": 3891.0,
        "perf/memory": 1422.0,
        **{f"metacog/plan/{name}": w for name, w in zip(_PLANS, weights, strict=True)},
        "metacog/plan_agreement": 0.4 + 0.4 * done,
        "metacog/budget/predicted_mean": 60 - 25 * done,
        "metacog/budget/used_mean": 40 - 20 * done,
        "metacog/budget/mae": 20 - 8 * done,
        "metacog/budget/cap_hit_fraction": 0.1,
        "metacog/budget_variance": 30 * (1 - done) + 2,
        "metacog/confidence/mean": 0.5 + 0.3 * done,
        "metacog/confidence/brier": 0.2 - 0.1 * done,
        "metacog/alpha/min": 0.05,
        "metacog/alpha/mean": 1 / 6,
        "metacog/alpha/max": 0.2 + 0.3 * done,
        "metacog/alpha/entropy": 1.7 - 0.4 * done,
        "metacog/gate/norm": 0.3 * done,
        "metacog/gate/coverage": 0.8,
        "metacog/gate/saturation": 0.02,
        "data/max_len": 512 + 64 * (step // 150),
        "data/longest_seen": 431 + step // 2,
        "data/left_padding_ok": 1,
    }


def _replies(step: int) -> dict[str, object]:
    caps = [8 + (7 * n + step) % 60 for n in range(24)]
    return {
        "cap": caps,
        "think_len": [min(cap, 5 + (11 * n) % 50) for n, cap in enumerate(caps)],
        "budget_source": ["predicted"] * 24,
    }


def _evaluation(step: int) -> Iterator[Event]:
    done = step / STEPS
    for number in range(1, 9):
        yield puzzle(
            step,
            number=number,
            correct=done * 9 > number,
            question=f"How many bits of {number * 7} are set?",
            thinking=_THINKING,
            think_tokens=4 + (number * 5 + step // 50) % 16,
            confidence=min(0.1 * number + 0.2 * done, 0.99),
        )
    for name, values in _grids(step).items():
        yield event(step, "heatmap", name=name, rows=[], values=values)
    figures = {"eval/puzzles/accuracy": done, "eval/puzzles/think_tokens": 14 - 4 * done}
    scores = {
        "metacog/confidence/ece": 0.2 - 0.15 * done,
        "metacog/confidence/auroc": 0.6 + 0.3 * done,
    }
    yield event(step, "eval", **figures, **scores)


def _grids(step: int) -> dict[str, list[list[float | None]]]:
    done = step / STEPS
    gate = [[0.1 * n * abs(math.sin(t / 4 + n)) for t in range(6 + 3 * n)] for n in range(1, 9)]
    trust = [math.exp(-((block - 1 - 3 * done) ** 2)) for block in range(6)]
    share = [0.02 * (bin_ + 1) for bin_ in range(10)]
    said = [0.05 + 0.1 * bin_ for bin_ in range(10)]
    return {
        "gate": [[float(v) for v in row] for row in gate],
        "alpha": [[value / sum(trust) for value in trust]],
        "agreement": [[float((n + block) % 3 < 1 + done) for block in range(6)] for n in range(8)],
        "reliability": [list(share), list(said), [s**1.3 for s in said]],
    }
