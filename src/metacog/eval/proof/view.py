"""What the layer says of uncapped replies: readings at the prompt and at the end of THINK."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from metacog.errors import ModelError
from metacog.eval.evidence import Evidence
from metacog.model.bundle import MetacogModel

_CHUNK = 4096


@dataclass(frozen=True)
class LayerView:
    """A row for every reply of some evidence."""

    budget: Float[ndarray, " rows"]
    """Predicted THINK tokens, before calibration."""
    covering: Float[ndarray, " rows"] | None
    """Whole tokens that cover need as often as the calibration promises; None without a promise."""
    confidence: Float[ndarray, " rows"]
    """Calibrated, of ending right without a budget."""
    ready: Float[ndarray, " rows"]
    """Calibrated, at the last THINK token."""
    alpha: Float[ndarray, "rows layers"]
    expert_confidence: Float[ndarray, "rows blocks"]
    """Each block's own, uncalibrated."""


def view_of(model: MetacogModel, evidence: Evidence) -> LayerView:
    """Return what a model's layer says of replies.

    Raises:
        ModelError: If it has none.
    """
    if model.reader is None:
        raise ModelError(f"Wanted a model with a layer, got the bare base {model.base.path}.")
    places = [slice(i, i + _CHUNK) for i in range(0, len(evidence), _CHUNK)]
    parts = [_view(model, evidence, place) for place in places]
    covers = model.reader.calibration.coverage_scale is not None

    def column(name: str) -> ndarray:
        return np.concatenate([part[name] for part in parts])

    return LayerView(
        budget=column("budget"),
        covering=column("covering") if covers else None,
        confidence=column("confidence"),
        ready=column("ready"),
        alpha=column("alpha"),
        expert_confidence=column("expert_confidence"),
    )


@torch.no_grad()
def _view(model: MetacogModel, evidence: Evidence, place: slice) -> dict[str, ndarray]:
    assert model.reader is not None
    reader, blob = model.reader, model.reader.calibration
    states = torch.from_numpy(evidence.prompt_states[place]).float()
    free = torch.full((len(states),), torch.inf)
    raw = reader.layer.read(states, free)
    ends = torch.from_numpy(evidence.end_states[place]).float()
    again = reader.reread(ends, torch.from_numpy(evidence.natural[place]).float())
    found = {
        "budget": raw.budget,
        "confidence": blob.believe(raw.conf_raw),
        "ready": again.ready,
        "alpha": raw.alpha,
        "expert_confidence": raw.per_layer["conf_raw_pl"].squeeze(-1).sigmoid(),
    }
    if blob.coverage_scale is not None:
        found["covering"] = blob.covering(raw.budget).round()
    return {name: _plain(column) for name, column in found.items()}


def _plain(column: Tensor) -> ndarray:
    return column.numpy().astype(np.float64)
