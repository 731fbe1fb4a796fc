"""Writes what a run has learned: a layer for a base as it was, or an adapted model."""

from dataclasses import replace
from pathlib import Path

from metacog.model.adapt import Adapted, write_adapted
from metacog.model.bundle import MetacogModel
from metacog.model.learned import write_learned


def save_adapted(
    model: MetacogModel, adapted: Adapted, directory: Path, *, whole: bool = True
) -> None:
    """Write layer and gate, and the base beside them where it has learned too.

    Args:
        model: What was trained.
        adapted: What of its base learns.
        directory: Where it goes.
        whole: Write such a base as a plain model; else only what of it has learned, for the base
            that the run's configuration names.

    Raises:
        ModelError: If there is no layer.
    """
    if adapted.any:
        write = write_adapted if whole else write_learned
        model = replace(model, base=write(model.base, directory))
    model.save_layer(directory)
