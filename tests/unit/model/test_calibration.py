import json
import math
from dataclasses import fields

import pytest
import torch
from jaxtyping import TypeCheckError
from pydantic import ValidationError

from metacog.errors import CalibrationError
from metacog.model.calibration import (
    CalibratedReading,
    CalibrationBlob,
    layer_digest,
    load_calibration,
    save_calibration,
)
from metacog.model.outputs import LayerOutput

CHANGES = {
    "plan_thresholds": (0.5, 0.4, 0.9),
    "budget_scale": 1.5,
    "budget_offset": -20.0,
    "budget_clip": (30.0, 120.0),
    "confidence_temperature": 2.0,
    "confidence_bias": -0.5,
    "ready_temperature": 0.5,
    "ready_bias": 0.25,
    "gain_temperature": 4.0,
    "gain_bias": 1.0,
    "needed_scale": 0.7,
    "confident_threshold": 0.8,
    "hopeless_threshold": 0.6,
}


@pytest.fixture
def blob(layer) -> CalibrationBlob:
    return CalibrationBlob(**(CalibrationBlob.identity(layer).model_dump() | CHANGES))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_identity_changes_nothing(layer, states) -> None:
    blob, raw = CalibrationBlob.identity(layer), layer.read(states)
    reading = blob.apply(raw)
    assert torch.equal(reading.budget_tokens, raw.budget)
    assert torch.equal(reading.confidence, raw.conf_raw.sigmoid().squeeze(-1))
    assert torch.equal(reading.chosen, raw.plan_logits.argmax(dim=-1))
    again = layer.reread(states, torch.ones(4))
    calibrated = blob.apply_to_rereading(again)
    assert torch.equal(calibrated.needed_tokens, again.needed)
    assert torch.equal(calibrated.ready, again.ready_raw.sigmoid().squeeze(-1))
    assert not calibrated.confident.any()
    assert not calibrated.hopeless.any()


def test_every_number_does_what_the_equation_says(layer, states, blob) -> None:
    raw, again = layer.read(states), layer.reread(states, torch.ones(4))
    reading, rereading = blob.apply(raw), blob.apply_to_rereading(again)
    for row in range(4):
        budget = min(max(1.5 * raw.budget[row].item() - 20, 30), 120)
        assert reading.budget_tokens[row].item() == pytest.approx(budget, rel=1e-5)
        confidence = sigmoid(raw.conf_raw[row].item() / 2 - 0.5)
        assert reading.confidence[row].item() == pytest.approx(confidence, rel=1e-5)
        ready = sigmoid(again.ready_raw[row].item() / 0.5 + 0.25)
        assert rereading.ready[row].item() == pytest.approx(ready, rel=1e-5)
        gain = sigmoid(again.gain_raw[row].item() / 4 + 1)
        assert rereading.gain[row].item() == pytest.approx(gain, rel=1e-5)
        needed = again.needed[row].item()
        assert rereading.needed_tokens[row].item() == needed
        assert rereading.allowed_tokens[row].item() == pytest.approx(0.7 * needed, rel=1e-5)
        assert rereading.confident[row].item() is (ready >= 0.5 and gain < 0.8)
        assert rereading.hopeless[row].item() is (ready < 0.5 and gain < 0.6)


@pytest.mark.parametrize(
    ("plan", "chosen"),
    [
        ((0.5, 0.3, 0.2), 0),  # the likeliest passes
        ((0.49, 0.41, 0.1), 1),  # the likeliest does not, the second does
        ((0.45, 0.35, 0.2), 0),  # none does: the likeliest
        ((0.05, 0.05, 0.9), 2),
        ((0.0, 0.2, 0.8), 2),  # none does
    ],
)
def test_a_plan_must_pass_its_threshold(layer, states, blob, plan, chosen) -> None:
    raw = layer.read(states[:1])
    values = {field.name: getattr(raw, field.name) for field in fields(LayerOutput)}
    logits = torch.tensor([plan]).log()
    reading = blob.apply(LayerOutput(**(values | {"plan_logits": logits})))
    assert reading.chosen.tolist() == [chosen]


def test_a_plan_at_its_threshold_passes(layer, states, blob) -> None:
    raw = layer.read(states[:1])
    plan = raw.plan_logits.softmax(dim=-1)[0].tolist()
    first, second, _ = sorted(range(3), key=lambda k: -plan[k])
    thresholds = [1.0, 1.0, 1.0]
    thresholds[second] = plan[second]
    strict = CalibrationBlob(**(blob.model_dump() | {"plan_thresholds": tuple(thresholds)}))
    assert strict.apply(raw).chosen.tolist() == [second]
    assert raw.plan_logits.argmax(dim=-1).tolist() == [first]


def test_a_calibrated_reading_cannot_be_calibrated(layer, states, blob) -> None:
    reading = blob.apply(layer.read(states))
    with pytest.raises(TypeCheckError):
        blob.apply(reading)
    raw_names = {field.name for field in fields(LayerOutput)}
    assert {field.name for field in fields(CalibratedReading)} & raw_names == set()
    assert torch.equal(blob.apply(reading.raw).budget_tokens, reading.budget_tokens)


def test_it_comes_back_from_disk_equal_and_in_equal_bytes(tmp_path, blob) -> None:
    first, second = tmp_path / "a.json", tmp_path / "deep" / "b.json"
    save_calibration(first, blob)
    loaded = load_calibration(first)
    save_calibration(second, loaded)
    assert loaded == blob
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text(encoding="utf-8")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text.endswith("}\n")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.json"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("confidence_temperature", 0.0),
        ("confidence_temperature", 20.0),
        ("confidence_temperature", math.nan),
        ("confidence_temperature", "1.0"),
        ("confidence_temperature", True),
        ("confidence_bias", math.inf),
        ("plan_thresholds", [0.5, 1.1, 0.2]),
        ("plan_thresholds", [0.5, -0.1, 0.2]),
        ("plan_thresholds", 0.5),
        ("plan_thresholds", []),
        ("budget_clip", [100.0, 10.0]),
        ("budget_clip", [-1.0, 10.0]),
        ("budget_clip", [10.0, math.inf]),
        ("budget_clip", [10.0]),
        ("budget_scale", 0.0),
        ("budget_scale", 21.0),
        ("budget_offset", None),
        ("ready_temperature", 0.05),
        ("gain_temperature", -1.0),
        ("needed_scale", 0.01),
        ("confident_threshold", 1.5),
        ("hopeless_threshold", -0.5),
        ("version", 1),
        ("confidence_knots", [[0.2, 0.1]]),
        ("confidence_knots", [[0.2, 0.5], [0.4, 0.3]]),
        ("confidence_knots", [[0.2, 0.5], [0.2, 0.6]]),
        ("coverage_scale", 0.0),
        ("version", "3"),
        ("heads_sha256", "abc"),
    ],
)
def test_a_value_outside_the_format_is_refused_by_its_key(tmp_path, blob, key, value) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(blob.model_dump() | {key: value}), encoding="utf-8")
    with pytest.raises(CalibrationError, match=f"{key}.*Run `metacog calibrate` again"):
        load_calibration(path)


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_a_missing_key_is_refused(tmp_path, blob, key) -> None:
    path = tmp_path / "calibration.json"
    values = blob.model_dump()
    del values[key]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CalibrationError, match=f"{key}: Field required"):
        load_calibration(path)


def test_an_unknown_key_is_refused(tmp_path, blob) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(blob.model_dump() | {"budget_scal": 1.0}), encoding="utf-8")
    with pytest.raises(CalibrationError, match="budget_scal: Extra inputs"):
        load_calibration(path)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1', "\udcff"])
def test_a_file_that_is_no_blob_is_refused(tmp_path, content) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CalibrationError, match="Wanted a calibration of version 3"):
        load_calibration(path)


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path) -> None:
    with pytest.raises(CalibrationError, match="metacog calibrate"):
        load_calibration(tmp_path / "calibration.json")


def test_a_blob_in_memory_is_checked_too(blob) -> None:
    with pytest.raises(ValidationError, match="low <= high"):
        CalibrationBlob(**(blob.model_dump() | {"budget_clip": (2.0, 1.0)}))


def test_it_belongs_to_one_layer(layer, blob) -> None:
    blob.require(layer)
    with torch.no_grad():
        layer.heads.budget.bias += 1e-6
    with pytest.raises(CalibrationError, match="The layer has changed since"):
        blob.require(layer)


def test_a_threshold_is_wanted_for_each_plan(layer, blob) -> None:
    short = CalibrationBlob(**(blob.model_dump() | {"plan_thresholds": (0.5,)}))
    with pytest.raises(CalibrationError, match="each of 3 plans, got 1"):
        short.require(layer)


def test_the_digest_sees_names_shapes_and_values() -> None:
    def digest(**tensors: torch.Tensor) -> str:
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return layer_digest(module)

    same = digest(a=torch.arange(6.0), b=torch.ones(1))
    assert same == digest(b=torch.ones(1), a=torch.arange(6.0))
    others = [
        digest(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(1)),
        digest(c=torch.arange(6.0), b=torch.ones(1)),
        digest(a=torch.arange(6.0), b=-torch.ones(1)),
        digest(a=torch.arange(6.0), b=torch.ones((), dtype=torch.float32)),
    ]
    assert len({same, *others}) == 5
