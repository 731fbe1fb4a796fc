"""From rollouts to a calibration that is saved with its layer and refused for another."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metacog.cli.calibration import Wanted, fit_blob, place_of
from metacog.errors import CalibrationError, InputError
from metacog.eval.risk import thirds
from metacog.model.bundle import load_model
from metacog.model.places import BUNDLED
from tests.unit.cli.traces import features_of

LENGTHS = [3, 4, 5, 6, 7] * 24


@pytest.fixture(scope="module")
def fitted(tiny_model):
    features = features_of(tiny_model, LENGTHS)
    features = replace(features, need=features.natural)
    return features, *fit_blob(tiny_model, features, Wanted(seed=0))


def test_the_blob_is_bound_to_its_layer_and_says_what_it_was_fitted_to(
    tiny_model, tiny_directory, tmp_path, fitted
) -> None:
    _, blob, _ = fitted
    layer, plans = tiny_model.reader.layer, tiny_model.reader.plans
    bare = replace(tiny_model, reader=None)
    bare.with_layer(layer, plans=plans, gate=tiny_model.gate, calibration=blob).save_layer(tmp_path)
    loaded = load_model(tiny_directory, layer=tmp_path).reader.calibration
    assert loaded == blob
    assert loaded.fitted.questions == len(LENGTHS)
    assert loaded.fitted.coverage == 0.9
    other = deepcopy(layer)
    with torch.no_grad():
        other.heads.budget.bias += 1
    with pytest.raises(CalibrationError, match="The layer has changed"):
        blob.require(other)


def test_the_covering_scale_covers_the_share_it_promises(tiny_model, fitted) -> None:
    features, blob, account = fitted
    raw = tiny_model.reader.layer.read(features.prompt_states.float()).budget
    covered = blob.covering(raw).round() >= features.need
    assert account["coverage_scale"] == blob.coverage_scale
    assert 0.85 <= covered.float().mean() <= 1.0


def test_confidence_is_better_than_before(fitted) -> None:
    _, blob, account = fitted
    assert account["brier"][blob.fitted.confidence] < account["brier"]["uncalibrated"]


def test_the_covering_budget_is_enforced_where_that_is_asked_for(tiny_model, fitted) -> None:
    features, blob, _ = fitted
    enforced, _ = fit_blob(tiny_model, features, Wanted(seed=0, enforce_coverage=True))
    assert blob.budget_scale == tiny_model.reader.calibration.budget_scale
    assert (enforced.budget_scale, enforced.budget_offset) == (blob.coverage_scale, 0.0)


def test_a_covering_budget_that_cannot_be_is_refused(tiny_model, fitted) -> None:
    features, _, _ = fitted
    unknown = replace(features, need=torch.full_like(features.need, torch.nan))
    with pytest.raises(InputError, match=r"got 0 known needs.*Name more questions"):
        fit_blob(tiny_model, unknown, Wanted(seed=0, enforce_coverage=True))


def test_the_risk_of_a_covering_budget_is_tested_on_other_traces(tiny_model, fitted) -> None:
    features, _, _ = fitted
    wanted = Wanted(seed=0, enforce_coverage=True, risk=0.3)
    both, _ = fit_blob(tiny_model, features, wanted)
    third = thirds(len(features.need), 0)[2].tolist()
    longer = features.need.clone()
    longer[third] *= 100
    other, _ = fit_blob(tiny_model, replace(features, need=longer), wanted)
    assert both.fitted.risk == 0.3
    assert other.budget_scale == both.budget_scale == both.coverage_scale


def test_a_risk_that_cannot_be_kept_turns_revisions_off(tiny_model, fitted) -> None:
    features, _, _ = fitted
    strict, account = fit_blob(tiny_model, features, Wanted(seed=0, risk=0.001))
    assert (strict.confident_threshold, strict.hopeless_threshold) == (0.0, 0.0)
    assert strict.fitted.risk is None
    assert account["loss_where_tested"] is None
    loose, account = fit_blob(tiny_model, features, Wanted(seed=0, risk=0.3))
    assert loose.fitted.risk == 0.3
    assert loose.fitted.risk_confidence == 0.95
    assert account["loss_where_tested"] <= 0.3
    assert account["think_tokens"] <= np.mean([4 * (length - 1) for length in LENGTHS])


def test_bundled_layers_and_checkpoints_stay_as_they_are(tmp_path) -> None:
    with pytest.raises(InputError, match="--out"):
        place_of("nano", None)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="--out"):
        place_of("nano", tmp_path)
    other = Path(BUNDLED["nano"]).parent
    assert place_of("nano", other) == other
