"""Fixes, on calibration, the one factor by which each baseline spends what a learned arm does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from metacog.eval.arms import (
    CHEAPEST_CONSTANT,
    Arm,
    Caps,
    ConstantCap,
    FamilyCaps,
    PromptCaps,
    permuted,
)
from metacog.eval.cheap import CheapCurve, CheapTrace
from metacog.eval.metrics import mean
from metacog.eval.rows import EvalRow, RowKey

_SHUFFLES = 8
"""Permutations that a factor is fitted to the mean of."""
_ALL = "all"


@dataclass(frozen=True)
class Match:
    """The factor of a baseline and what it leads to on calibration."""

    factor: float
    """Of its shape; for a constant cap the cap itself."""
    spend: float
    accuracy: float


@dataclass(frozen=True)
class Matching:
    """Everything that was fixed on calibration for the baselines of one learned arm."""

    target: float
    """Mean spend of the learned arm on calibration."""
    constant: Match
    label: Match
    label_kind: str
    """What a family's cap is proportional to: its mean `need` or its mean `natural` length."""
    label_caps: Mapping[str, float]
    """Factor applied."""
    permuted: Match
    permuted_within: Match

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def match_spend(curve: Callable[[float], float], target: float, *, most: float = 2**20) -> float:
    """Return the factor at which a rising curve reaches a target.

    Where no factor reaches it, one beyond which nothing changes; where 0 is beyond it, nearly 0. The
    spends that are realised stand beside every result and show either.
    """
    high = 1.0
    while curve(high) < target and high < most:
        if curve(2 * high) == curve(high):
            return high
        high *= 2
    return bisect(curve, target, 0.0, high, 1e-4 * high)


def bisect(
    curve: Callable[[float], float], target: float, low: float, high: float, tolerance: float
) -> float:
    """Return where a rising curve reaches a target, or the end of the range that is nearer to it."""
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if curve(middle) < target else (low, middle)
    return high


def match_arms(rows: Sequence[EvalRow], traces: Sequence[CheapTrace]) -> Matching:
    """Fit every baseline of a learned arm on calibration.

    Args:
        rows: The learned arm's, on calibration.
        traces: The uncapped traces of the same questions and seeds.
    """
    ordered = _aligned(rows, traces)
    curve = CheapCurve(traces)
    target = mean(row.spend for row in ordered)
    assert target is not None
    used = {row.key: float(row.used) for row in ordered}
    kind, caps, label = _best_label(curve, target)
    return Matching(
        target=target,
        constant=_matched(curve, [curve.constant(1.0)], target),
        label=label,
        label_kind=kind,
        label_caps=caps,
        permuted=_matched(curve, _shuffles(used, dict.fromkeys(used, _ALL)), target),
        permuted_within=_matched(curve, _shuffles(used, _families(ordered)), target),
    )


def baseline_arms(matching: Matching, learned: Sequence[EvalRow]) -> list[Arm]:
    """Return the baselines of a learned arm on other questions, with the factors as they are.

    Args:
        matching: What was fixed on calibration.
        learned: The learned arm's rows on these questions, whose THINK tokens are permuted.
    """
    assert learned, "baselines are made from the rows of a learned arm"
    name = learned[0].arm
    used = {row.key: float(row.used) for row in learned}
    over_all = permuted(used, dict.fromkeys(used, _ALL))
    within = permuted(used, _families(learned))
    caps: dict[str, Caps] = {
        "constant": ConstantCap(matching.constant.factor),
        "label": FamilyCaps(matching.label_caps),
        "permuted": PromptCaps(_scaled(over_all, matching.permuted.factor)),
        "permuted_within": PromptCaps(_scaled(within, matching.permuted_within.factor)),
    }
    return [Arm(f"{name}.{baseline}", cap) for baseline, cap in caps.items()]


def cheapest_constant_arm(traces: Sequence[CheapTrace], *, margin: float) -> Arm | None:
    """Return the smallest constant cap at most `margin` less accurate than uncapped, on calibration."""
    curve = CheapCurve(traces)
    cap = curve.cheapest_constant(curve.uncapped.accuracy - margin)
    return None if cap is None else Arm(CHEAPEST_CONSTANT, ConstantCap(float(cap)))


def with_wrong_lengths(traces: Sequence[CheapTrace], rows: Sequence[EvalRow]) -> list[CheapTrace]:
    """Return traces whose wrong answers are as long as those of their family in some rows.

    A family without a wrong reply keeps what it had: it has no wrong answers to be counted.
    """
    lengths: dict[str, list[int]] = {}
    for row in rows:
        if not row.correct:
            lengths.setdefault(row.family, []).append(row.answer_tokens)
    means = {family: float(np.mean(found)) for family, found in lengths.items()}
    return [
        replace(trace, answer_wrong=means[trace.family]) if trace.family in means else trace
        for trace in traces
    ]


def label_shapes(traces: Sequence[CheapTrace]) -> dict[str, dict[str, float]]:
    """Return each family's mean need and mean natural length.

    A kind is left out where a family has none: no trace of it ends right, so it has no need.
    """
    by_family: dict[str, list[CheapTrace]] = {}
    for trace in traces:
        by_family.setdefault(trace.family, []).append(trace)
    needs = {
        family: mean(trace.need for trace in group if trace.need is not None)
        for family, group in by_family.items()
    }
    natural = {
        family: float(np.mean([trace.natural for trace in group]))
        for family, group in by_family.items()
    }
    known = {family: need for family, need in needs.items() if need is not None}
    shapes = {"need": known} if len(known) == len(natural) else {}
    return shapes | {"natural": natural}


def _best_label(curve: CheapCurve, target: float) -> tuple[str, dict[str, float], Match]:
    """Return the kind of label budgets that is more accurate at the target, with its caps."""
    found = []
    for kind, shape in label_shapes(curve.traces).items():
        caps = np.array([shape[trace.family] for trace in curve.traces])
        match = _matched(curve, [caps], target)
        scaled = {family: tokens * match.factor for family, tokens in shape.items()}
        found.append((kind, scaled, match))
    return max(found, key=lambda option: option[2].accuracy)


def _matched(
    curve: CheapCurve, shapes: Sequence[Float[np.ndarray, " traces"]], target: float
) -> Match:
    def spend(factor: float) -> float:
        return float(np.mean([curve.spend(shape * factor) for shape in shapes]))

    factor = match_spend(spend, target)
    accuracy = float(np.mean([curve.accuracy(shape * factor) for shape in shapes]))
    return Match(factor, spend(factor), accuracy)


def _shuffles(
    used: Mapping[RowKey, float], group_of: Mapping[RowKey, str]
) -> list[Float[np.ndarray, " traces"]]:
    shuffled = map(partial(_permuted_values, used, group_of), range(_SHUFFLES))
    return list(shuffled)


def _permuted_values(
    used: Mapping[RowKey, float], group_of: Mapping[RowKey, str], seed: int
) -> Float[np.ndarray, " traces"]:
    values = permuted(used, group_of, seed=seed)
    return np.array([values[key] for key in used])


def _families(rows: Sequence[EvalRow]) -> dict[RowKey, str]:
    return {row.key: row.family for row in rows}


def _scaled(tokens: Mapping[RowKey, float], factor: float) -> dict[RowKey, float]:
    return {key: value * factor for key, value in tokens.items()}


def _aligned(rows: Sequence[EvalRow], traces: Sequence[CheapTrace]) -> list[EvalRow]:
    """Return the rows in the order of the traces."""
    by_key = {row.key: row for row in rows}
    keys = [(trace.question_id, trace.seed) for trace in traces]
    if len(by_key) != len(keys) or set(by_key) != set(keys):
        raise ValueError(
            f"Matching wants one row of the learned arm for every uncapped trace, got "
            f"{len(by_key)} rows and {len(keys)} traces. Run both on the same questions and seeds."
        )
    return [by_key[key] for key in keys]
