import math

import pytest
import torch

from metacog.errors import CalibrationError
from metacog.model.calibration import CalibrationBlob
from metacog.model.reader import Reader
from metacog.model.shape import LayerShape

PLANS = ("direct", "outline", "verify")


@pytest.fixture
def blob(layer) -> CalibrationBlob:
    values = CalibrationBlob.identity(layer).model_dump()
    changes = {"budget_scale": 0.5, "confidence_temperature": 3.0, "confidence_bias": 0.1}
    return CalibrationBlob(**(values | changes | {"budget_clip": (10.0, 60.0)}))


def test_a_reading_is_the_layers_own_calibrated_once(layer, blob, states) -> None:
    reading = Reader(layer, blob, plans=PLANS).read(states)
    raw = layer.read(states)
    wanted = (raw.budget * 0.5).clamp(10, 60)
    torch.testing.assert_close(reading.budget_tokens, wanted)
    torch.testing.assert_close(reading.confidence, (raw.conf_raw / 3 + 0.1).sigmoid().squeeze(-1))
    assert torch.equal(reading.raw.conf_raw, raw.conf_raw)


def test_confidence_follows_what_is_enforced(layer, blob, states) -> None:
    reader = Reader(layer, blob, plans=PLANS)
    reading = reader.read(states)
    enforced = torch.tensor([12.0, 40.0, math.inf, 0.0])
    logits = layer.confidence(reading.raw.g, torch.tensor([12.0, 40.0, 200.0, 8.0]))
    wanted = (logits / 3 + 0.1).sigmoid().squeeze(-1)
    torch.testing.assert_close(reader.confidence(reading, enforced), wanted)


def test_records_hold_what_the_tensors_say(layer, blob, states) -> None:
    reader = Reader(layer, blob, plans=PLANS)
    reading = reader.read(states)
    enforced = torch.full((4,), 33.0)
    records = reader.records(reading, enforced)
    confidence = reader.confidence(reading, enforced)
    for row, record in enumerate(records):
        assert tuple(record.plan) == PLANS
        assert list(record.plan.values()) == pytest.approx(reading.plan[row].tolist())
        assert record.chosen_plan == PLANS[int(reading.chosen[row])]
        assert record.budget == round(reading.budget_tokens[row].item())
        assert record.confidence == pytest.approx(confidence[row].item())
        assert sum(record.alpha) == pytest.approx(1, abs=1e-5)
        assert len(record.per_layer) == 5
        expert = record.per_layer[2]
        out = reading.raw.per_layer
        assert expert.budget == pytest.approx(
            8 + 192 * out["budget_raw_pl"][row, 2, 0].sigmoid().item(), rel=1e-5
        )
        assert expert.confidence == pytest.approx(out["conf_raw_pl"][row, 2, 0].sigmoid().item())
        assert sum(expert.plan) == pytest.approx(1, abs=1e-5)
        assert expert.alpha == record.alpha[2]


def test_without_telemetry_records_have_no_experts(layer, blob, states) -> None:
    reader = Reader(layer, blob, plans=PLANS)
    records = reader.records(reader.read(states, telemetry=False), torch.full((4,), 33.0))
    assert [record.per_layer for record in records] == [()] * 4


def test_a_calibration_of_another_layer_is_refused(make_layer, shape, blob) -> None:
    other = make_layer(LayerShape(**(shape.model_dump() | {"budget_max": 100})), 0.1)
    with pytest.raises(CalibrationError, match="The layer has changed since"):
        Reader(other, blob, plans=PLANS)


def test_names_must_fit_the_plans(layer, blob) -> None:
    with pytest.raises(ValueError, match="wanted 3 plan names, got 2"):
        Reader(layer, blob, plans=PLANS[:2])
