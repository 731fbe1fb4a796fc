"""A re-reading with its weights laid together says what the layer's modules say."""

import numpy as np
import pytest
import torch

from metacog.model.calibration import CalibrationBlob
from metacog.model.reader import Reader
from metacog.model.rereading import RereadMaps
from metacog.model.shape import LayerShape

PLANS = ("direct", "outline", "verify")
CALIBRATION = {
    "needed_scale": 2.5,
    "ready_temperature": 3.0,
    "ready_bias": 0.4,
    "gain_temperature": 0.5,
    "gain_bias": -0.3,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"agg": "mean"},
        {"linked_all_layers": False},
        {"reread_hidden": 11},
        {"budget_scale": "log", "budget_min": 2, "budget_max": 90},
    ],
)
@pytest.mark.parametrize("calibration", [{}, CALIBRATION])
def test_it_equals_the_calibrated_rereading(
    make_layer, shape, states, changes: dict[str, object], calibration: dict[str, float]
) -> None:
    layer = make_layer(LayerShape(**(shape.model_dump() | changes)), 0.4)
    blob = CalibrationBlob.identity(layer).model_copy(update=calibration)
    reader = Reader(layer, blob, plans=PLANS)
    used = torch.tensor([0.0, 3.0, 70.0, 900.0])
    with torch.no_grad():
        wanted = reader.reread(states, used)
        said = RereadMaps(reader)(states, used.numpy())
    np.testing.assert_allclose(said.needed, wanted.needed_tokens, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(said.allowed, wanted.allowed_tokens, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(said.ready, wanted.ready, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(said.gain, wanted.gain, rtol=1e-5, atol=1e-6)
    assert said.ready.std() > 1e-3, "rows differ, so the comparison can fail"


def test_states_of_a_base_in_half_precision_are_read_in_full(layer, states) -> None:
    maps = RereadMaps(Reader(layer, CalibrationBlob.identity(layer), plans=PLANS))
    half, used = states.bfloat16(), np.ones(4, dtype=np.float32)
    for low, full in zip(maps(half, used), maps(half.float(), used), strict=True):
        assert low.dtype == np.float32
        assert np.array_equal(low, full)
