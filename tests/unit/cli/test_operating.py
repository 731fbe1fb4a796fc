"""From features to thresholds that are saved with the layer."""

import math
from dataclasses import replace

import numpy as np
import pytest

from metacog.cli.operating import set_operating_point, trace_points
from metacog.errors import DataError
from metacog.model.bundle import load_model
from tests.unit.cli.traces import features_of


def test_points_are_laid_out_a_row_for_each_trace(tiny_model) -> None:
    features = features_of(tiny_model, [3, 5])
    points = trace_points(tiny_model, features)
    assert points.used.tolist() == [[0, 4, 8, math.inf, math.inf], [0, 4, 8, 12, 16]]
    assert points.valid.sum(axis=1).tolist() == [3, 5]
    assert points.reread[:, 0].tolist() == [False, False]
    layer = tiny_model.reader.layer
    one = layer.reread(features.point_states[4:5].float(), features.used[4:5])
    assert np.isclose(points.ready[1, 1], one.ready_raw.sigmoid().item(), atol=1e-5)
    assert np.isclose(points.needed[1, 1], one.needed.item(), rtol=1e-4)


def test_values_of_other_traces_are_refused(tiny_model) -> None:
    features = features_of(tiny_model, [3, 5])
    with pytest.raises(DataError, match=r"Wanted 26 values.* got 25"):
        trace_points(tiny_model, replace(features, right=features.right[:-1]))


def test_thresholds_are_saved_and_hold_after_loading(tiny_model, tmp_path) -> None:
    tiny_model.save_layer(tmp_path)
    features = features_of(tiny_model, [6, 9, 12])
    point = set_operating_point(tiny_model.base.path, tmp_path, features, margin=0.0)
    # Every trace is right from 4 tokens on, so almost all of it can be saved at no loss.
    assert point.accuracy == point.reference_accuracy == 1.0
    assert point.think_tokens < point.uncapped_think_tokens
    loaded = load_model(tiny_model.base.path, layer=tmp_path)
    assert loaded.reader is not None
    blob = loaded.reader.calibration
    assert blob.confident_threshold == point.thresholds.confident
    assert blob.budget_scale == point.thresholds.budget_scale
