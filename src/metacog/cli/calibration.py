"""Brings rollouts and fits together: a calibration blob for a layer."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from metacog.cli.operating import trace_points
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.splits import Split
from metacog.errors import InputError, ModelError
from metacog.eval.calibrate import (
    covering_scale,
    fit_clip,
    fit_confidence,
    fit_plan_thresholds,
)
from metacog.eval.familiarity import fit_familiarity
from metacog.eval.operating_point import (
    Thresholds,
    TracePoints,
    budgets,
    outcome,
    right_at,
    stops,
)
from metacog.eval.risk import (
    DELTA,
    Controlled,
    candidates_around,
    control_risk,
    halves,
    never_acting,
    policy_table,
    thirds,
)
from metacog.model.bundle import MetacogModel
from metacog.model.calibration import VERSION, CalibrationBlob, layer_digest
from metacog.model.fitted import FittedTo
from metacog.model.places import BUNDLED, resolve_model
from metacog.telemetry.manifest import is_checkpoint
from metacog.train.features import Features
from metacog.train.plans import plan_labels, with_plans
from metacog.train.rollouts import Progress, collect_features


@dataclass(frozen=True)
class Wanted:
    """What a calibration is to hold, and how much it is fitted to."""

    n: int = 3000
    """Questions of the calibration split."""
    plan_prompts: int = 300
    """Those of them on which every plan is tried."""
    coverage: float = 0.9
    """Share of needs that the covering scale covers."""
    enforce_coverage: bool = False
    """Enforce the covering budget instead of the operating point's."""
    risk: float | None = None
    """Probability of losing an answer that is right uncapped; None keeps the thresholds there are."""
    seed: int = 1
    families: tuple[str, ...] = tuple(FAMILIES)


def place_of(model: str, layer: Path | None) -> Path:
    """Return the directory that a calibration is saved in where none is named.

    Raises:
        InputError: If what lies there may not change.
    """
    place = resolve_model(model)
    directory = layer or place.layer
    is_read_only = directory in BUNDLED.values() or is_checkpoint(directory)
    if is_read_only or (layer is None and not Path(model).is_dir()):
        raise InputError(
            f"Wanted a layer whose calibration may change, got {directory}, which is bundled, of the "
            "hub, or a checkpoint that knows its files by their digests. Name a directory with --out, and use "
            "it with --layer."
        )
    return directory


def calibrate_model(
    model: MetacogModel, wanted: Wanted, progress: Progress | None = None
) -> tuple[MetacogModel, dict[str, Any]]:
    """Return the model with a calibration fitted to its own rollouts, and an account of the fit.

    Raises:
        ModelError: If the model has no layer.
    """
    if model.reader is None:
        raise ModelError(
            f"Wanted a model with a layer to calibrate, got the bare base {model.base.path}. "
            "Train one: metacog train recipes/layer.yaml."
        )
    questions = draw_questions(
        Split.CALIBRATION, wanted.n, seed=wanted.seed, families=wanted.families
    )
    features = collect_features(
        model, questions, seed=wanted.seed, every_token=True, progress=progress
    )
    tried = questions[: wanted.plan_prompts]
    labels = plan_labels(model, tried, model.reader.plans, seed=wanted.seed) if tried else {}
    blob, account = fit_blob(model, with_plans(features, labels), wanted)
    layer, plans = model.reader.layer, model.reader.plans
    calibrated = replace(model, reader=None).with_layer(
        layer,
        plans=plans,
        gate=model.gate,
        calibration=blob,
        familiarity=fit_familiarity(features.prompt_states, seed=wanted.seed),
    )
    return calibrated, account


def fit_blob(
    model: MetacogModel, features: Features, wanted: Wanted
) -> tuple[CalibrationBlob, dict[str, Any]]:
    """Return the blob that fits a layer's outputs on calibration rollouts, and an account of it.

    Clip, plan thresholds and the order of the candidates come from one half of the traces, scale and
    risk from the other; where the risk is that of the covering budget, each has a third of its own.
    Confidence, which promises nothing for finite samples, comes from all.

    Raises:
        InputError: If the covering budget is to be enforced and there is none.
    """
    assert model.reader is not None
    layer, old = model.reader.layer, model.reader.calibration
    first, second, tested = _parts(len(features.need), wanted)
    plan = _plans(model, features)
    thresholds = fit_plan_thresholds(plan[first], features.plan.numpy()[first])
    points = trace_points(_with_plan_thresholds(model, thresholds), features)
    need = features.need.numpy().astype(np.float64)
    clip = fit_clip(need[first], (float(layer.shape.budget_min), float(layer.shape.budget_max)))
    scale = _covering(points.budget[second], need[second], clip, wanted)
    fixed = _budget_thresholds(old, scale if wanted.enforce_coverage else None, clip)
    controlled = _controlled(points, fixed, (first, tested), wanted.risk)
    chosen = _chosen(fixed, controlled, wanted.risk)
    logits = _logits(model, features, budgets(points, chosen))
    fit, scores = fit_confidence(
        logits, right_at(points, stops(points, chosen)), features.question.numpy()
    )
    fitted = FittedTo(
        questions=len(set(features.question.tolist())),
        confidence=fit.kind,
        coverage=None if scale is None else wanted.coverage,
        **_promised(wanted.risk, controlled),
    )
    blob = old.model_copy(
        update={
            "version": VERSION,
            "heads_sha256": layer_digest(layer),
            "plan_thresholds": thresholds,
            "budget_scale": chosen.budget_scale,
            "budget_offset": chosen.budget_offset,
            "budget_clip": clip,
            "coverage_scale": scale,
            "confidence_temperature": fit.temperature,
            "confidence_bias": fit.bias,
            "confidence_knots": fit.knots,
            "needed_scale": chosen.needed_scale,
            "confident_threshold": chosen.confident,
            "hopeless_threshold": chosen.hopeless,
            "fitted": fitted,
        }
    )
    return _checked(blob), {
        "fitted": fitted.model_dump(),
        "brier": scores,
        "coverage_scale": scale,
        "thresholds": asdict(chosen),
        "plan_thresholds": blob.plan_thresholds,
        **_account(points, chosen, controlled),
    }


def _promised(risk: float | None, controlled: Controlled | None) -> dict[str, float | None]:
    kept = controlled is not None
    return {"risk": risk if kept else None, "risk_confidence": 1 - DELTA if kept else None}


def _covering(
    budget: Float[ndarray, " traces"],
    need: Float[ndarray, " traces"],
    clip: tuple[float, float],
    wanted: Wanted,
) -> float | None:
    """Return the covering scale; none is no answer where it is to be enforced."""
    scale = covering_scale(budget, need, clip=clip, level=wanted.coverage)
    if wanted.enforce_coverage and scale is None:
        raise InputError(
            f"Wanted a budget that covers {wanted.coverage:.0%} of needs, got "
            f"{np.isfinite(need).sum()} known needs, too few or too long for it. Name more questions "
            "with --n, or less --coverage."
        )
    return scale


def _parts(traces: int, wanted: Wanted) -> tuple[ndarray, ndarray, ndarray]:
    """Return the traces that order, those that the scale is fitted to, and those that risk is tested on."""
    if wanted.enforce_coverage and wanted.risk is not None:
        return thirds(traces, wanted.seed)
    first, second = halves(traces, wanted.seed)
    return first, second, second


def _with_plan_thresholds(model: MetacogModel, thresholds: tuple[float, ...]) -> MetacogModel:
    assert model.reader is not None
    blob = model.reader.calibration.model_copy(update={"plan_thresholds": thresholds})
    return replace(model, reader=None).with_layer(
        model.reader.layer, plans=model.reader.plans, gate=model.gate, calibration=blob
    )


def _checked(blob: CalibrationBlob) -> CalibrationBlob:
    """Return the blob as loading it would: a copy skips the checks of its fields."""
    return CalibrationBlob.model_validate_json(blob.model_dump_json())


def _budget_thresholds(
    old: CalibrationBlob, scale: float | None, clip: tuple[float, float]
) -> Thresholds:
    """Return the thresholds in force, with the covering budget instead where its scale is given."""
    return Thresholds(
        budget_scale=old.budget_scale if scale is None else scale,
        budget_offset=old.budget_offset if scale is None else 0.0,
        needed_scale=old.needed_scale,
        confident=old.confident_threshold,
        hopeless=old.hopeless_threshold,
        clip=clip,
    )


def _controlled(
    points: TracePoints,
    fixed: Thresholds,
    parts: tuple[ndarray, ndarray],
    risk: float | None,
) -> Controlled | None:
    if risk is None:
        return None
    table = policy_table(points, candidates_around(fixed))
    return control_risk(table, *parts, risk=risk)


def _chosen(fixed: Thresholds, controlled: Controlled | None, risk: float | None) -> Thresholds:
    """Return what was asked for: where a risk can't be kept, re-readings that change nothing."""
    if risk is None:
        return fixed
    return never_acting(fixed) if controlled is None else controlled.thresholds


@torch.no_grad()
def _logits(
    model: MetacogModel, features: Features, enforced: Float[ndarray, " traces"]
) -> Float[ndarray, " traces"]:
    """Return the raw confidences at the enforced budgets."""
    assert model.reader is not None
    reading = model.reader.layer.read(
        features.prompt_states.float(), torch.from_numpy(enforced).float(), telemetry=False
    )
    return reading.conf_raw.squeeze(-1).numpy().astype(np.float64)


@torch.no_grad()
def _plans(model: MetacogModel, features: Features) -> Float[ndarray, "traces plans"]:
    assert model.reader is not None
    reading = model.reader.layer.read(features.prompt_states.float(), telemetry=False)
    return reading.plan_logits.softmax(-1).numpy().astype(np.float64)


def _account(
    points: TracePoints, chosen: Thresholds, controlled: Controlled | None
) -> dict[str, Any]:
    """Return what the thresholds do on these traces."""
    accuracy, tokens = outcome(points, chosen)
    return {
        "accuracy": accuracy,
        "accuracy_uncapped": float(right_at(points, points.natural).mean()),
        "think_tokens": tokens,
        "think_tokens_uncapped": float(points.natural.mean()),
        "loss_where_tested": None if controlled is None else controlled.loss,
    }
