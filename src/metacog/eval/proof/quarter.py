"""P4: what is left of accuracy at a quarter of the natural length."""

from collections.abc import Mapping, Sequence

from metacog.eval import metrics
from metacog.eval.arms import Arm, FamilyCaps, Looking
from metacog.eval.contrasts import Resampling, pairs_of
from metacog.eval.proof.row import Json, Row
from metacog.eval.rows import EvalRow

QUARTER, QUARTER_BARE = "quarter", "quarter_bare"
TIMES, LEAST = 1.5, 0.10
"""Least ratio of accuracies; and the accuracy under the bare close from which a family counts."""


def quarter_caps(uncapped: Sequence[EvalRow]) -> dict[str, float]:
    """Return a quarter of each family's mean natural length, in THINK tokens."""
    lengths: dict[str, list[int]] = {}
    for row in uncapped:
        lengths.setdefault(row.family, []).append(row.used)
    return {family: sum(found) / len(found) / 4 for family, found in lengths.items()}


def quarter_arms(caps: Mapping[str, float]) -> tuple[Arm, Arm]:
    """Return the arm of the model, which may read again and land, and that of the bare base."""
    return (
        Arm(QUARTER, FamilyCaps(caps), Looking.ACTING),
        Arm(QUARTER_BARE, FamilyCaps(caps), Looking.AWAY),
    )


def p4(own: Sequence[EvalRow], bare: Sequence[EvalRow], draws: Resampling) -> Row:
    """Return the ratio of accuracies at the cap, over families that a bare close leaves 10 % or more."""
    by_family = {
        family: _pair(
            [r for r in own if r.family == family], [r for r in bare if r.family == family]
        )
        for family in sorted({row.family for row in bare})
    }
    counted = {f for f, found in by_family.items() if (found["bare"] or 0.0) >= LEAST}
    inside = [row for row in own if row.family in counted]
    other = [row for row in bare if row.family in counted]
    both = _pair(inside, other)
    ratio = both["own"] / both["bare"] if both["bare"] else None
    gained = draws.mean(
        (a, float(a.correct) - float(b.correct)) for a, b in pairs_of(inside, other)
    )
    return Row(
        value=ratio,
        n=len({row.question_id for row in inside}),
        seeds=tuple(sorted({row.seed for row in own})),
        gate=f"{TIMES} x the accuracy of a bare forced close at a quarter of the natural length",
        met=None if ratio is None else ratio >= TIMES,
        detail={
            "accuracy": both["own"],
            "accuracy_bare": both["bare"],
            "points": None if gained is None else gained.mean,
            "points_ci95": None if gained is None else list(gained.ci95),
            "families": sorted(counted),
            "by_family": by_family,
        },
    )


def _pair(own: Sequence[EvalRow], bare: Sequence[EvalRow]) -> Json:
    return {
        "own": metrics.mean(row.correct for row in own),
        "bare": metrics.mean(row.correct for row in bare),
    }
