"""From features to thresholds that are saved with the layer."""

import math
from dataclasses import replace

import numpy as np
import pytest

from metacog.cli.operating import judged_on, set_operating_point, trace_points
from metacog.config import parse
from metacog.errors import DataError
from metacog.model.bundle import load_model
from metacog.telemetry.rundir import RunDir
from metacog.train.schedule import stages_of
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


def test_a_schedule_is_judged_on_the_questions_of_its_last_stage(tmp_path) -> None:
    stages = [
        {"objective": {"kind": "imitate", "traces": "own"}, "steps": 1},
        {"objective": {"kind": "reread"}, "num_prompts": 90, "steps": 1},
    ]
    document = {
        "model": {"path": "nano"},
        "data": {"tasks": ["aiw"], "num_prompts": 20},
        "adaptation": {"unfreeze_all": True},
        "plan": {"scale": {}},
        "sampling": {"temperature": 0.6, "top_p": 1.0},
        "run": {"warmup": 0, "objective": {"kind": "schedule", "stages": stages}},
    }
    config, run = parse(document, source="test"), RunDir(tmp_path)
    asked, kept = judged_on(config, run)
    assert (asked.data.num_prompts, kept.path) == (90, tmp_path / "2-reread")
    # The base was changed by the stages together: what it is held against is what they began with.
    assert (asked.model, asked.run) == (config.model, config.run)
    single = config.model_copy(update={"run": stages_of(config, tmp_path)[0].config.run})
    assert judged_on(single, run) == (single, run)
