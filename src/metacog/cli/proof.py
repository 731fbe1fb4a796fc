"""Brings measurement, evidence and rows together: the P table of a model."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from metacog.cli.measure import Size, bare_of
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.eval.arms import GATED, GATED_ARM, UNCAPPED
from metacog.eval.baselines.random_gate import random_gate
from metacog.eval.contrasts import Resampling
from metacog.eval.evidence import Evidence, collect_evidence
from metacog.eval.margins import margin_summaries
from metacog.eval.proof.aggregation import p12
from metacog.eval.proof.budgets import p7
from metacog.eval.proof.confidence import p8a, p8b, p9
from metacog.eval.proof.plans import run_plans
from metacog.eval.proof.quarter import p4, quarter_arms, quarter_caps
from metacog.eval.proof.row import Json, Row, missing
from metacog.eval.proof.savings import (
    AFTER_TRAINING,
    LAYER_ONLY,
    Peer,
    p3,
    p5,
    p6,
    p10,
    p11,
    saving,
)
from metacog.eval.proof.specialisation import p13
from metacog.eval.proof.stopping import decoded_rules, stopping_rules
from metacog.eval.proof.table import p8, table
from metacog.eval.proof.view import view_of
from metacog.eval.protocol import Measurement
from metacog.eval.rows import EvalRow
from metacog.eval.runner import Runner
from metacog.eval.setup import setup_of
from metacog.model.bundle import MetacogModel, load_model
from metacog.train.rivals import KINDS, Rows, rows_of, train_rival

Tell = Callable[[str], None]
OWN, TRAINED, FROZEN = "own", "trained", "frozen"
"""Whose rows on many questions a summary is made of."""


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


@dataclass(frozen=True)
class Beside:
    """Other models that the rows are made with, where there are any."""

    against: MetacogModel | None = None
    """Whose bare base a user would have instead; None for the model's own."""
    trained: MetacogModel | None = None
    """With a trained base, for P1 and P10; None for the model itself."""
    frozen: MetacogModel | None = None
    """With a frozen base and a layer, for P2, its gate off; None for the model itself, unless its base
    is compared with another."""


def _on_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def load_beside(*, against: str | None, trained: str | None, frozen: str | None) -> Beside:
    """Return the models of these names, None where there is no name."""

    def loaded(name: str | None) -> MetacogModel | None:
        return None if name is None else load_model(name)

    return Beside(loaded(against), loaded(trained), loaded(frozen))


def prove(
    model: MetacogModel,
    found: Measurement,
    summary: Json,
    size: Size,
    proof: ProofSize,
    *,
    beside: Beside = Beside(),
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
    margins = margin_summaries_of(model, bare, found, summary, size, proof, beside, tell)
    rows: dict[str, Row] = {
        **margin_rows(margins),
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
    confidence = margins[OWN]["confidence"]
    return table(rows | _readings(model, fit, test, confidence, size, proof, tell))


def margin_summaries_of(
    model: MetacogModel,
    bare: MetacogModel,
    found: Measurement,
    summary: Json,
    size: Size,
    proof: ProofSize,
    beside: Beside,
    tell: Tell,
) -> dict[str, Json]:
    """Return summaries on many questions: of the model, the trained one, and a frozen base's layer.

    The arguments are those of `prove`. Without a trained model the model stands for it; without a frozen
    one the model without its gate, unless its base is compared with another.
    """
    frozen = beside.frozen
    if frozen is None and beside.against is None:
        frozen = model
    sides = {OWN: model}
    if beside.trained is not None:
        sides[TRAINED] = beside.trained
    if frozen is not None:
        sides[FROZEN] = replace(frozen, gate=None)
    tell(f"P1, P2, P9 and P10: {proof.margin} questions")
    questions = draw_questions(size.split, proof.margin, families=size.families)
    run = {
        name: (
            Runner(setup_of(side), questions, size.seeds[:1]),
            side.gate is not None or side.base.digest != bare.base.digest,
        )
        for name, side in sides.items()
    }
    return margin_summaries(
        Runner(setup_of(bare), questions, size.seeds[:1]),
        run,
        found.fixed.cheapest_constant,
        natural_over_need=summary["budget"]["natural_over_need"],
    )


def margin_rows(margins: Mapping[str, Json]) -> dict[str, Row]:
    """Return P1, P2 and P10."""
    trained = margins.get(TRAINED, margins[OWN])
    return {
        "P1": saving(trained, AFTER_TRAINING),
        "P2": saving(margins[FROZEN], LAYER_ONLY)
        if FROZEN in margins
        else missing("a frozen base with its layer alone", "name one with --frozen"),
        "P10": p10(trained),
    }


def _readings(
    model: MetacogModel,
    fit: Evidence,
    test: Evidence,
    confidence: Json,
    size: Size,
    proof: ProofSize,
    tell: Tell,
) -> dict[str, Row]:
    """Return the rows that are made of uncapped replies."""
    assert model.reader is not None
    said = view_of(model, test)
    tell("P7 to P9: baselines of budget and confidence")
    found = {
        "P7": p7(fit, test, said, view_of(model, fit)),
        "P8": p8(p8a(fit, test, said), p8b(fit, test, said)),
        "P9": p9(confidence, test, said),
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
