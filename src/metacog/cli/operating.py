"""Brings training and evaluation together: thresholds for a layer that has just been trained."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from metacog.config.decoding import BudgetConfig
from metacog.config.run import RunConfig
from metacog.data.tasks.splits import Split
from metacog.errors import DataError
from metacog.eval.operating_point import OperatingPoint, TracePoints, choose_operating_point
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.calibration import CalibrationBlob
from metacog.telemetry.rundir import RunDir
from metacog.train.collected import Collected
from metacog.train.features import Features
from metacog.train.layer_losses import point_starts
from metacog.train.prepare import VALIDATION_FEATURES, questions_of
from metacog.train.rollouts import collect_features
from metacog.train.schedule import stages_of

MARGIN = 0.003
"""Accuracy that the operating point may lose on validation: under the half point that is allowed."""

_CHUNK = 4096


def operating_point(config: RunConfig, run: RunDir) -> OperatingPoint:
    """Choose the thresholds of a run that has ended, and save them in its `final/`."""
    asked, kept = judged_on(config, run)
    features, reference = validation_features(asked, kept), bare_accuracy(asked, kept)
    final = run.path / "final"
    return set_operating_point(final, final, features, reference=reference)


def judged_on(config: RunConfig, run: RunDir) -> tuple[RunConfig, RunDir]:
    """Return whose validation questions choose an operating point, and the run that has their rollouts.

    In a schedule they are the last stage's, which may ask more of them than the others; what is
    compared with stays the model that the first stage began with.
    """
    if config.run.objective.kind != "schedule":
        return config, run
    last = stages_of(config, run.path)[-1]
    return config.model_copy(update={"data": last.config.data}), RunDir(last.path)


def validation_features(config: RunConfig, run: RunDir) -> Features:
    """Return the validation rollouts that a run made before its first step, or new ones of its end.

    What an earlier end of the run left here is not taken: it may have had another gate or base.
    """
    kept = run.path / VALIDATION_FEATURES
    if VALIDATION_FEATURES.as_posix() in Collected(run, "").digests():
        return Features.load(kept)
    model = load_model(run.path / "final")
    questions = questions_of(config, Split.VALIDATION)
    found = collect_features(model, questions, seed=config.run.seed, every_token=True)
    found.save(kept)
    return found


def bare_accuracy(config: RunConfig, run: RunDir) -> float | None:
    """Return how right the base was before the run, without budget and gate, on validation questions.

    None where the run changed neither gate nor base: its own rollouts say it then.
    """
    model = load_model(run.path / "final")
    if model.gate is None and config.run.objective.kind not in {"practice", "schedule"}:
        return None
    before = load_model(config.model.path, base_path=config.model.base_path)
    bare = MetacogModel(before.base, decoding=model.decoding)
    questions = questions_of(config, Split.VALIDATION)
    found = collect_features(bare, questions, seed=config.run.seed)
    return float(found.ready[point_starts(found)[1:] - 1].mean())


def set_operating_point(
    base: str | Path,
    directory: Path,
    validation: Features,
    *,
    margin: float = MARGIN,
    reference: float | None = None,
) -> OperatingPoint:
    """Choose thresholds on validation rollouts and save them with the layer in a directory."""
    model = load_model(base, layer=directory)
    assert model.reader is not None
    points = trace_points(model, validation)
    point = choose_operating_point(points, margin=margin, reference=reference)
    chosen, layer = point.thresholds, model.reader.layer
    identity = CalibrationBlob.identity(layer)
    blob = CalibrationBlob(
        **{
            **identity.model_dump(),
            "budget_scale": chosen.budget_scale,
            "budget_offset": chosen.budget_offset,
            "needed_scale": chosen.needed_scale,
            "confident_threshold": chosen.confident,
            "hopeless_threshold": chosen.hopeless,
        }
    )
    replace(model, reader=None).with_layer(
        layer, plans=model.reader.plans, gate=model.gate, calibration=blob
    ).save_layer(directory)
    return point


@torch.no_grad()
def trace_points(model: MetacogModel, features: Features) -> TracePoints:
    """Return what the layer says along the traces of features, uncalibrated, and what may act on it.

    Budgets and re-readings are those of the model's decoding: a revision that is switched off, or a
    schedule that reads nowhere, closes nothing.
    """
    assert model.reader is not None
    layer = model.reader.layer
    raws = [
        layer.reread(states.float(), used, telemetry=False)
        for states, used in zip(
            features.point_states.split(_CHUNK), features.used.split(_CHUNK), strict=True
        )
    ]
    readings = [
        model.reader.read(states.float(), telemetry=False)
        for states in features.prompt_states.split(_CHUNK)
    ]
    how, plans = model.decoding, model.reader.plans
    factors = [how.plan.scale.get(name, 1.0) for name in plans]
    chosen = torch.cat([reading.chosen for reading in readings])
    traces = len(chosen)
    given = math.nan if how.budget.use_predicted_budget else float(how.budget.max_tokens)
    starts = point_starts(features)

    def table(values: Tensor, fill: float = 0.0) -> Float[ndarray, "traces longest"]:
        return _table(values.float(), starts, fill)

    return TracePoints(
        used=table(features.used, np.inf),
        valid=table(torch.ones_like(features.used)) > 0,
        reread=table(_revises(how.budget, features)) > 0,
        right=_table(features.right, _token_starts(features), 0.0),
        needed=table(torch.cat([raw.needed for raw in raws])),
        ready=table(torch.cat([raw.ready_raw for raw in raws]).sigmoid().squeeze(-1)),
        gain=table(torch.cat([raw.gain_raw for raw in raws]).sigmoid().squeeze(-1)),
        budget=torch.cat([r.raw.budget for r in readings]).numpy().astype(np.float64),
        factor=np.array(factors)[chosen.numpy()],
        given=np.full(traces, given),
        floor=np.full(traces, float(how.budget.min_think)),
    )


def _revises(budget: BudgetConfig, features: Features) -> Bool[Tensor, " points"]:
    """Return the points at which a re-reading may lower the budget."""
    if not budget.revise or budget.reread == "none":
        return torch.zeros_like(features.line_end)
    if budget.reread == "lines":
        return features.line_end
    return (features.used > 0) & (features.used % budget.reread_every == 0)


def _token_starts(features: Features) -> Int[Tensor, " prompts_and_one"]:
    """Return where each trace's values of every token begin: natural + 1 of them."""
    counts = features.natural.long() + 1
    if len(features.right) != int(counts.sum()):
        raise DataError(
            f"Wanted {int(counts.sum())} values, one after each token of each trace, got "
            f"{len(features.right)}. Collect the features with every_token."
        )
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])


def _table(
    values: Float[Tensor, " points"], starts: Int[Tensor, " prompts_and_one"], fill: float
) -> Float[ndarray, "traces longest"]:
    """Lay points out with a row for each trace."""
    counts = (starts[1:] - starts[:-1]).numpy()
    out = np.full((len(counts), int(counts.max())), fill, dtype=np.float64)
    rows = np.repeat(np.arange(len(counts)), counts)
    columns = np.arange(len(rows)) - np.repeat(starts[:-1].numpy(), counts)
    out[rows, columns] = values.numpy()
    return out
