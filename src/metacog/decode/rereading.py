"""Reads the layer again inside THINK, and says what that does to the budget."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from metacog.decode.array_rule import Flags, Ints
from metacog.model.calibration import LIKELY, CalibrationBlob
from metacog.model.reader import Reader
from metacog.model.rereading import RereadMaps
from metacog.records import Rereading, RevisionKind

Schedule = Literal["lines", "every", "none"]


@dataclass(frozen=True)
class RereadSettings:
    """When THINK is read again, and whether that may lower the budget."""

    schedule: Schedule = "lines"
    """After a line or sentence end, after every few THINK tokens, or never."""
    every: int = 32
    """THINK tokens between two re-readings with `every`."""
    revise: bool = True


@dataclass(frozen=True)
class Verdict:
    """What one row's re-reading says, and what follows from it."""

    rereading: Rereading
    kind: RevisionKind | None
    """None where the budget stays as it is."""


class Rereader:
    """Decides which rows are due, reads them, and turns what they say into verdicts."""

    def __init__(self, reader: Reader | None, settings: RereadSettings) -> None:
        self.settings = settings
        self._maps = RereadMaps(reader) if reader is not None else None

    def due(self, thinking: Flags, at_line_end: Flags, used: Ints) -> Ints:
        """Return the indices of rows whose last token lies in THINK where it is to be read again."""
        if self._maps is None:
            return np.zeros(0, dtype=np.int64)
        match self.settings.schedule:
            case "lines":
                chosen = thinking & at_line_end
            case "every":
                chosen = thinking & (used % self.settings.every == 0) & (used > 0)
            case "none":
                chosen = np.zeros_like(thinking)
        return np.flatnonzero(chosen)

    def read(self, states: Float[Tensor, "points layers hidden"], used: Ints) -> list[Verdict]:
        """Return a verdict for every row whose states are given, after `used` THINK tokens."""
        assert self._maps is not None
        outlooks = (column.tolist() for column in self._maps(states, used.astype(np.float32)))
        records = map(Rereading, used.tolist(), *outlooks)
        return [Verdict(each, self._kind(each, self._maps.calibration)) for each in records]

    def _kind(self, record: Rereading, calibration: CalibrationBlob) -> RevisionKind | None:
        if not self.settings.revise:
            return None
        is_ready = record.ready >= LIKELY
        most = calibration.confident_threshold if is_ready else calibration.hopeless_threshold
        if record.gain >= most:
            return RevisionKind.LOWERED
        return RevisionKind.CONFIDENT if is_ready else RevisionKind.HOPELESS
