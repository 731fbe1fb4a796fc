"""A small layer with weights that are far from their start, so that every part shows."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from metacog.model.metacog import MetacogLayer
from metacog.model.shape import LayerShape


@pytest.fixture
def shape() -> LayerShape:
    return LayerShape(hidden=12, num_layers=5, proj_dim=6, num_plans=3, budget_max=200)


@pytest.fixture
def make_layer() -> Callable[[LayerShape], MetacogLayer]:
    def make(shape: LayerShape, spread: float = 0.5) -> MetacogLayer:
        torch.manual_seed(0)
        layer = MetacogLayer(shape)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(std=spread)
        return layer

    return make


@pytest.fixture
def layer(shape, make_layer) -> MetacogLayer:
    return make_layer(shape)


@pytest.fixture
def states(shape) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(4, shape.num_layers, shape.hidden, generator=generator)
