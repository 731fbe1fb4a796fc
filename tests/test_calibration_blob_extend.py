"""Thresholds and clip lie in one deterministic file and act in the forward pass, once."""

import torch

from metacog.model.calibration import CalibrationBlob, load_calibration
from metacog.model.card import BaseFingerprint
from metacog.model.metacog import MetacogLayer
from metacog.model.reader import Reader
from metacog.model.shape import LayerShape
from metacog.model.store import load_layer, save_layer

PLANS = ("direct", "outline", "decompose", "verify")
SHAPE = LayerShape(hidden=16, num_layers=4, proj_dim=8, budget_min=8, budget_max=400)
BASE = BaseFingerprint(model_type="llama", hidden_size=16, num_layers=4, vocab_size=100)


def opinionated_layer() -> MetacogLayer:
    torch.manual_seed(3)
    layer = MetacogLayer(SHAPE)
    with torch.no_grad():
        for parameter in layer.heads.parameters():
            parameter.mul_(30)
    return layer


def states() -> torch.Tensor:
    return torch.randn(64, 4, 16, generator=torch.Generator().manual_seed(5))


def test_thresholds_and_clip_applied(tmp_path) -> None:
    layer = opinionated_layer()
    changes = {
        "plan_thresholds": (0.9, 0.0, 1.0, 0.6),
        "budget_scale": 1.25,
        "budget_offset": 10.0,
        "budget_clip": (60.0, 240.0),
    }
    blob = CalibrationBlob(**(CalibrationBlob.identity(layer).model_dump() | changes))
    for name in ("first", "second"):
        save_layer(tmp_path / name, layer, plans=PLANS, base=BASE, calibration=blob)
    files = [tmp_path / name / "calibration.json" for name in ("first", "second")]
    assert files[0].read_bytes() == files[1].read_bytes()

    stored = load_layer(tmp_path / "first", base=BASE)
    assert stored.calibration is not None
    reading = Reader(stored.layer, stored.calibration, plans=stored.card.plans).read(states())

    raw = layer.read(states())
    moved = [1.25 * tokens + 10 for tokens in raw.budget.tolist()]
    clipped = torch.tensor([min(max(tokens, 60.0), 240.0) for tokens in moved])
    torch.testing.assert_close(reading.budget_tokens, clipped)
    assert min(moved) < 60
    assert max(moved) > 240
    assert any(60 < tokens < 240 for tokens in moved)

    wanted = [choose(plan, changes["plan_thresholds"]) for plan in raw.plan_logits.softmax(-1)]
    assert reading.chosen.tolist() == wanted
    assert wanted != raw.plan_logits.argmax(dim=-1).tolist()


def choose(plan: torch.Tensor, thresholds: tuple[float, ...]) -> int:
    """The rule in plain Python: the likeliest plan that passes, else the likeliest."""
    ranked = sorted(range(len(thresholds)), key=lambda k: -plan[k].item())
    passing = [k for k in ranked if plan[k].item() >= thresholds[k]]
    return (passing or ranked)[0]


def test_values_are_floats_in_their_ranges_after_loading(tmp_path) -> None:
    layer = opinionated_layer()
    blob = CalibrationBlob.identity(layer)
    save_layer(tmp_path, layer, plans=PLANS, base=BASE, calibration=blob)
    loaded = load_calibration(tmp_path / "calibration.json")
    low, high = loaded.budget_clip
    numbers = [
        *loaded.plan_thresholds,
        loaded.confident_threshold,
        loaded.hopeless_threshold,
    ]
    assert all(isinstance(number, float) and 0 <= number <= 1 for number in numbers)
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert 0 <= low <= high
    temperatures = [
        loaded.confidence_temperature,
        loaded.ready_temperature,
        loaded.gain_temperature,
    ]
    assert all(isinstance(value, float) and 0.05 < value < 20 for value in temperatures)
    assert all(isinstance(v, float) for v in (loaded.budget_scale, loaded.budget_offset))


def test_the_clip_is_applied_exactly_once() -> None:
    """An offset would show a second application: it would be added twice."""
    layer = opinionated_layer()
    values = CalibrationBlob.identity(layer).model_dump()
    moves = {"budget_scale": 0.5, "budget_offset": 100.0, "budget_clip": (0.0, 250.0)}
    blob = CalibrationBlob(**(values | moves))
    reader = Reader(layer, blob, plans=PLANS)
    reading = reader.read(states())
    once = (0.5 * layer.read(states()).budget + 100).clamp(0, 250)
    torch.testing.assert_close(reading.budget_tokens, once)
    twice = (0.5 * once + 100).clamp(0, 250)
    assert (twice - once).abs().max() > 1
    records = reader.records(reading, reading.budget_tokens)
    assert [record.budget for record in records] == once.round().int().tolist()
    assert all(record.budget <= 250 for record in records)
