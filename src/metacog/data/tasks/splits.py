"""Splits by the hash of the normalised question, so that no question is in two of them.

A seed is no split: reasoning-gym draws item i from seed + i and small ranges repeat.
"""

import hashlib
from enum import StrEnum


class Split(StrEnum):
    """What a question may be used for."""

    BASE_TRAIN = "base-train"
    """Trains the base's weights."""
    LAYER_TRAIN = "layer-train"
    """Trains the layer and the gate."""
    CALIBRATION = "calibration"
    """Fits the calibration, and matches the baselines of a measurement."""
    VALIDATION = "validation"
    """Chooses checkpoints and operating points."""
    TEST = "test"
    """Is opened once per published figure."""


_SHARES = (
    (Split.BASE_TRAIN, 0.50),
    (Split.LAYER_TRAIN, 0.78),
    (Split.CALIBRATION, 0.84),
    (Split.VALIDATION, 0.90),
    (Split.TEST, 1.00),
)


def normalised(question: str) -> str:
    """Return the question in lower case with runs of white space folded to one space."""
    return " ".join(question.lower().split())


def question_hash(question: str) -> str:
    """Return 16 hex digits of the sha256 of the normalised question: its identity."""
    return hashlib.sha256(normalised(question).encode()).hexdigest()[:16]


def split_of(question: str) -> Split:
    """Return the split that a question belongs to, whatever seed or level it was drawn from."""
    position = int(question_hash(question), 16) / 16**16
    return next(split for split, upper in _SHARES if position < upper)
