"""From features to thresholds that are saved with the layer."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from metacog.cli.operating import judged_on, set_operating_point, trace_points
from metacog.config import parse
from metacog.config.decoding import DecodingConfig
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.engine import Engine
from metacog.decode.opening import Opener
from metacog.decode.settings import engine_settings
from metacog.errors import DataError
from metacog.eval.operating_point import Thresholds, budgets, stops
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry.rundir import RunDir
from metacog.train.rollouts import collect_features
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


def decoded(model: MetacogModel, **changes: object) -> MetacogModel:
    return replace(model, decoding=DecodingConfig.model_validate(changes))


@pytest.mark.parametrize("budget", [{"revise": False}, {"reread": "none"}])
def test_what_does_not_act_closes_nothing(tiny_model, budget) -> None:
    points = trace_points(decoded(tiny_model, budget=budget), features_of(tiny_model, [3, 5]))
    eager = Thresholds(100.0, 1000.0, 1e-9, confident=2.0, hopeless=2.0)
    assert stops(points, eager).tolist() == points.natural.tolist()
    acting = trace_points(tiny_model, features_of(tiny_model, [3, 5]))
    assert stops(acting, eager).tolist() == [4, 4]


def test_budgets_are_those_that_serve(tiny_model) -> None:
    features = features_of(tiny_model, [3, 5] * 8)
    how = {"budget": {"min_think": 3}, "plan": {"scale": {"direct": 0.5, "verify": 0.0}}}
    model = decoded(tiny_model, **how)
    engine = Engine(model, engine_settings(model))
    opener = Opener(model, engine.settings.opening)
    with torch.no_grad():
        reading = model.reader.read(features.prompt_states.float(), telemetry=False)
    served = opener.budgets(reading)
    points = trace_points(model, features)
    assert len(set(reading.chosen.tolist())) > 1
    assert budgets(points, Thresholds(1.0, 0.0, 1e6, 0.0, 0.0)).tolist() == served
    fixed = decoded(
        tiny_model, budget={"use_predicted_budget": False, "max_tokens": 7, "min_tokens": 1}
    )
    free = trace_points(fixed, features)
    assert set(budgets(free, Thresholds(1.0, 0.0, 1e6, 0.0, 0.0))) == {7}


def test_a_trace_that_is_read_every_so_many_tokens_is_cut_there(tiny_model) -> None:
    model = decoded(tiny_model, budget={"reread": "every", "reread_every": 3})
    questions = draw_questions(Split.CALIBRATION, 6, seed=1)
    features = collect_features(model, questions, seed=0, every_token=True)
    points = trace_points(model, features)
    for row, natural in enumerate(points.natural):
        read = points.used[row][points.reread[row] & points.valid[row]]
        assert read.tolist() == list(range(3, int(natural) + 1, 3))


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
