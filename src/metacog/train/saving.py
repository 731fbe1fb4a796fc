"""Writes what a run has learned: a layer for a base as it was, or the whole of an adapted model."""

from dataclasses import replace
from pathlib import Path

from metacog.model.adapt import Adapted, write_adapted
from metacog.model.bundle import MetacogModel


def save_adapted(model: MetacogModel, adapted: Adapted, directory: Path) -> None:
    """Write layer and gate, and the base beside them where it has learned too.

    Raises:
        ModelError: If there is no layer.
    """
    if adapted.any:
        model = replace(model, base=write_adapted(model.base, directory))
    model.save_layer(directory)
