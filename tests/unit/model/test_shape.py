import pytest
from pydantic import ValidationError

from metacog.model.shape import LayerShape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget_min": 600}, "budget_min wanted less than budget_max"),
        ({"budget_min": 0, "budget_scale": "log"}, "at least 1"),
        ({"hidden": 0}, "greater than or equal to 1"),
        ({"hidden": "12"}, "valid integer"),
        ({"agg": "max"}, "'attn' or 'mean'"),
        ({"width": 3}, "Extra inputs"),
    ],
)
def test_a_shape_that_fits_no_layer_is_refused(change, message) -> None:
    with pytest.raises(ValidationError, match=message):
        LayerShape.model_validate({"hidden": 12, "num_layers": 5} | change)


def test_the_blocks_that_are_read() -> None:
    assert LayerShape(hidden=4, num_layers=3).blocks == (0, 1, 2)
    assert LayerShape(hidden=4, num_layers=3, linked_all_layers=False).blocks == (2,)
