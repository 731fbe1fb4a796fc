"""Brings measurement, evidence and rows together: the P table of a model."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from metacog.cli.margins import OWN, Beside, margin_rows, margin_summaries_of
from metacog.cli.measure import Size, bare_of
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.eval.arms import GATED, GATED_ARM, UNCAPPED
from metacog.eval.baselines.random_gate import random_gate
from metacog.eval.contrasts import Resampling
from metacog.eval.evidence import Evidence, collect_evidence
from metacog.eval.proof.aggregation import p12
from metacog.eval.proof.budgets import p7
from metacog.eval.proof.confidence import p8a, p8b, p9
from metacog.eval.proof.plans import run_plans
from metacog.eval.proof.quarter import p4, quarter_arms, quarter_caps
from metacog.eval.proof.row import Json, Row
from metacog.eval.proof.savings import (
    Peer,
    p3,
    p5,
    p6,
    p11,
)
from metacog.eval.proof.specialisation import p13
from metacog.eval.proof.stopping import decoded_rules, stopping_rules
from metacog.eval.proof.table import p8, table
from metacog.eval.proof.view import view_of
from metacog.eval.protocol import Measurement
from metacog.eval.rows import EvalRow
from metacog.eval.runner import Runner
from metacog.eval.setup import setup_of
from metacog.model.bundle import MetacogModel
from metacog.train.rivals import KINDS, Rows, rows_of, train_rival

Tell = Callable[[str], None]
_NOTHING = Beside()


@dataclass(frozen=True)
class ProofSize:
    """How much the rows beyond a measurement's own are made of."""

    fit: int = 4000
    """Questions of the layer-train split that baselines and aggregators are fitted to."""
    margin: int = 12_000
    """Test questions of P1, P2, P9 and P10, one reply each: accuracy to half a point."""
    test: int = 1000
    """Test questions of P4, P7, P8, P12 and P13."""
    plans: int = 300
    """Test questions on which every plan is forced."""
    peers: int = 0
    """Layer-train questions whose replies the gate's peers of P11 learn from; 0 trains none."""
    trials: int = 200
    """Test questions that are answered from every line end, and by vote."""


def _on_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def prove(
    model: MetacogModel,
    found: Measurement,
    summary: Json,
    size: Size,
    proof: ProofSize,
    *,
    beside: Beside = _NOTHING,
    tell: Tell = _on_stderr,
) -> dict[str, Json]:
    """Return the rows P1 to P13.

    Args:
        model: With its layer.
        found: A measurement of the model.
        summary: Its summary.
        size: Of the measurement: families and sampling seeds.
        proof: Of everything else.
        beside: Other models that the rows are made with.
        tell: Told what is being done; by default in lines on stderr.
    """
    bare = bare_of(model, beside.against) or model
    tell(f"P1, P2, P9 and P10: {proof.margin} questions")
    margins = margin_summaries_of(
        model,
        bare,
        beside,
        draw_questions(size.split, proof.margin, families=size.families),
        size.seeds[:1],
        cheapest=found.fixed.cheapest_constant,
        natural_over_need=summary["budget"]["natural_over_need"],
    )
    rows: dict[str, Row] = {
        **margin_rows(margins, model, beside),
        "P3": p3(summary),
        "P5": p5(summary),
        "P6": p6(summary),
        "P11": p11(
            summary,
            [row for row in found.rows if row.arm == GATED],
            gate_peers(model, bare, found, size, proof, tell),
            Resampling(),
        ),
    }
    tell("P4: caps of a quarter")
    rows["P4"] = _quarter(model, bare, found, size, proof)
    tell(f"replies to {proof.fit} questions that baselines are fitted to")
    fit = _evidence(model, Split.LAYER_TRAIN, proof.fit, size, size.seeds[:1], tell)
    tell(f"replies to {proof.test} test questions")
    test = _evidence(model, size.split, proof.test, size, size.seeds, tell)
    rules = stopping_rules(fit, test, summary["think_tokens_mean"])
    if proof.trials:
        tell("P3: trial answers and votes")
        before = draw_questions(Split.CALIBRATION, proof.trials, families=size.families)
        asked = draw_questions(size.split, proof.trials, families=size.families)
        think, spend = summary["think_tokens_mean"], summary["spend_mean"]
        rules |= decoded_rules(bare, before, asked, think=think, spend=spend)
    rows["P3"] = replace(rows["P3"], detail={**rows["P3"].detail, "stopping_rules": rules})
    return table(rows | _readings(model, fit, test, margins[OWN], size, proof, tell))


def _readings(
    model: MetacogModel,
    fit: Evidence,
    test: Evidence,
    learned: Json,
    size: Size,
    proof: ProofSize,
    tell: Tell,
) -> dict[str, Row]:
    """Return the rows on what the layer knows; `learned` sums up its replies under its own budgets."""
    assert model.reader is not None
    said = view_of(model, test)
    tell("P7 to P9: baselines of budget and confidence")
    found = {
        "P7": p7(fit, test, said, view_of(model, fit)),
        "P8": p8(p8a(fit, test, said), p8b(fit, test, said)),
        "P9": p9(learned["confidence"], test, said, confidence_seeds=tuple(learned["seeds"])),
    }
    tell("P12: aggregators trained side by side")
    quantile, shape = model.decoding.budget.quantile, model.reader.layer.shape
    found["P12"] = p12(fit, test, shape, quantile=quantile)
    tell("P13: every plan on the same questions")
    asked = draw_questions(size.split, proof.plans, families=size.families) if proof.plans else []
    found["P13"] = p13(test, said, run_plans(model, asked) if asked else None)
    return found


def _evidence(
    model: MetacogModel, split: Split, n: int, size: Size, seeds: tuple[int, ...], tell: Tell
) -> Evidence:
    questions = draw_questions(split, n, families=size.families)
    done = 0

    def count(made: int) -> None:
        nonlocal done
        done += made
        tell(f"{done} of {n * len(seeds)} replies")

    return collect_evidence(model, questions, seeds, progress=count)


def gate_peers(
    model: MetacogModel,
    bare: MetacogModel,
    found: Measurement,
    size: Size,
    proof: ProofSize,
    tell: Tell,
) -> dict[str, Peer]:
    """Return what a random gate of equal norm, (IA)^3 and LoRA reply without a budget, and no gate.

    Nothing for a model without a gate; adapters only where they are to be trained.
    """
    if model.gate is None:
        return {}
    questions = draw_questions(size.split, size.n, families=size.families)

    def replies_of(other: MetacogModel) -> list[EvalRow]:
        runner = Runner(setup_of(other), questions, size.seeds)
        return runner.run(GATED_ARM, runner.unknown_needs())

    tell("P11: a random gate of equal norm")
    peers = {
        "off": Peer([row for row in found.rows if row.arm == UNCAPPED]),
        "random_gate": Peer(replies_of(replace(model, gate=random_gate(model.gate)))),
    }
    rows = _gate_rows(bare, size, proof, tell) if proof.peers else Rows([], [])
    if rows.train and rows.validation:
        for kind in KINDS:
            tell(f"P11: {kind} on the gate's rows")
            rival = train_rival(replace(bare, gate=model.gate), kind, rows)
            about = {
                "parameters": rival.parameters,
                "learning_rate": rival.rate,
                "validation_loss": rival.loss,
                "replies": len(rows.train),
                "steps": rows.steps,
            }
            peers[kind] = Peer(replies_of(rival.model), about)
    return peers


def _gate_rows(bare: MetacogModel, size: Size, proof: ProofSize, tell: Tell) -> Rows:
    train = draw_questions(Split.LAYER_TRAIN, proof.peers, families=size.families)
    held = draw_questions(Split.VALIDATION, max(1, proof.peers // 10), families=size.families)
    return rows_of(
        bare,
        train,
        held,
        progress=lambda done, total, _: tell(f"P11: {done} of {total} questions rolled out"),
    )


def _quarter(
    model: MetacogModel, bare: MetacogModel, found: Measurement, size: Size, proof: ProofSize
) -> Row:
    uncapped = [row for row in found.rows if row.arm == UNCAPPED]
    own_arm, bare_arm = quarter_arms(quarter_caps(uncapped))
    questions = draw_questions(size.split, proof.test, families=size.families)
    budget = model.decoding.budget
    landing = budget.landing.model_copy(update={"enabled": True})
    how = model.decoding.model_copy(
        update={"budget": budget.model_copy(update={"landing": landing})}
    )
    landed = Runner(setup_of(replace(model, decoding=how)), questions, size.seeds)
    own = landed.run(own_arm, landed.unknown_needs())
    other = Runner(setup_of(bare), questions, size.seeds).run(bare_arm, landed.unknown_needs())
    return p4(own, other, Resampling())
