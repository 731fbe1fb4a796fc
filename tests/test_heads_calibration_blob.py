"""The heads' outputs reach whoever acts on them through the saved calibration, and only so."""

import json

import pytest
import torch

from metacog.errors import CalibrationError
from metacog.model.calibration import CalibrationBlob
from metacog.model.card import BaseFingerprint
from metacog.model.metacog import MetacogLayer
from metacog.model.reader import Reader
from metacog.model.shape import LayerShape
from metacog.model.store import load_layer, save_layer

PLANS = ("direct", "outline", "decompose", "verify")
BASE = BaseFingerprint(model_type="llama", hidden_size=16, num_layers=4, vocab_size=100)


def make_layer() -> MetacogLayer:
    torch.manual_seed(3)
    return MetacogLayer(LayerShape(hidden=16, num_layers=4, proj_dim=8))


def states() -> torch.Tensor:
    return torch.randn(8, 4, 16, generator=torch.Generator().manual_seed(5))


def changed(layer: MetacogLayer, **changes: object) -> CalibrationBlob:
    return CalibrationBlob(**(CalibrationBlob.identity(layer).model_dump() | changes))


def saved_reader(directory, layer: MetacogLayer, blob: CalibrationBlob) -> Reader:
    """Save and load: what serving starts from."""
    save_layer(directory, layer, plans=PLANS, base=BASE, calibration=blob)
    stored = load_layer(directory, base=BASE)
    assert stored.calibration is not None
    return Reader(stored.layer, stored.calibration, plans=stored.card.plans)


def test_confidence_is_tempered_at_the_enforced_budget(tmp_path) -> None:
    layer = make_layer()
    blob = changed(layer, confidence_temperature=2.5, confidence_bias=-1.0)
    reader = saved_reader(tmp_path, layer, blob)
    reading, enforced = reader.read(states()), torch.full((8,), 40.0)
    logit = layer.confidence(layer.read(states()).g, enforced).squeeze(-1)
    wanted = 1 / (1 + torch.exp(-(logit / 2.5 - 1.0)))
    torch.testing.assert_close(reader.confidence(reading, enforced), wanted)
    confidences = [record.confidence for record in reader.records(reading, enforced)]
    assert confidences == pytest.approx(wanted.tolist())


def test_rereadings_are_calibrated_and_compared_with_their_thresholds(tmp_path) -> None:
    layer = make_layer()
    raw = layer.reread(states(), torch.full((8,), 20.0))
    bias = -raw.ready_raw.median().item() / 0.1 - 1e-3
    ready = 1 / (1 + torch.exp(-(raw.ready_raw.squeeze(-1) / 0.1 + bias)))
    gain = 1 / (1 + torch.exp(-(raw.gain_raw.squeeze(-1) / 0.2 - 0.1)))
    likely, unlikely = gain[ready >= 0.5], gain[ready < 0.5]
    blob = changed(
        layer,
        ready_temperature=0.1,
        ready_bias=bias,
        gain_temperature=0.2,
        gain_bias=-0.1,
        needed_scale=2.0,
        confident_threshold=likely.median().item() + 1e-6,
        hopeless_threshold=unlikely.median().item() + 1e-6,
    )
    out = saved_reader(tmp_path, layer, blob).reread(states(), torch.full((8,), 20.0))
    torch.testing.assert_close(out.ready, ready)
    torch.testing.assert_close(out.gain, gain)
    torch.testing.assert_close(out.needed_tokens, raw.needed)
    torch.testing.assert_close(out.allowed_tokens, 2 * raw.needed)
    assert len(likely) == len(unlikely) == 4
    assert out.confident.sum() == 2
    assert out.hopeless.sum() == 2
    assert torch.equal(out.confident, (ready >= 0.5) & (gain <= likely.median()))
    assert torch.equal(out.hopeless, (ready < 0.5) & (gain <= unlikely.median()))


def test_calibration_does_not_change_what_the_gate_takes(tmp_path) -> None:
    layer = make_layer()
    blob = changed(layer, confidence_temperature=5.0, plan_thresholds=(1.0, 1.0, 1.0, 0.0))
    reading = saved_reader(tmp_path, layer, blob).read(states())
    raw = layer.read(states())
    assert torch.equal(reading.raw.g, raw.g)
    assert torch.equal(reading.raw.plan_logits, raw.plan_logits)
    assert torch.equal(reading.raw.conf_raw, raw.conf_raw)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"plan_thresholds": "0.5"}, "plan_thresholds"),
        ({"budget_clip": {"low": 1, "high": 2}}, "budget_clip"),
        ({"confidence_temperature": "2.5"}, "confidence_temperature"),
        ({"version": 99}, "version"),
        ({"heads_sha256": "f" * 64}, "The layer has changed since"),
    ],
)
def test_a_tampered_blob_stops_the_load_with_a_message(tmp_path, change, named) -> None:
    layer = make_layer()
    save_layer(tmp_path, layer, plans=PLANS, base=BASE, calibration=CalibrationBlob.identity(layer))
    path = tmp_path / "calibration.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | change), encoding="utf-8")
    with pytest.raises(CalibrationError, match=named):
        load_layer(tmp_path, base=BASE)
