"""Rows to the JSON object that stands in docs/results.json; what cannot be computed is null."""

from collections.abc import Mapping, Sequence

from metacog.eval import metrics
from metacog.eval.arms import CHEAPEST_CONSTANT, GATED, LEARNED, MATCHED, PROMPT_ONLY, UNCAPPED
from metacog.eval.blocks import (
    budget_block,
    closer_block,
    confidence_block,
    family_block,
    level,
    outcomes,
    ready_block,
)
from metacog.eval.contrasts import (
    Json,
    Resampling,
    difference,
    noninferiority,
    pairs_of,
    relative,
    saving_of,
)
from metacog.eval.protocol import Measurement
from metacog.eval.rows import EvalRow
from metacog.eval.runner import ReadyPoint


def summarise_measurement(found: Measurement, resampling: Resampling | None = None) -> Json:
    """Return the summary of a measurement, with what was fixed and the oracle beside."""
    summary = summarise(found.rows, ready=found.ready, resampling=resampling)
    summary["fixed_on_calibration"] = found.fixed.as_json()
    summary["lengths"] = [difficulty.as_json() for difficulty in found.lengths]
    for name, point in found.oracle.items():
        block = summary if name == LEARNED else summary[name]
        block["oracle"] = {
            "accuracy_at_equal_spend": point.accuracy,
            "spend_mean": point.spend,
        }
    return summary


def summarise(
    rows: Sequence[EvalRow],
    *,
    ready: Sequence[ReadyPoint] = (),
    resampling: Resampling | None = None,
) -> Json:
    """Return every figure of a set of rows: the learned arm's on top, the prompt-only arm's below.

    Args:
        rows: Of all arms; an arm without rows leaves its figures null.
        ready: Re-readings of replies without a budget, with what closing there is worth.
        resampling: How intervals are drawn.
    """
    draws = resampling or Resampling()
    arms: dict[str, list[EvalRow]] = {}
    for row in rows:
        arms.setdefault(row.arm, []).append(row)
    uncapped = arms.get(UNCAPPED, [])
    any_arm = arms.get(LEARNED) or uncapped or list(rows)
    free = {"uncapped": level(uncapped, draws) | outcomes(uncapped)}
    return {
        "n": len({row.question_id for row in any_arm}),
        "seeds": sorted({row.seed for row in rows}),
        "generations": len(rows),
        **_learned(arms, LEARNED, draws),
        **free,
        "gate": _gate(arms, draws),
        "ready": ready_block(ready),
        "cap_violations": sum(row.cap_violation for row in rows),
        "by_family": _by_family(arms),
        PROMPT_ONLY: _learned(arms, PROMPT_ONLY, draws) | free,
        "arms": {name: level(found, draws) for name, found in sorted(arms.items())},
    }


def _learned(arms: Mapping[str, list[EvalRow]], name: str, draws: Resampling) -> Json:
    """Return the figures of a learned arm beside those of its baselines."""
    rows = arms.get(name, [])
    uncapped = arms.get(UNCAPPED, [])
    block = level(rows, draws)
    for baseline in MATCHED:
        other = arms.get(f"{name}.{baseline}", [])
        block[baseline] = {
            "accuracy_at_equal_spend": metrics.mean(row.correct for row in other),
            "spend_mean": metrics.mean(row.spend for row in other),
            "think_tokens_mean": metrics.mean(row.used for row in other),
        }
        block[f"delta_{baseline}"] = difference(pairs_of(rows, other), draws)
    return block | {
        "cap_violations": sum(row.cap_violation for row in rows) if rows else None,
        "budget": budget_block(rows, uncapped, draws),
        "confidence": confidence_block(rows, draws),
        "closer": closer_block(rows, arms.get(GATED) or uncapped),
        "saving": saving_of(pairs_of(rows, uncapped), draws)
        | {"cheapest_constant": _against_cheapest(arms, rows, draws)},
        "noninferiority": noninferiority(pairs_of(rows, uncapped), draws),
    }


def _gate(arms: Mapping[str, list[EvalRow]], draws: Resampling) -> Json | None:
    """Return what the gate does without any budget, against the bare base; None without a gate."""
    gated = arms.get(GATED, [])
    if not gated:
        return None
    pairs = pairs_of(gated, arms.get(UNCAPPED, []))
    return level(gated, draws) | {
        "saving": relative(pairs, draws),
        "delta_accuracy": difference(pairs, draws),
        "noninferiority": noninferiority(pairs, draws),
    }


def _against_cheapest(
    arms: Mapping[str, list[EvalRow]], rows: Sequence[EvalRow], draws: Resampling
) -> Json:
    """Return the saving against the cheapest constant cap that met the margin on calibration."""
    cheapest = arms.get(CHEAPEST_CONSTANT, [])
    pairs = pairs_of(rows, cheapest)
    return relative(pairs, draws) | {
        "cap_mean": metrics.mean(r.enforced for r in cheapest if r.enforced is not None),
        "accuracy": metrics.mean(row.correct for row in cheapest),
        "spend_mean": metrics.mean(row.spend for row in cheapest),
        "think_tokens_mean": metrics.mean(row.used for row in cheapest),
        "delta_accuracy": difference(pairs, draws),
    }


def _by_family(arms: Mapping[str, list[EvalRow]]) -> Json:
    rows, uncapped = arms.get(LEARNED, []), arms.get(UNCAPPED, [])
    families = sorted({row.family for row in [*rows, *uncapped]})
    return {family: family_block(_of(rows, family), _of(uncapped, family)) for family in families}


def _of(rows: Sequence[EvalRow], family: str) -> list[EvalRow]:
    return [row for row in rows if row.family == family]
