"""P1 to P6, P10 and P11: what a measurement of all arms says about tokens, caps and escapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metacog.eval import metrics
from metacog.eval.arms import MARGIN, MATCHED
from metacog.eval.contrasts import Resampling, difference, pairs_of, relative
from metacog.eval.proof.row import Json, Row, all_met, at_least, missing
from metacog.eval.rows import EvalRow

AFTER_TRAINING, LAYER_ONLY = (0.40, 0.15), (0.25, 0.10)
"""Least saving against no budget, and against the cheapest constant cap."""
ESCAPES, LOST, CAPS = 0.03, -0.01, 10_000
MORE, FEWER = 0.01, 0.10
"""Accuracy, or share of tokens, that the gate is to gain over each peer."""
PEERS = ("off", "random_gate", "ia3", "lora")
"""What the gate is held against; (IA)^3, and LoRA of the gate's size, learn from the same rows and steps."""


_LEVEL = ("accuracy", "spend_mean", "think_tokens_mean")


@dataclass(frozen=True)
class Peer:
    """Replies without a budget of something that the gate is held against."""

    rows: Sequence[EvalRow]
    about: Mapping[str, Any] = field(default_factory=dict)
    """Its size and how it was trained, where it was."""


def saving(summary: Mapping[str, Any], gates: tuple[float, float]) -> Row:
    """Return P1 or P2: the share of spend that is saved, at accuracy no worse than half a point less."""
    found, held = summary["saving"], summary["noninferiority"]
    cheapest = found["cheapest_constant"]
    return Row(
        value=found["mean"],
        ci95=_pair(found["ci95"]),
        **_size(summary),
        gate=f"saves {gates[0]:.0%} at most {100 * MARGIN} points below uncapped, and {gates[1]:.0%} "
        "against the cheapest constant cap",
        met=all_met(
            held["holds"],
            at_least(found["mean"], gates[0]),
            at_least(cheapest["mean"], gates[1]),
        ),
        bound=held["lower95"],
        detail={
            "against_cheapest_constant": cheapest["mean"],
            "against_cheapest_constant_ci95": cheapest["ci95"],
            "accuracy_difference": held["difference"],
            "right_uncapped": found["right_uncapped"],
            "split": found["split"],
            "natural_over_need": summary["budget"]["natural_over_need"],
            "levels": {
                name: {figure: side[figure] for figure in _LEVEL}
                for name, side in (
                    ("learned", summary),
                    ("uncapped", summary["uncapped"]),
                    ("cheapest_constant", cheapest),
                )
            },
            "prompt_only": {
                "saving": summary["prompt_only"]["saving"]["mean"],
                "holds": summary["prompt_only"]["noninferiority"]["holds"],
            },
        },
    )


def p3(summary: Mapping[str, Any]) -> Row:
    """Return by how much learned budgets beat each baseline at equal spend, the least first."""
    deltas = {name: summary[f"delta_{name}"] for name in MATCHED}
    known = {name: d for name, d in deltas.items() if d["mean"] is not None}
    least = min(known, key=lambda name: known[name]["mean"], default=None)
    return Row(
        value=None if least is None else known[least]["mean"],
        ci95=None if least is None else _pair(known[least]["ci95"]),
        **_size(summary),
        gate="accuracy above constant, label, permuted and permuted within family at equal spend, "
        "every interval above 0",
        met=all_met(*(None if d["ci95"] is None else d["ci95"][0] > 0 for d in deltas.values())),
        detail={
            "least": least,
            "deltas": deltas,
            "oracle_gap": _oracle_gap(summary),
            "prompt_only": {
                name: summary["prompt_only"][f"delta_{name}"]["mean"] for name in MATCHED
            },
        },
    )


def p5(summary: Mapping[str, Any]) -> Row:
    """Return the cap violations over all replies of a measurement.

    The bound is that of no violation in n: 3 / n (the rule of three).
    """
    count, n = summary["cap_violations"], summary["generations"]
    return Row(
        value=float(count),
        **_size(summary),
        gate=f"0 in {CAPS} generations",
        met=count == 0 and n >= CAPS,
        bound=3 / n if count == 0 and n else None,
        detail={"generations": n},
    )


def p6(summary: Mapping[str, Any]) -> Row:
    """Return the share of replies whose reasoning escapes into the answer, or that have no answer."""
    escapes = summary["escapes"]
    shares = [escapes["any"], escapes["after_forced_close"]]
    known = [share for share in shares if share is not None]
    return Row(
        value=max(known, default=None),
        **_size(summary),
        gate=f"<= {ESCAPES:.0%}, of all replies and of those closed by force",
        met=all(share <= ESCAPES for share in known) if known else None,
        detail={"escapes": escapes},
    )


def p10(summary: Mapping[str, Any]) -> Row:
    """Return uncapped accuracy after training less that before."""
    gate = f">= {100 * LOST:.0f} point"
    if summary["gate"] is None:
        return Row(
            value=0.0,
            **_size(summary),
            gate=gate,
            met=True,
            detail={"why": "neither gate nor trained base: uncapped replies are the base's own"},
        )
    found = summary["gate"]["delta_accuracy"]
    return Row(
        value=found["mean"],
        ci95=_pair(found["ci95"]),
        **_size(summary),
        gate=gate,
        met=at_least(found["mean"], LOST),
        bound=summary["gate"]["noninferiority"]["lower95"],
    )


def p11(
    summary: Mapping[str, Any],
    gated: Sequence[EvalRow],
    peers: Mapping[str, Peer],
    draws: Resampling,
) -> Row:
    """Return what the gate does without a budget against gate off, and against its peers.

    Args:
        summary: Of a measurement.
        gated: Its rows without a budget, the gate in place.
        peers: Rows of gate off, a random gate, (IA)^3 and LoRA to the same questions, by name, where
            they were run.
        draws: How intervals are drawn.
    """
    gate = "+1 point or -10 % tokens against gate off, and against each peer"
    if summary["gate"] is None:
        return missing(gate, "the model has no gate")
    gains = {name: _gain(gated, peer, draws) for name, peer in peers.items()}
    return Row(
        value=summary["gate"]["saving"]["mean"],
        ci95=_pair(summary["gate"]["saving"]["ci95"]),
        **_size(summary),
        gate=gate,
        met=all_met(
            *(_wins(gain) for gain in gains.values()),
            *(None for name in PEERS if name not in gains),
        ),
        detail={
            "against": gains,
            "not_measured": [name for name in PEERS if name not in gains],
        },
    )


def _gain(gated: Sequence[EvalRow], peer: Peer, draws: Resampling) -> Json:
    """Return the gate's accuracy less a peer's, and the share of its tokens that the gate saves."""
    pairs = pairs_of(gated, peer.rows)
    return {
        "accuracy": difference(pairs, draws),
        "saving": relative(pairs, draws),
        "peer": {
            "accuracy": metrics.mean(row.correct for row in peer.rows),
            "spend": metrics.mean(row.spend for row in peer.rows),
            **peer.about,
        },
    }


def _wins(gain: Json) -> bool | None:
    more, saved = gain["accuracy"]["mean"], gain["saving"]["mean"]
    return None if more is None or saved is None else bool(more >= MORE or saved >= FEWER)


def _oracle_gap(summary: Mapping[str, Any]) -> float | None:
    """Return the share of the way from the best constant cap to the oracle."""
    oracle, constant = summary.get("oracle"), summary["constant"]["accuracy_at_equal_spend"]
    if oracle is None or constant is None or oracle["accuracy_at_equal_spend"] <= constant:
        return None
    gained = summary["accuracy"] - constant
    return float(gained / (oracle["accuracy_at_equal_spend"] - constant))


def _size(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {"n": summary["n"], "seeds": tuple(summary["seeds"])}


def _pair(ci95: Any) -> tuple[float, float] | None:
    return None if ci95 is None else (ci95[0], ci95[1])
