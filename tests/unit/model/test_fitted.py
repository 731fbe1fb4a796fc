"""The map through knots, the covering budget, and what a reply says of its calibration."""

import hashlib
import json

import numpy as np
import pytest
import torch

from metacog.errors import CalibrationError
from metacog.model.calibration import CalibrationBlob, load_calibration, save_calibration
from metacog.model.fitted import FittedTo, moved
from metacog.model.reader import Reader

KNOTS = ((0.1, 0.0), (0.4, 0.3), (0.5, 0.9), (0.8, 0.9))
FITTED = FittedTo(
    questions=50, confidence="isotonic", coverage=0.9, risk=0.01, risk_confidence=0.95
)


def test_the_map_is_straight_between_knots_and_level_beyond() -> None:
    said = torch.linspace(0, 1, 101)
    xs, ys = np.array(KNOTS).T
    torch.testing.assert_close(
        moved(said, KNOTS), torch.tensor(np.interp(said.numpy(), xs, ys), dtype=torch.float32)
    )
    assert torch.equal(moved(said, ()), said)


def test_confidence_goes_through_the_knots_once(tiny_model) -> None:
    layer, plans = tiny_model.reader.layer, tiny_model.reader.plans
    blob = CalibrationBlob.identity(layer).model_copy(
        update={"confidence_knots": ((0.0, 0.5), (1.0, 0.7))}
    )
    states = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0))
    reader = Reader(layer, blob, plans=plans)
    enforced = torch.full((4,), 9.0)
    raw = torch.sigmoid(layer.confidence(layer.read(states).g, enforced).squeeze(-1))
    said = [record.confidence for record in reader.records(reader.read(states), enforced)]
    assert said == pytest.approx((0.5 + 0.2 * raw).tolist())


def test_every_reading_names_its_calibration(tiny_model, tmp_path) -> None:
    layer, plans = tiny_model.reader.layer, tiny_model.reader.plans
    blob = CalibrationBlob.identity(layer).model_copy(update={"fitted": FITTED})
    save_calibration(tmp_path / "calibration.json", blob)
    reader = Reader(layer, load_calibration(tmp_path / "calibration.json"), plans=plans)
    states = torch.randn(2, 3, 32)
    for record in reader.records(reader.read(states), torch.full((2,), 9.0)):
        report = record.calibration
        content = (tmp_path / "calibration.json").read_bytes()
        assert report.sha256 == hashlib.sha256(content).hexdigest()
        assert (report.confidence, report.questions) == ("isotonic", 50)
        assert (report.coverage, report.risk) == (0.9, 0.01)


def test_the_covering_budget_is_scaled_and_clipped_but_never_moved(tiny_model) -> None:
    blob = CalibrationBlob.identity(tiny_model.reader.layer).model_copy(
        update={"coverage_scale": 2.0, "budget_offset": 100.0, "budget_clip": (5.0, 30.0)}
    )
    assert blob.covering(torch.tensor([1.0, 10.0, 20.0])).tolist() == [5.0, 20.0, 30.0]
    with pytest.raises(CalibrationError, match="metacog calibrate"):
        CalibrationBlob.identity(tiny_model.reader.layer).covering(torch.ones(1))


def test_a_file_of_version_2_reads_as_never_fitted(tiny_model, tmp_path) -> None:
    path = tmp_path / "calibration.json"
    values = CalibrationBlob.identity(tiny_model.reader.layer).model_dump(mode="json")
    new = ("confidence_knots", "coverage_scale", "fitted")
    old = {key: value for key, value in values.items() if key not in new} | {"version": 2}
    path.write_text(json.dumps(old), encoding="utf-8")
    blob = load_calibration(path)
    assert (blob.confidence_knots, blob.coverage_scale, blob.fitted) == ((), None, None)
    assert blob.report().confidence is None
